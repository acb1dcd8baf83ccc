"""One suite for every way that a row can take: the fast path, and through the control plane as a form and as a line.

The same inputs have the same outputs, and what is wrong with them is said in the same words.
"""

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from tests.integration.streams import JSON_LINES, lines_of, stream
from tests.serving import Server

BOUNDARY = "part"


@dataclass(frozen=True)
class Answer:
    """What came back: outputs, or the problem's status, code and detail."""

    outputs: Any = None
    status: int = 200
    code: str = ""
    detail: str = ""


def answer_of(status: int, document: Any) -> Answer:
    if status == 200:
        return Answer(document["outputs"])
    return Answer(None, status, document["code"], document["detail"])


def on_the_fast_path(server: Server, query: str, inputs: dict[str, Any], **headers: str) -> Answer:
    fields = {"Content-Type": "application/json", **headers}
    reply = server.request("POST", f"/predict?{query}", json.dumps({"inputs": inputs}), fields)
    return answer_of(reply.status, reply.json())


def as_one_of_many(server: Server, query: str, inputs: dict[str, Any], **headers: str) -> Answer:
    fields = {"Content-Type": "application/json", **headers}
    reply = server.request("POST", f"/predict/batch?{query}", json.dumps({"inputs": [inputs]}), fields)
    document = reply.json()
    if reply.status == 200 and document["outputs"][0] is None:
        (error,) = document["errors"]
        return answer_of(error["status"], error)
    return answer_of(reply.status, {"outputs": document["outputs"][0]} if reply.status == 200 else document)


def as_a_form(server: Server, query: str, inputs: dict[str, Any], **headers: str) -> Answer:
    parts = [
        f'--{BOUNDARY}\r\nContent-Disposition: form-data; name="{name}"\r\nContent-Type: application/json\r\n\r\n'
        f"{json.dumps(value)}\r\n"
        for name, value in inputs.items()
    ]
    fields = {"Content-Type": f"multipart/form-data; boundary={BOUNDARY}", **headers}
    body = "".join(parts) + f"--{BOUNDARY}--\r\n"
    reply = server.request("POST", f"/predict?{query}", body, fields)
    return answer_of(reply.status, reply.json())


def as_a_line(server: Server, query: str, inputs: dict[str, Any], **headers: str) -> Answer:
    names = {name.replace("-", "_"): value for name, value in headers.items()}
    response = stream(server, JSON_LINES, query, json.dumps(inputs).encode() + b"\n", **names)
    if response.status != 200:
        return answer_of(response.status, json.loads(response.content))  # type: ignore[attr-defined]
    (line,) = lines_of(response)
    return answer_of(line["error"]["status"], line["error"]) if "error" in line else answer_of(200, line)


OTHER_WAYS = [as_one_of_many, as_a_form, as_a_line]
Way = Callable[..., Answer]

PAIR = {"a": [[0, 1, 2], [3, 4, 5]], "b": [1, 2, 3, 4, 5]}
CASES: list[tuple[str, dict[str, Any]]] = [
    ("model=affine", {"x": [0.5, -1.25, 3e38, 1e-45]}),
    ("model=affine&version=1", {"x": ["NaN", "Infinity", "-Infinity", -0.0]}),
    ("model=affine&version=latest", {"x": [1, 2, 3, 4]}),
    ("model=pair", PAIR),
    ("model=echo", {"x": [-1, 0, 0, 0]}),
    ("model=affine", {"x": [1, 2, 3]}),
    ("model=affine", {"x": [1, 2, 3, 4, 5]}),
    ("model=affine", {"x": [1, 2, "three", 4]}),
    ("model=affine", {"x": [1, 2, None, 4]}),
    ("model=affine", {"x": [1, 2, 1e39, 4]}),
    ("model=affine", {"x": {"base64": "AACAPwAAgD8AAIA/AACAPw=="}}),
    ("model=affine", {"x": {"base64": "AACA"}}),
    ("model=pair", {**PAIR, "b": [1, 2, 3, 4, 5.5]}),
    ("model=pair", {**PAIR, "b": [1, 2, 3, 4, 2**63]}),
    ("model=nobody", {"x": [1, 2, 3, 4]}),
    ("model=affine&version=9", {"x": [1, 2, 3, 4]}),
]


@pytest.mark.parametrize("way", OTHER_WAYS, ids=lambda way: str(way.__name__))
@pytest.mark.parametrize(("query", "inputs"), CASES, ids=[f"{query} {inputs}"[:60] for query, inputs in CASES])
def test_every_way_gives_the_same_answer(server: Server, query: str, inputs: dict[str, Any], way: Way) -> None:
    assert way(server, query, inputs) == on_the_fast_path(server, query, inputs)


@pytest.mark.parametrize("way", OTHER_WAYS, ids=lambda way: str(way.__name__))
@pytest.mark.parametrize(
    "headers",
    [{"X-Request-Timeout-Ms": "never"}, {"X-Request-Priority": "urgent"}, {"X-Request-Timeout-Ms": "60000"}],
    ids=str,
)
def test_every_way_takes_the_same_fields(server: Server, headers: dict[str, str], way: Way) -> None:
    asked = "model=affine", {"x": [1, 2, 3, 4]}
    assert way(server, *asked, **headers) == on_the_fast_path(server, *asked, **headers)


@pytest.mark.parametrize("way", OTHER_WAYS, ids=lambda way: str(way.__name__))
def test_every_way_asks_for_a_key(serve: Callable[..., Server], model_folder: Path, way: Way) -> None:
    running = serve("--require-key", models={"affine": model_folder / "affine.onnx"})
    asked = "model=affine", {"x": [1, 2, 3, 4]}
    answer = way(running, *asked)
    assert answer.status == 401
    assert answer == on_the_fast_path(running, *asked)
