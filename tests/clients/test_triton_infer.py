"""tritonclient, unmodified, runs models: every element type and shape, both encodings, and what must be refused."""

import http.client
import json
import struct
import threading
from typing import Any

import numpy as np
import pytest

from tests.clients.element_types import DTYPES
from tests.serving import Reply, Server

pytestmark = pytest.mark.clients

BINARY = [pytest.param(True, id="binary"), pytest.param(False, id="json")]


def values(dtype: str, rows: int) -> np.ndarray[Any, Any]:
    """Rows of three elements; the extremes of their type among them."""
    shape = (rows, 3)
    if dtype == "bytes":
        texts = [f"row {row}, é {'x' * row}".encode() for row in range(rows * 3)]
        return np.array(texts, dtype=object).reshape(shape)
    if dtype == "bool":
        return (np.arange(rows * 3) % 2 == 0).reshape(shape)
    kind = np.dtype(dtype)
    made = np.arange(rows * 3).astype(kind).reshape(shape)
    limits = np.iinfo(kind) if kind.kind in "iu" else np.finfo(kind)
    made[0, 0], made[0, 1] = limits.min, limits.max
    return made


def an_input(triton: Any, name: str, array: np.ndarray[Any, Any], datatype: str, *, binary: bool) -> Any:
    made = triton.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array, binary_data=binary)
    return made


@pytest.mark.parametrize("rows", [1, 7])
@pytest.mark.parametrize("reply_binary", BINARY)
@pytest.mark.parametrize("request_binary", BINARY)
def test_every_element_type(triton: Any, client: Any, request_binary: bool, reply_binary: bool, rows: int) -> None:
    sent = {name: values(dtype, rows) for name, dtype in DTYPES.items()}
    # The client refuses to write FP16 as JSON.
    inputs = [
        an_input(triton, f"in_{name}", array, name, binary=request_binary or name == "FP16")
        for name, array in sent.items()
    ]
    outputs = [
        triton.InferRequestedOutput(f"out_{name}", binary_data=reply_binary or name == "FP16") for name in DTYPES
    ]
    result = client.infer("types", inputs, outputs=outputs)
    for name, array in sent.items():
        received = result.as_numpy(f"out_{name}")
        assert received.shape == (rows, 3)
        if name == "BYTES":
            texts = [each if isinstance(each, bytes) else each.encode() for each in received.flatten()]
            assert texts == list(array.flatten())
        else:
            assert received.dtype == array.dtype
            assert np.array_equal(received, array)


@pytest.mark.parametrize("rows", [1, 3, 64, 500])
@pytest.mark.parametrize("binary", BINARY)
@pytest.mark.parametrize("version", ["", "1", "latest"])
def test_rows_come_back_in_their_order(triton: Any, client: Any, rows: int, binary: bool, version: str) -> None:
    x = np.arange(rows * 4, dtype=np.float32).reshape(rows, 4)
    result = client.infer("affine", [an_input(triton, "x", x, "FP32", binary=binary)], model_version=version)
    assert np.array_equal(result.as_numpy("y"), 2 * x + 1)
    answer = result.get_response()
    assert (answer["model_name"], answer["model_version"]) == ("affine", "1")


@pytest.mark.parametrize("binary", BINARY)
def test_several_inputs_and_outputs(triton: Any, client: Any, binary: bool) -> None:
    a = np.arange(30, dtype=np.float32).reshape(5, 2, 3)
    b = np.arange(25, dtype=np.int64).reshape(5, 5)
    # Another order than the model's, one in each encoding.
    inputs = [an_input(triton, "b", b, "INT64", binary=binary), an_input(triton, "a", a, "FP32", binary=not binary)]
    result = client.infer("pair", inputs)
    assert np.array_equal(result.as_numpy("scaled"), 3 * a)
    assert np.array_equal(result.as_numpy("total"), b.sum(axis=1))


def test_outputs_that_were_asked_for_and_no_others(triton: Any, client: Any) -> None:
    inputs = [
        an_input(triton, "a", np.zeros((2, 2, 3), np.float32), "FP32", binary=True),
        an_input(triton, "b", np.ones((2, 5), np.int64), "INT64", binary=True),
    ]
    wanted = [triton.InferRequestedOutput("total", binary_data=True)]
    answer = client.infer("pair", inputs, outputs=wanted).get_response()
    assert [each["name"] for each in answer["outputs"]] == ["total"]
    assert answer["outputs"][0]["shape"] == [2]
    both = [triton.InferRequestedOutput("total", binary_data=False), triton.InferRequestedOutput("scaled")]
    result = client.infer("pair", inputs, outputs=both)
    assert [each["name"] for each in result.get_response()["outputs"]] == ["total", "scaled"]
    assert result.as_numpy("total").tolist() == [5, 5]
    assert not result.as_numpy("scaled").any()


