"""The Open Inference Protocol's infer over REST, byte by byte; tests with its clients stand beside this one."""

from typing import Any

import numpy as np
import orjson
import pytest

from bench.wire import Reply, Wire

JSON = {"Content-Type": "application/json"}
BINARY = {"Content-Type": "application/octet-stream"}
A = np.arange(18, dtype=np.float32).reshape(3, 2, 3)
B = np.arange(15, dtype=np.int64).reshape(3, 5)


def tensor(name: str, values: np.ndarray, datatype: str, **more: object) -> dict[str, Any]:
    return {"name": name, "shape": list(values.shape), "datatype": datatype, "data": values.tolist()} | more


def request_of(**more: object) -> dict[str, Any]:
    return {"inputs": [tensor("a", A, "FP32"), tensor("b", B, "INT64")]} | more


def infer(wire: Wire, request: object, model: str = "pair") -> Reply:
    return wire.ask("POST", f"/v2/models/{model}/infer", orjson.dumps(request), JSON)


def infer_binary(wire: Wire, request: object, *tensors: bytes) -> Reply:
    head = orjson.dumps(request)
    length = {"Inference-Header-Content-Length": str(len(head))}
    return wire.ask("POST", "/v2/models/pair/infer", head + b"".join(tensors), BINARY | length)


def outputs_of(reply: Reply) -> dict[str, np.ndarray]:
    """Read the outputs of a reply, those in its binary part, too."""
    assert reply.status == 200, reply.body
    length = int(reply.headers.get("inference-header-content-length", len(reply.body)))
    head, binary = orjson.loads(reply.body[:length]), reply.body[length:]
    found = {}
    for output in head["outputs"]:
        dtype = {"FP32": np.float32, "INT64": np.int64}[output["datatype"]]
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            values = np.array(output["data"], dtype)
        else:
            values, binary = np.frombuffer(binary[:size], dtype), binary[size:]
        found[output["name"]] = values.reshape(output["shape"])
    assert not binary
    return found


def check(found: dict[str, np.ndarray]) -> None:
    assert np.array_equal(found["scaled"], 3 * A)
    assert np.array_equal(found["total"], B.sum(axis=1))


def test_json(wire: Wire) -> None:
    reply = infer(wire, request_of(id='say "hello"'))
    check(outputs_of(reply))
    answer = reply.json()
    assert (answer["model_name"], answer["model_version"], answer["id"]) == ("pair", "1", 'say "hello"')
    assert reply.headers["content-type"] == "application/json"


def test_data_may_be_flat_and_stand_before_its_shape(wire: Wire) -> None:
    flat = {"data": A.ravel().tolist(), "datatype": "FP32", "shape": [3, 2, 3], "name": "a"}
    check(outputs_of(infer(wire, {"unknown": [1, {"x": "]"}], "inputs": [tensor("b", B, "INT64"), flat]})))


def test_one_row_and_a_version(wire: Wire) -> None:
    request = {"inputs": [tensor("a", A[:1], "FP32"), tensor("b", B[:1], "INT64")]}
    reply = wire.ask("POST", "/v2/models/pair/versions/1/infer", orjson.dumps(request), JSON)
    assert np.array_equal(outputs_of(reply)["total"], [10])


def test_binary_both_ways(wire: Wire) -> None:
    a = {"name": "a", "shape": [3, 2, 3], "datatype": "FP32", "parameters": {"binary_data_size": A.nbytes}}
    b = {"name": "b", "shape": [3, 5], "datatype": "INT64", "parameters": {"binary_data_size": B.nbytes}}
    parameters = {"binary_data_output": True}
    reply = infer_binary(wire, {"inputs": [a, b], "parameters": parameters}, A.tobytes(), B.tobytes())
    check(outputs_of(reply))
    assert reply.headers["content-type"] == "application/octet-stream"
    mixed = {"inputs": [b, tensor("a", A, "FP32")], "outputs": [{"name": "total", "parameters": {"binary_data": True}}]}
    found = outputs_of(infer_binary(wire, mixed, B.tobytes()))
    assert list(found) == ["total"]
    assert np.array_equal(found["total"], B.sum(axis=1))


def test_many_rows(wire: Wire) -> None:
    rows = np.random.default_rng(1).standard_normal((5000, 4), dtype=np.float32)
    x = {"name": "x", "shape": [5000, 4], "datatype": "FP32", "parameters": {"binary_data_size": rows.nbytes}}
    head = orjson.dumps({"inputs": [x], "parameters": {"binary_data_output": True}})
    length = {"Inference-Header-Content-Length": str(len(head))}
    reply = wire.ask("POST", "/v2/models/affine/infer", head + rows.tobytes(), BINARY | length)
    assert np.array_equal(outputs_of(reply)["y"], 2 * rows + 1)
    reply = infer(wire, {"inputs": [tensor("x", rows, "FP32")]}, "affine")
    assert np.array_equal(outputs_of(reply)["y"], 2 * rows + 1)


