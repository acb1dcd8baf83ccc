"""Predictions that succeed: every way to name a model, to send a row and to ask for the answer."""

import itertools
import json
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import msgpack
import numpy as np
import onnxruntime
import pytest

from bench.wire import Reply, Wire
from tests.serving import Server

JSON = "application/json"
MSGPACK = ["application/msgpack", "application/vnd.msgpack", "application/x-msgpack"]
RAW = "application/octet-stream"
AFFINE = {"model": "affine", "version": "1", "inputs": [1, 2, 3, 4]}
AFFINE_ANSWER = {"model": "affine", "version": "1", "outputs": {"y": [3, 5, 7, 9]}}
PAIR = {"a": [[1, 2, 3], [4, 5, 6]], "b": [1, 2, 3, 4, 5]}


def post(wire: Wire, body: bytes, content_type: str = JSON, query: str = "", **headers: str) -> Reply:
    fields = {"Content-Type": content_type, **{name.replace("_", "-"): value for name, value in headers.items()}}
    return wire.ask("POST", f"/predict{query}", body, fields)


def predict(wire: Wire, *, query: str = "", **members: object) -> Reply:
    return post(wire, json.dumps(members).encode(), query=query)


def answer(reply: Reply) -> dict[str, object]:
    assert reply.status == 200, reply.body
    assert reply.headers["content-type"] == JSON
    return reply.json()


@pytest.mark.parametrize("order", list(itertools.permutations(AFFINE)))
def test_members_may_come_in_any_order(wire: Wire, order: tuple[str, ...]) -> None:
    reply = predict(wire, **{name: AFFINE[name] for name in order})
    assert answer(reply) == AFFINE_ANSWER


def test_reply_has_its_members_in_the_documented_order(wire: Wire) -> None:
    reply = predict(wire, **AFFINE)
    assert reply.body == b'{"model":"affine","version":"1","outputs":{"y":[3.0,5.0,7.0,9.0]}}'


def test_input_may_be_named(wire: Wire) -> None:
    assert answer(predict(wire, model="affine", inputs={"x": [1, 2, 3, 4]})) == AFFINE_ANSWER


@pytest.mark.parametrize("version", [{}, {"version": "1"}, {"version": "latest"}])
def test_version_is_optional(wire: Wire, version: dict[str, str]) -> None:
    assert answer(predict(wire, model="affine", inputs=[1, 2, 3, 4], **version)) == AFFINE_ANSWER


@pytest.mark.parametrize(
    ("query", "members"),
    [
        ("?model=affine", {}),
        ("?model=affine&version=1", {}),
        ("?version=latest&model=affine", {}),
        ("?model=%61ffine", {}),
        ("?model=affine", {"model": "affine", "version": "1"}),
        ("?version=1", {"model": "affine"}),
    ],
)
def test_names_may_stand_in_the_query(wire: Wire, query: str, members: dict[str, str]) -> None:
    assert answer(predict(wire, query=query, inputs=[1, 2, 3, 4], **members)) == AFFINE_ANSWER


def test_model_is_optional_when_one_is_served(
    serve: Callable[..., Server], connect: Callable[..., Wire], model_folder: Path
) -> None:
    wire = connect(serve(models={"only": model_folder / "affine.onnx"}))
    expected = AFFINE_ANSWER | {"model": "only"}
    assert answer(predict(wire, inputs=[1, 2, 3, 4])) == expected
    row = struct.pack("<4f", 1, 2, 3, 4)
    assert answer(post(wire, row, RAW)) == expected


def test_latest_is_the_highest_version(
    serve: Callable[..., Server], connect: Callable[..., Wire], model_folder: Path, tmp_path: Path
) -> None:
    config = tmp_path / "penstock.toml"
    tables = [
        f'[[models]]\nname = "m"\nversion = "{version}"\npath = "{model_folder}/affine.onnx"\n'
        for version in (2, 10, 9)
    ]
    config.write_text("\n".join(tables))
    wire = connect(serve("--config", str(config)))
    assert answer(predict(wire, model="m", inputs=[0, 0, 0, 0]))["version"] == "10"
    assert answer(predict(wire, model="m", version="9", inputs=[0, 0, 0, 0]))["version"] == "9"
    assert answer(predict(wire, version="2", inputs=[0, 0, 0, 0]))["version"] == "2"


def test_several_inputs_and_outputs(wire: Wire) -> None:
    outputs = {"scaled": [[3, 6, 9], [12, 15, 18]], "total": 15}
    for inputs in (PAIR, dict(reversed(PAIR.items()))):
        assert answer(predict(wire, model="pair", inputs=inputs))["outputs"] == outputs


@pytest.mark.parametrize("content_type", MSGPACK)
@pytest.mark.parametrize("inputs", [[1, 2, 3, 4], {"x": [1.0, 2.0, 3.0, 4.0]}])
def test_msgpack_in_and_out(wire: Wire, content_type: str, inputs: object) -> None:
    reply = post(wire, msgpack.packb({"model": "affine", "inputs": inputs}), content_type, Accept=content_type)
    assert reply.status == 200, reply.body
    assert reply.headers["content-type"] in MSGPACK
    assert msgpack.unpackb(reply.body) == AFFINE_ANSWER