@pytest.mark.parametrize("length", [1, 5, 16])
def test_rows_of_any_length(triton: Any, client: Any, length: int) -> None:
    ids = np.arange(2 * length, dtype=np.int64).reshape(2, length) % 20
    mask = np.ones(ids.shape, np.float32)
    inputs = [an_input(triton, "ids", ids, "INT64", binary=True), an_input(triton, "mask", mask, "FP32", binary=False)]
    result = client.infer("tokens", inputs)
    assert result.as_numpy("states").shape == (2, length, 3)


def test_id_and_parameters(triton: Any, client: Any) -> None:
    x = an_input(triton, "x", np.zeros((1, 4), np.float32), "FP32", binary=True)
    result = client.infer(
        "affine", [x], request_id='é "1"', timeout=30_000_000, priority=1, parameters={"colour": "red", "n": 3}
    )
    assert result.get_response()["id"] == 'é "1"'


@pytest.mark.parametrize("algorithm", ["gzip", "deflate"])
def test_compressed_answers_are_read(triton: Any, client: Any, algorithm: str) -> None:
    x = np.zeros((200, 4), np.float32)
    result = client.infer(
        "affine", [an_input(triton, "x", x, "FP32", binary=True)], response_compression_algorithm=algorithm
    )
    assert np.array_equal(result.as_numpy("y"), x + 1)


def test_requests_at_once(triton: Any, foreign_server: Server) -> None:
    address = f"{foreign_server.host}:{foreign_server.port}"
    with triton.InferenceServerClient(address, concurrency=8) as client:
        arrays = [np.full((3, 4), number, np.float32) for number in range(100)]
        pending = [client.async_infer("affine", [an_input(triton, "x", x, "FP32", binary=True)]) for x in arrays]
        for x, each in zip(arrays, pending, strict=True):
            assert np.array_equal(each.get_result().as_numpy("y"), 2 * x + 1)


def test_statistics_count_rows_and_batches(triton: Any, client: Any) -> None:
    def read() -> dict[str, Any]:
        (stats,) = client.get_inference_statistics("pair", "1")["model_stats"]
        return dict(stats)

    before = read()
    inputs = [
        an_input(triton, "a", np.zeros((6, 2, 3), np.float32), "FP32", binary=True),
        an_input(triton, "b", np.ones((6, 5), np.int64), "INT64", binary=True),
    ]
    client.infer("pair", inputs)
    after = read()
    assert after["inference_count"] == before["inference_count"] + 6
    assert after["execution_count"] > before["execution_count"]
    for part in ("success", "queue", "compute_infer"):
        assert after["inference_stats"][part]["count"] == before["inference_stats"][part]["count"] + 6
        assert after["inference_stats"][part]["ns"] > before["inference_stats"][part]["ns"]
    sizes = {each["batch_size"]: each["compute_infer"]["count"] for each in after["batch_stats"]}
    assert sum(sizes.values()) == after["execution_count"]
    assert sum(size * count for size, count in sizes.items()) == after["inference_count"]


FOUR = np.zeros((1, 4), np.float32)


@pytest.mark.parametrize(
    ("model", "version", "tensors", "status", "text"),
    [
        ("nothing", "", {"x": (FOUR, "FP32")}, "404", "nothing"),
        ("affine", "9", {"x": (FOUR, "FP32")}, "404", "9"),
        ("affine", "", {"x": (np.zeros((1, 5), np.float32), "FP32")}, "422", "inputs.x: shape"),
        ("affine", "", {"x": (np.zeros(4, np.float32), "FP32")}, "422", "inputs.x: shape"),
        ("affine", "", {"x": (np.zeros((0, 4), np.float32), "FP32")}, "422", "inputs.x: shape"),
        ("affine", "", {"x": (FOUR.astype(np.float64), "FP64")}, "422", "inputs.x: datatype: expected FP32, got FP64"),
        ("affine", "", {"z": (FOUR, "FP32")}, "422", "inputs.z: unknown input"),
        ("pair", "", {"a": (np.zeros((1, 2, 3), np.float32), "FP32")}, "422", "inputs.b: missing"),
        (
            "pair",
            "",
            {"a": (np.zeros((2, 2, 3), np.float32), "FP32"), "b": (np.zeros((3, 5), np.int64), "INT64")},
            "422",
            "inputs.b: shape: expected 2 rows",
        ),
        ("echo", "", {"x": (FOUR - 1, "FP32")}, "500", "row"),
    ],
)
def test_refusals_are_read_by_the_client(
    triton: Any, client: Any, model: str, version: str, tensors: dict[str, Any], status: str, text: str
) -> None:
    inputs = [an_input(triton, name, array, datatype, binary=True) for name, (array, datatype) in tensors.items()]
    with pytest.raises(triton.InferenceServerException) as refused:
        client.infer(model, inputs, model_version=version)
    assert refused.value.status() == status
    assert text in refused.value.message()


def test_output_that_the_model_has_not(triton: Any, client: Any) -> None:
    x = an_input(triton, "x", FOUR, "FP32", binary=True)
    with pytest.raises(triton.InferenceServerException, match="z"):
        client.infer("affine", [x], outputs=[triton.InferRequestedOutput("z")])