@pytest.mark.parametrize(
    ("request_", "detail"),
    [
        ({"inputs": [tensor("a", A, "FP32")]}, "inputs.b: missing"),
        ({"inputs": [tensor("c", A, "FP32")]}, "inputs.c: unknown input"),
        ({"inputs": [tensor("a", A, "FP64"), tensor("b", B, "INT64")]}, "datatype: expected FP32, got FP64"),
        ({"inputs": [tensor("a", A[:, :1], "FP32"), tensor("b", B, "INT64")]}, "expected [rows, 2, 3]"),
        ({"inputs": [tensor("a", A[:2], "FP32"), tensor("b", B, "INT64")]}, "expected 2 rows"),
        ({"inputs": [tensor("a", A[0], "FP32"), tensor("b", B, "INT64")]}, "got [2, 3]"),
        ({"inputs": [tensor("a", A, "FP32", data=[1.0]), tensor("b", B, "INT64")]}, "expected 18 elements, got 1"),
        ({"inputs": [tensor("a", A, "FP32", data=["x"] * 18), tensor("b", B, "INT64")]}, "element 0"),
        ({"inputs": [tensor("a", A, "FP32", shape=[0, 2, 3]), tensor("b", B, "INT64")]}, "at least one row"),
        ({"inputs": [tensor("a", A, "FP32"), tensor("a", A, "FP32")]}, "occurs twice"),
        ({"inputs": {"a": 1}}, "inputs: expected a list of objects, got an object"),
        ({"inputs": [tensor("a", A, "FP32"), tensor("b", B, "INT64"), {}]}, "inputs: the model has 2, got more"),
        (request_of(outputs=[{"name": "total"}, {"name": "scaled"}, {}]), "outputs: the model has 2, got more"),
        (request_of(outputs=[{"name": "nothing"}]), "outputs.nothing: unknown output"),
        (request_of(outputs=[{"name": "total", "parameters": {"classification": 3}}]), "classification"),
        (request_of(parameters={"sequence_id": 7}), "state"),
        (request_of(id="x" * 257), "id: expected at most 256 bytes"),
    ],
)
def test_what_does_not_fit_is_refused(wire: Wire, request_: object, detail: str) -> None:
    reply = infer(wire, request_)
    problem = reply.json()
    assert (reply.status, problem["code"]) == (422, "invalid_input"), problem
    assert detail in problem["detail"]
    assert problem["error"] == problem["detail"]  # where the protocol's clients look


def test_members_that_come_twice_are_refused(wire: Wire) -> None:
    both = orjson.dumps(tensor("b", B, "INT64")).replace(b'"name":"b"', b'"name":"a","name":"b"')
    reply = wire.ask("POST", "/v2/models/pair/infer", b'{"inputs":[' + both + b"]}", JSON)
    assert (reply.status, reply.json()["code"]) == (422, "invalid_input")
    assert "two names" in reply.json()["detail"]
    twice = orjson.dumps(request_of()).replace(b"{", b'{"outputs":[{"name":"total","name":"scaled"}],', 1)
    assert "two names" in wire.ask("POST", "/v2/models/pair/infer", twice, JSON).json()["detail"]


def test_a_timeout_that_is_too_long_to_count_is_long(wire: Wire) -> None:
    check(outputs_of(infer(wire, request_of(parameters={"timeout": 1 << 61}))))


def test_binary_that_does_not_fit_is_refused(wire: Wire) -> None:
    a = {"name": "a", "shape": [3, 2, 3], "datatype": "FP32", "parameters": {"binary_data_size": A.nbytes}}
    b = tensor("b", B, "INT64")
    cut = infer_binary(wire, {"inputs": [a, b]}, A.tobytes()[:-1])
    assert "only 71 bytes are left" in cut.json()["detail"]
    more = infer_binary(wire, {"inputs": [a, b]}, A.tobytes() + b"1")
    assert "1 bytes behind" in more.json()["detail"]
    wrong = infer_binary(wire, {"inputs": [a | {"parameters": {"binary_data_size": 71}}, b]}, A.tobytes()[:-1])
    assert "expected 3 rows of 24 bytes" in wrong.json()["detail"]
    head = {"Inference-Header-Content-Length": "9"}
    short = wire.ask("POST", "/v2/models/pair/infer", b"{}", BINARY | head)
    assert (short.status, short.json()["code"]) == (400, "malformed_body")


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("/v2/models/nobody/infer", 404, "model_not_found"),
        ("/v2/models/pair/versions/9/infer", 404, "version_not_found"),
        ("/v2/models/nobody/ready", 404, "model_not_found"),
    ],
)
def test_unknown_names(wire: Wire, path: str, status: int, code: str) -> None:
    method, body = ("GET", None) if path.endswith("ready") else ("POST", orjson.dumps(request_of()))
    reply = wire.ask(method, path, body, JSON)
    assert (reply.status, reply.json()["code"]) == (status, code)
    assert reply.json()["error"]


@pytest.mark.parametrize(
    "path",
    ["/v2/health/live", "/v2/health/ready", "/v2/models/pair/ready", "/v2/models/pair/versions/1/ready"],
)
def test_health(wire: Wire, path: str) -> None:
    reply = wire.ask("GET", path)
    assert (reply.status, list(reply.json().values())) == (200, [True])
    assert wire.ask("POST", path, b"").status == 405


def test_what_comes_behind_a_request_is_refused_in_its_own_way(wire: Wire) -> None:
    assert "error" in orjson.loads(infer(wire, {"inputs": 3}).body)
    coded = {"Content-Type": "application/x-ndjson", "Content-Encoding": "br"}
    reply = wire.ask("POST", "/predict/batch?model=pair", b"x", coded)
    assert reply.status == 415
    assert "error" not in orjson.loads(reply.body)