def test_body_without_content_type_is_json(wire: Wire) -> None:
    assert answer(wire.ask("POST", "/predict", json.dumps(AFFINE).encode())) == AFFINE_ANSWER


def test_raw_in_and_out(wire: Wire) -> None:
    row = struct.pack("<4f", 1, 2, 3, 4)
    reply = post(wire, row, RAW, "?model=affine&version=1", Accept=RAW)
    assert (reply.status, reply.headers["content-type"]) == (200, RAW), reply.body
    assert struct.unpack("<4f", reply.body) == (3, 5, 7, 9)


@pytest.mark.parametrize(
    ("accept", "content_type"),
    [
        (None, JSON),
        ("*/*", JSON),
        ("application/*", JSON),
        ("application/json", JSON),
        ("application/msgpack", "application/msgpack"),
        ("application/octet-stream", RAW),
        ("text/html, application/msgpack;q=0.5", "application/msgpack"),
        ("application/json;q=0.1, application/msgpack;q=0.9", "application/msgpack"),
        ("application/json;q=0, */*", "application/msgpack"),
        ("text/html, */*;q=0.1", JSON),
    ],
)
def test_accept_chooses_the_encoding(wire: Wire, accept: str | None, content_type: str) -> None:
    reply = post(wire, json.dumps(AFFINE).encode(), **({"Accept": accept} if accept else {}))
    assert (reply.status, reply.headers["content-type"]) == (200, content_type), reply.body


@pytest.mark.parametrize(
    ("output", "expected"), [("scaled", np.float32([3, 6, 9, 12, 15, 18])), ("total", np.int64([15]))]
)
def test_output_names_the_tensor_of_a_raw_reply(wire: Wire, output: str, expected: np.ndarray) -> None:
    body = json.dumps({"model": "pair", "inputs": PAIR}).encode()
    reply = post(wire, body, query=f"?output={output}", Accept=RAW)
    assert (reply.status, reply.body) == (200, expected.tobytes())


def test_floats_are_the_shortest_that_read_back_the_same(wire: Wire) -> None:
    values = np.float32([0.1, 1e-7, 3.4028235e38 / 2, -1.0])
    body = b'{"model":"affine","inputs":[%s]}' % ",".join(map(str, values)).encode()
    expected = values * np.float32(2) + np.float32(1)
    as_json = post(wire, body)
    as_raw = post(wire, body, Accept=RAW)
    assert as_raw.body == expected.tobytes()
    numbers = as_json.body.partition(b'"y":[')[2].partition(b"]")[0].split(b",")
    assert np.array([np.float32(number) for number in numbers]).tobytes() == expected.tobytes()
    for number, value in zip(numbers, expected, strict=True):
        assert len(number) <= len(str(value)), f"{number!r} is longer than {value}"


def test_nan_and_infinity_are_strings(wire: Wire) -> None:
    reply = predict(wire, model="affine", inputs=["NaN", "Infinity", "-Infinity", 0])
    assert answer(reply)["outputs"] == {"y": ["NaN", "Infinity", "-Infinity", 1]}


def test_request_id_is_returned(wire: Wire) -> None:
    given = post(wire, json.dumps(AFFINE).encode(), X_Request_Id="abc-123")
    assert given.headers["x-request-id"] == "abc-123"
    made = [predict(wire, **AFFINE).headers["x-request-id"] for _ in range(2)]
    assert made[0] and made[0] != made[1]
    replaced = post(wire, json.dumps(AFFINE).encode(), X_Request_Id="a" * 129)
    assert replaced.status == 200 and replaced.headers["x-request-id"] != "a" * 129


def test_every_client_gets_its_own_row(server: Server, connect: Callable[..., Wire], model_folder: Path) -> None:
    session = onnxruntime.InferenceSession(model_folder / "mlp.onnx", providers=["CPUExecutionProvider"])
    rows = np.random.default_rng(5).standard_normal((800, 32)).astype(np.float32)
    expected = session.run(None, {"x": rows})[0]

    def ask_share(first: int) -> None:
        wire = connect(server)
        for index in range(first, len(rows), 16):
            row = rows[index]
            body = [
                (json.dumps({"model": "mlp", "inputs": row.tolist()}).encode(), JSON),
                (msgpack.packb({"model": "mlp", "inputs": {"x": row.tolist()}}), MSGPACK[0]),
                (row.tobytes(), RAW),
            ][index // 16 % 3]
            reply = post(wire, *body, query="?model=mlp", Accept=RAW)
            assert reply.status == 200, reply.body
            np.testing.assert_allclose(np.frombuffer(reply.body, np.float32), expected[index], rtol=1e-5, atol=1e-6)

    with ThreadPoolExecutor(16) as threads:
        list(threads.map(ask_share, range(16)))
