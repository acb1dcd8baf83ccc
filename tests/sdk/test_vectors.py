"""The golden vectors of sdk/contract/vectors hold for the SDK, in what it sends and in what it reads."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock_client import Prediction, problems
from penstock_client.address import Address
from penstock_client.core import Call, Core, Settings
from penstock_client.messages import Reply
from penstock_client.predicting import Predictor
from penstock_client.retrying import Retries
from penstock_client.steps import Send, Steps
from tests.codecs import Codec, Refused, Row, Tensor

VECTORS = Path(__file__).resolve().parents[2] / "sdk/contract/vectors"
DATATYPES = {
    "bool": "BOOL",
    "bytes": "BYTES",
    **{f"{kind}{bits}": f"{kind.upper()}{bits}" for kind in ("int", "uint") for bits in (8, 16, 32, 64)},
    **{f"float{bits}": f"FP{bits}" for bits in (16, 32, 64)},
}


@pytest.fixture(scope="module")
def codec() -> Iterator[Codec]:
    codec = Codec()
    yield codec
    codec.close()


def cases(name: str) -> list[dict[str, Any]]:
    vectors: list[dict[str, Any]] = json.loads((VECTORS / name).read_text())["cases"]
    return vectors


def called(case: dict[str, Any]) -> str:
    return f"{case['encoding']}: {case['name']}"


def tensors(specs: list[dict[str, Any]]) -> list[Tensor]:
    return [Tensor(spec["name"], spec["dtype"], tuple(spec["shape"]), spec.get("varies", False)) for spec in specs]


def described(name: str, inputs: list[Tensor], outputs: list[Tensor]) -> bytes:
    """What GET /v2/models/NAME answers."""

    def specs(all_of: list[Tensor]) -> list[dict[str, Any]]:
        return [
            {
                "name": one.name,
                "datatype": DATATYPES[one.dtype],
                "shape": [-1, *([-1, *one.shape[1:]] if one.varies else one.shape)],
            }
            for one in all_of
        ]

    return json.dumps({"name": name, "inputs": specs(inputs), "outputs": specs(outputs)}).encode()


def drive(steps: Steps[Prediction], model: bytes, reply: Reply) -> tuple[bytes, Prediction]:
    """Answer what asks after the model with `model`, the prediction with `reply`; its body, and what it gives."""
    outcome: Any = None
    body = b""
    try:
        while True:
            step = steps.send(outcome)
            assert isinstance(step, Send)
            head, _, sent = step.data.partition(b"\r\n\r\n")
            if head.startswith(b"GET "):
                outcome = Reply(200, b"HTTP/1.1 200 OK", bytearray(model))
            else:
                body = sent + b"".join(step.more)
                outcome = reply
    except StopIteration as stop:
        return body, stop.value


def predictor() -> Predictor:
    return Predictor(Core(Settings(Address.of("http://h:1", None), "tests", retries=Retries(1))))


def reply(status: int, kind: str, body: bytes) -> Reply:
    return Reply(status, f"HTTP/1.1 {status} X\r\nContent-Type: {kind}".encode(), bytearray(body))


def values_of(case: dict[str, Any], inputs: list[Tensor]) -> dict[str, np.ndarray]:
    """The row's values, as NumPy has them."""
    row = case["row"]
    length = row.get("length", 0)
    found = {}
    for one in inputs:
        shape = one.shape_at(length) if one.varies else one.shape
        if one.is_text:
            found[one.name] = np.array(row["texts"][one.name], object).reshape(shape)
        else:
            found[one.name] = np.frombuffer(bytes.fromhex(row["values_hex"][one.name]), one.dtype).reshape(shape)
    return found


ROWS = [case for case in cases("requests.json") if "row" in case]
ANSWER = b'{"model":"m","version":"1","outputs":{}}'


@pytest.mark.parametrize("encoding", ["json", "msgpack"])
@pytest.mark.parametrize("plain", [True, False], ids=["plain", "arrays"])
@pytest.mark.parametrize("case", ROWS, ids=called)
def test_what_is_sent_is_read_as_the_row(codec: Codec, case: dict[str, Any], plain: bool, encoding: str) -> None:
    inputs, row = tensors(case["inputs"]), case["row"]
    arrays = values_of(case, inputs)
    given = {name: array.tolist() for name, array in arrays.items()} if plain else arrays
    steps = predictor().predict(row["model"] or "m", given, row["version"] or None, encoding, Call())  # type: ignore[arg-type]
    answer = ANSWER if encoding == "json" else b"\x83\xa5model\xa1m\xa7version\xa11\xa7outputs\x80"
    body, _ = drive(steps, described("m", inputs, []), reply(200, f"application/{encoding}", answer))
    read = codec.decode(encoding, inputs, body, "", "")
    assert isinstance(read, Row), read
    assert (read.model, read.version, read.length) == (row["model"] or "m", row["version"], row.get("length", 0))
    for one in inputs:
        if one.is_text:
            texts = [text.encode() for text in np.ravel(arrays[one.name])]
            assert np.ravel(read.values[one.name]).tolist() == texts
        else:
            assert read.values[one.name].tobytes().hex() == row["values_hex"][one.name]