def test_sequences_are_refused(triton: Any, client: Any) -> None:
    x = an_input(triton, "x", FOUR, "FP32", binary=True)
    with pytest.raises(triton.InferenceServerException, match="sequence_id"):
        client.infer("affine", [x], sequence_id=7, sequence_start=True)


# --- bodies that the client cannot be made to write -------------------------------------------------------------------


def infer(server: Server, header: Any, binary: bytes = b"", *, header_bytes: int | None = None) -> Reply:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    fields = {"Inference-Header-Content-Length": str(len(text) if header_bytes is None else header_bytes)}
    return server.request("POST", "/v2/models/affine/infer", text + binary, fields if binary or header_bytes else {})


def header(size: int, **more: Any) -> dict[str, Any]:
    described = {"name": "x", "shape": [1, 4], "datatype": "FP32", "parameters": {"binary_data_size": size}}
    return {"inputs": [{**described, **more}]}


ROW = struct.pack("<4f", 1, 2, 3, 4)


def test_binary_row_is_answered(foreign_server: Server) -> None:
    reply = infer(foreign_server, header(16), ROW)
    assert reply.status == 200
    assert reply.json()["outputs"][0]["data"] == [3.0, 5.0, 7.0, 9.0]


@pytest.mark.parametrize("outputs_first", [True, False])
def test_binary_outputs_by_default(foreign_server: Server, outputs_first: bool) -> None:
    described = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
    rest = [("outputs", [{"name": "y"}]), ("parameters", {"binary_data_output": True})]
    body = {"inputs": [described], **dict(rest if outputs_first else reversed(rest))}
    reply = foreign_server.request("POST", "/v2/models/affine/infer", json.dumps(body))
    assert reply.status == 200
    header_bytes = int(reply.headers["inference-header-content-length"])
    assert struct.unpack("<4f", reply.body[header_bytes:]) == (3.0, 5.0, 7.0, 9.0)


@pytest.mark.parametrize(
    "media_type", ["application/json", "application/octet-stream", "application/x-www-form-urlencoded", "text/plain"]
)
def test_content_type_is_not_asked_for(foreign_server: Server, media_type: str) -> None:
    described = {"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, 4]}
    body = json.dumps({"inputs": [described]})
    reply = foreign_server.request("POST", "/v2/models/affine/infer", body, {"Content-Type": media_type})
    assert reply.json()["outputs"][0]["data"] == [3.0, 5.0, 7.0, 9.0]


@pytest.mark.parametrize(
    ("size", "binary", "header_bytes"),
    [
        pytest.param(16, ROW[:-1], None, id="truncated"),
        pytest.param(16, ROW + b"x", None, id="more than was said"),
        pytest.param(12, ROW[:12], None, id="not the size of the shape"),
        pytest.param(2**64 - 1, ROW, None, id="a size that wraps"),
        pytest.param(16, ROW, 10_000, id="header longer than the body"),
        pytest.param(16, ROW, 7, id="header cut"),
    ],
)
def test_binary_that_does_not_fit_is_refused(
    foreign_server: Server, size: int, binary: bytes, header_bytes: int | None
) -> None:
    reply = infer(foreign_server, header(size), binary, header_bytes=header_bytes)
    assert reply.status in (400, 422)
    problem = reply.json()
    assert problem["error"] == problem["detail"]
    assert reply.headers["content-type"] == "application/problem+json"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b'{"inputs": 3}',
        b'{"inputs": []}',
        b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32"}]}',
        b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3]}]}',
        b'{"inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [1, 2, 3, "4"]}]}',
        b'{"inputs": [{"name": "x", "shape": [1, -4], "datatype": "FP32", "data": [1, 2, 3, 4]}]}',
        b'{"inputs": [{"name": "x", "shape": [18446744073709551615, 4], "datatype": "FP32", "data": []}]}',
    ],
)
def test_json_that_does_not_fit_is_refused(foreign_server: Server, body: bytes) -> None:
    reply = foreign_server.request("POST", "/v2/models/affine/infer", body, {"Content-Type": "application/json"})
    assert 400 <= reply.status < 500
    assert reply.json()["error"] == reply.json()["detail"]


def test_clients_that_go_away_harm_nobody(triton: Any, client: Any, foreign_server: Server) -> None:
    def leave() -> None:
        connection = http.client.HTTPConnection(foreign_server.host, foreign_server.port, timeout=300)
        connection.putrequest("POST", "/v2/models/affine/infer")
        connection.putheader("Content-Length", "100000")
        connection.endheaders(b'{"inputs": [')
        connection.close()

    threads = [threading.Thread(target=leave) for _ in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    result = client.infer("affine", [an_input(triton, "x", FOUR, "FP32", binary=True)])
    assert np.array_equal(result.as_numpy("y"), FOUR + 1)
