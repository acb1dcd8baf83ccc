"""The golden vectors of sdk/contract/vectors hold for the native codecs, byte for byte."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from tests.codecs import Codec, Refused, Row, Tensor

VECTORS = Path(__file__).resolve().parents[2] / "sdk/contract/vectors"


@pytest.fixture(scope="module")
def codec() -> Iterator[Codec]:
    codec = Codec()
    yield codec
    codec.close()


def cases(name: str) -> list[dict[str, Any]]:
    vectors: list[dict[str, Any]] = json.loads((VECTORS / name).read_text())["cases"]
    return vectors


def tensors(specs: list[dict[str, Any]]) -> list[Tensor]:
    return [Tensor(spec["name"], spec["dtype"], tuple(spec["shape"]), spec.get("varies", False)) for spec in specs]


def body_of(case: dict[str, Any]) -> bytes:
    return case["body"].encode() if "body" in case else bytes.fromhex(case["body_hex"])


@pytest.mark.parametrize("case", cases("requests.json"), ids=lambda case: f"{case['encoding']}: {case['name']}")
def test_request(codec: Codec, case: dict[str, Any]) -> None:
    query = case.get("query", {})
    names = query.get("model", ""), query.get("version", "")
    answer = codec.decode(case["encoding"], tensors(case["inputs"]), body_of(case), *names)
    if "problem" in case:
        assert isinstance(answer, Refused)
        assert answer.code == case["problem"]
        assert case.get("detail", "") in answer.detail
        return
    assert isinstance(answer, Row), answer
    row = case["row"]
    assert (answer.model, answer.version, answer.length) == (row["model"], row["version"], row.get("length", 0))
    texts = row.get("texts", {})
    assert {name: value.tolist() for name, value in answer.values.items() if name in texts} == {
        name: in_bytes(value) for name, value in texts.items()
    }
    values = {name: value.tobytes().hex() for name, value in answer.values.items() if name not in texts}
    assert values == row["values_hex"]


def in_bytes(value: Any) -> Any:
    """Texts as the rows have them."""
    return [in_bytes(item) for item in value] if isinstance(value, list) else value.encode()


def output_of(case: dict[str, Any], tensor: Tensor) -> np.ndarray:
    if tensor.is_text:
        return np.array(in_bytes(case["texts"][tensor.name]), object).reshape(tensor.shape)
    return np.frombuffer(bytes.fromhex(case["values_hex"][tensor.name]), tensor.dtype).reshape(tensor.shape)


@pytest.mark.parametrize("case", cases("replies.json"), ids=lambda case: f"{case['encoding']}: {case['name']}")
def test_reply(codec: Codec, case: dict[str, Any]) -> None:
    values = {tensor: output_of(case, tensor) for tensor in tensors(case["outputs"])}
    output, length = case.get("output", 0), case.get("length", 0)
    reply = codec.encode(case["encoding"], values, case["model"], case["version"], output, length=length)
    assert reply == body_of(case)