@pytest.mark.parametrize("case", ROWS, ids=called)
def test_binary_tensors_are_the_rows_bytes(case: dict[str, Any]) -> None:
    inputs = tensors(case["inputs"])
    arrays = values_of(case, inputs)
    steps = predictor().predict("m", arrays, None, "binary", Call())
    head = b'{"model_name":"m","model_version":"1","outputs":[]}'
    fields = f"HTTP/1.1 200 X\r\nInference-Header-Content-Length: {len(head)}".encode()
    body, _ = drive(steps, described("m", inputs, []), Reply(200, fields, bytearray(head)))
    sent = json.JSONDecoder().raw_decode(body.decode("latin-1"))
    document, end = sent
    assert [one["name"] for one in document["inputs"]] == [one.name for one in inputs]
    for one, spec in zip(document["inputs"], inputs, strict=True):
        assert one["datatype"] == DATATYPES[spec.dtype]
        assert tuple(one["shape"]) == (1, *arrays[spec.name].shape)
        size = one["parameters"]["binary_data_size"]
        data, end = body[end : end + size], end + size
        if spec.is_text:
            texts = [text.encode() for text in arrays[spec.name].ravel()]
            assert data == b"".join(len(text).to_bytes(4, "little") + text for text in texts)
        else:
            assert data.hex() == case["row"]["values_hex"][spec.name]
    assert end == len(body)


@pytest.mark.parametrize(
    "case",
    [case for case in cases("requests.json") if "problem" in case],
    ids=called,
)
def test_what_is_refused_is_raised(codec: Codec, case: dict[str, Any]) -> None:
    query = case.get("query", {})
    body = case["body"].encode() if "body" in case else bytes.fromhex(case["body_hex"])
    names = query.get("model", ""), query.get("version", "")
    refused = codec.decode(case["encoding"], tensors(case["inputs"]), body, *names)
    assert isinstance(refused, Refused)
    kind = problems.CLASSES[case["problem"]]
    problem = json.dumps({"code": refused.code, "detail": refused.detail, "request_id": "r"}).encode()
    with pytest.raises(kind) as caught:
        drive(
            predictor().predict("m", [1], None, "json", Call()),
            b"",
            reply(kind.status, "application/problem+json", problem),
        )
    assert case.get("detail", "") in str(caught.value)


@pytest.mark.parametrize(
    "case",
    [case for case in cases("replies.json") if case["encoding"] != "raw"],
    ids=called,
)
def test_what_is_answered_is_read(case: dict[str, Any]) -> None:
    outputs = tensors(case["outputs"])
    body = case["body"].encode() if "body" in case else bytes.fromhex(case["body_hex"])
    kind = f"application/{case['encoding']}"
    steps = predictor().predict("m", [1], None, case["encoding"], Call())
    _, answer = drive(steps, described(case["model"], [], outputs), reply(200, kind, body))
    assert (answer.model, answer.version) == (case["model"], case["version"])
    assert list(answer.outputs) == [one.name for one in outputs]
    for one in outputs:
        value = answer.outputs[one.name]
        if one.is_text:
            assert value == case["texts"][one.name]
            continue
        # As the row has it: an output that varies is cut to the row's length.
        array = np.frombuffer(bytes.fromhex(case["values_hex"][one.name]), one.dtype).reshape(one.shape)
        wanted = array[: case["length"]] if one.varies else array
        assert np.array(value, one.dtype).tobytes() == wanted.tobytes()


def plain_value(value: Any) -> Any:
    """A plain value of calls.json, whose strings stand for what JSON cannot write."""
    if isinstance(value, str) and value.startswith("$"):
        return float(value[1:])
    if isinstance(value, list):
        return [plain_value(item) for item in value]
    if isinstance(value, dict):
        return bytes.fromhex(value["$bytes"]) if "$bytes" in value else {k: plain_value(v) for k, v in value.items()}
    return value


@pytest.mark.parametrize("case", cases("calls.json"), ids=lambda case: case["name"])
def test_a_call_is_this_request(case: dict[str, Any]) -> None:
    if "inputs" in case:
        inputs = plain_value(case["inputs"])
    else:
        inputs = {
            name: np.frombuffer(bytes.fromhex(one["values_hex"]), one["dtype"]).reshape(one["shape"])
            for name, one in case["arrays"].items()
        }
        inputs = next(iter(inputs.values())) if case.get("bare") else inputs
    steps = predictor().predict(case["model"], inputs, case.get("version"), case["encoding"], Call())
    step = next(steps)
    assert isinstance(step, Send)
    if step.data.startswith(b"GET "):
        schema = json.dumps({"name": case["model"], "inputs": case["takes"], "outputs": []}).encode()
        step = steps.send(reply(200, "application/json", schema))
        assert isinstance(step, Send)
    head, _, body = (step.data + b"".join(step.more)).partition(b"\r\n\r\n")
    line, *lines = head.decode().split("\r\n")
    request = case["request"]
    assert line == f"POST {request['target']} HTTP/1.1"
    wanted = request["body"].encode() if "body" in request else bytes.fromhex(request["body_hex"])
    assert body == wanted
    varying = ("Host", "User-Agent", "X-Request-Id", "X-Request-Timeout-Ms")
    fields = {name: value for name, value in (one.split(": ", 1) for one in lines) if name not in varying}
    assert fields == {**request["fields"], "Content-Length": str(len(wanted))}
