"""POST /predict/batch: many rows in a body, outputs and faults by row."""

from collections.abc import Callable

import msgpack
import numpy as np
import orjson
import pytest

from bench.wire import Wire, request_bytes
from tests.serving import Server

JSON = {"Content-Type": "application/json"}
MSGPACK = {"Content-Type": "application/msgpack", "Accept": "application/msgpack"}
RAW = {"Content-Type": "application/octet-stream"}


def rows_of(count: int) -> np.ndarray:
    return np.random.default_rng(count).standard_normal((count, 4), dtype=np.float32)


def offline(rows: np.ndarray) -> np.ndarray:
    return 2 * rows + 1


@pytest.mark.parametrize("count", [1, 2, 65, 3000, 20_000])
def test_rows_come_back_in_order(wire: Wire, count: int) -> None:
    rows = rows_of(count)
    bodies = [
        (JSON, orjson.dumps({"model": "affine", "inputs": rows.tolist()}), orjson.loads),
        (MSGPACK, msgpack.packb({"inputs": rows.tolist(), "model": "affine"}), msgpack.unpackb),
        (MSGPACK, msgpack.packb({"inputs": rows.tobytes(), "model": "affine"}), msgpack.unpackb),
        (JSON, orjson.dumps({"inputs": [{"x": row} for row in rows.tolist()], "model": "affine"}), orjson.loads),
    ]
    for headers, body, read in bodies:
        reply = wire.ask("POST", "/predict/batch", body, headers)
        assert reply.status == 200, reply.body[:300]
        answer = read(reply.body)
        assert (answer["model"], answer["version"], answer["errors"]) == ("affine", "1", [])
        assert np.array_equal(np.array([output["y"] for output in answer["outputs"]], np.float32), offline(rows))


def test_raw_rows(wire: Wire) -> None:
    rows = rows_of(10_000)
    reply = wire.ask("POST", "/predict/batch?model=affine", rows.tobytes(), RAW)
    assert np.array_equal(np.array([output["y"] for output in reply.json()["outputs"]], np.float32), offline(rows))
    reply = wire.ask(
        "POST", "/predict/batch?model=affine&output=y", rows.tobytes(), RAW | {"Accept": RAW["Content-Type"]}
    )
    assert np.array_equal(np.frombuffer(reply.body, np.float32).reshape(-1, 4), offline(rows))


def test_faults_belong_to_rows(wire: Wire) -> None:
    inputs: list[object] = rows_of(200).tolist()
    inputs[3] = [1, 2, 3]
    inputs[77] = "four"
    inputs[199] = {"x": [1, 2, 3, None]}
    reply = wire.ask("POST", "/predict/batch", orjson.dumps({"model": "affine", "inputs": inputs}), JSON)
    assert reply.status == 200
    answer = reply.json()
    assert [row for row, output in enumerate(answer["outputs"]) if output is None] == [3, 77, 199]
    assert [(error["row"], error["code"], error["status"]) for error in answer["errors"]] == [
        (row, "invalid_input", 422) for row in (3, 77, 199)
    ]
    assert "expected 4 values, got 3" in answer["errors"][0]["detail"]
    assert "expected a number" in answer["errors"][2]["detail"]


def test_rows_that_a_model_refuses_fail_alone(wire: Wire) -> None:
    rows = np.abs(rows_of(300))
    rows[[0, 150, 299], 0] = -1
    body = msgpack.packb({"model": "echo", "inputs": rows.tolist()})
    answer = msgpack.unpackb(wire.ask("POST", "/predict/batch", body, MSGPACK).body)
    assert [error["row"] for error in answer["errors"]] == [0, 150, 299]
    assert {(error["code"], error["status"]) for error in answer["errors"]} == {("model_error", 500)}
    assert all("negative" in error["detail"] for error in answer["errors"])
    assert [row for row, output in enumerate(answer["outputs"]) if output is None] == [0, 150, 299]


def test_a_body_of_faults_alone_runs_nothing(wire: Wire) -> None:
    body = orjson.dumps({"model": "affine", "inputs": [1, 2]})
    reply = wire.ask("POST", "/predict/batch", body, JSON | {"X-Penstock-Receipt": "true"})
    assert (reply.status, reply.json()["outputs"]) == (200, [None, None])
    assert not [name for name in reply.headers if name.startswith("x-penstock")]


def test_a_receipt_is_that_of_the_last_batch(wire: Wire) -> None:
    body = orjson.dumps({"model": "affine", "inputs": rows_of(500).tolist()})
    reply = wire.ask("POST", "/predict/batch", body, JSON | {"X-Penstock-Receipt": "true"})
    assert int(reply.headers["x-penstock-batch-rows"]) >= 1
    assert reply.headers["x-penstock-model-version"] == "1"


def test_an_output_that_the_model_has_not_is_refused(wire: Wire) -> None:
    reply = wire.ask(
        "POST", "/predict/batch?output=z", orjson.dumps({"model": "affine", "inputs": [[1, 2, 3, 4]]}), JSON
    )
    assert (reply.status, reply.json()["code"]) == (422, "invalid_input")


@pytest.mark.parametrize(
    ("body", "status", "code", "detail"),
    [
        (b'{"model": "affine", "inputs": []}', 422, "invalid_input", "list of rows, got an empty one"),
        (b'{"model": "affine", "inputs": {"x": [1, 2, 3, 4]}}', 422, "invalid_input", "list of rows, got an object"),
        (b'{"model": "affine", "inputs": [[1, 2, 3, 4], [1, 2, 3, 4]', 400, "malformed_body", "JSON ends"),
        (b'{"model": "affine", "inputs": [[1, 2, 3, 4],]}', 400, "malformed_body", "expected a value"),
        (b'{"model": "affine", "inputs": [[1, 2, 3, 04]]}', 400, "malformed_body", "expected"),
        (b'{"model": "nobody", "inputs": [[1, 2, 3, 4]]}', 404, "model_not_found", "nobody"),
        (b'{"model": "affine"}', 422, "invalid_input", "inputs: missing"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused_whole(
    wire: Wire, body: bytes, status: int, code: str, detail: str
) -> None:
    reply = wire.ask("POST", "/predict/batch", body, JSON)
    assert (reply.status, reply.json()["code"]) == (status, code), reply.body
    assert detail in reply.json()["detail"]


def test_rows_are_counted_before_they_are_run(wire: Wire) -> None:
    reply = wire.ask("POST", "/predict/batch?model=affine", bytes(16 * 65_537), RAW)
    assert (reply.status, reply.json()["code"]) == (413, "body_too_large")
    assert "65536" in reply.json()["detail"]


def test_requests_do_not_mix(server: Server, connect: Callable[..., Wire]) -> None:
    wires = [connect(server) for _ in range(4)]
    bodies = [rows_of(500 + n) for n in range(len(wires))]
    for _ in range(5):
        for wire, rows in zip(wires, bodies, strict=True):
            body = orjson.dumps({"model": "affine", "inputs": rows.tolist()})
            wire.send(request_bytes("POST", "/predict/batch", body, JSON))
        for wire, rows in zip(wires, bodies, strict=True):
            outputs = wire.reply().json()["outputs"]
            assert np.array_equal(np.array([output["y"] for output in outputs], np.float32), offline(rows))
