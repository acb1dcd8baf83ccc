"""tritonclient's gRPC side, unmodified, against the port that answers HTTP, too."""

import importlib
import queue
import threading
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

from tests.clients.element_types import DTYPES
from tests.clients.test_triton_infer import values
from tests.serving import Server

pytestmark = pytest.mark.clients


@pytest.fixture(scope="session")
def triton_grpc() -> Any:
    """The module tritonclient.grpc, which only the environment of `make test-clients` has in full."""
    return importlib.import_module("tritonclient.grpc")


@pytest.fixture
def grpc_client(triton_grpc: Any, foreign_server: Server) -> Iterator[Any]:
    with triton_grpc.InferenceServerClient(f"{foreign_server.host}:{foreign_server.port}") as client:
        yield client


def an_input(triton_grpc: Any, name: str, array: np.ndarray[Any, Any], datatype: str) -> Any:
    made = triton_grpc.InferInput(name, list(array.shape), datatype)
    made.set_data_from_numpy(array)
    return made


def row(*numbers: float) -> np.ndarray[Any, Any]:
    return np.array([numbers], dtype=np.float32)


def test_server_and_models_are_ready(grpc_client: Any) -> None:
    assert grpc_client.is_server_live()
    assert grpc_client.is_server_ready()
    assert grpc_client.is_model_ready("affine")
    assert grpc_client.is_model_ready("affine", "1")
    assert not grpc_client.is_model_ready("affine", "9")
    assert not grpc_client.is_model_ready("nothing")


@pytest.mark.parametrize("rows", [1, 7])
def test_every_element_type(triton_grpc: Any, grpc_client: Any, rows: int) -> None:
    sent = {name: values(dtype, rows) for name, dtype in DTYPES.items()}
    inputs = [an_input(triton_grpc, f"in_{name}", array, name) for name, array in sent.items()]
    result = grpc_client.infer("types", inputs, request_id="every type")
    assert result.get_response().id == "every type"
    for name, array in sent.items():
        assert np.array_equal(result.as_numpy(f"out_{name}"), array), name


CONTENTS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}


def test_typed_contents(triton_grpc: Any, grpc_client: Any) -> None:
    """Elements as protobuf has them. FP16 has no list of its own, so its tensor is not there."""
    sent = {name: values(dtype, 2) for name, dtype in DTYPES.items()}
    request = triton_grpc.service_pb2.ModelInferRequest(model_name="types")
    for name, array in sent.items():
        tensor = request.inputs.add(name=f"in_{name}", datatype=name, shape=list(array.shape))
        if name in CONTENTS:
            getattr(tensor.contents, CONTENTS[name]).extend(array.flatten().tolist())
    with pytest.raises(Exception, match="FP16") as refused:
        grpc_client._client_stub.ModelInfer(request)
    assert "inputs.in_FP16" in str(refused.value)


def test_outputs_are_chosen(triton_grpc: Any, grpc_client: Any) -> None:
    inputs = [an_input(triton_grpc, "x", row(1, 2, 3, 4), "FP32")]
    asked = [triton_grpc.InferRequestedOutput("y")]
    assert grpc_client.infer("affine", inputs, outputs=asked).as_numpy("y").tolist() == [[3, 5, 7, 9]]
    with pytest.raises(triton_grpc.InferenceServerException, match=r"outputs\.z: unknown output"):
        grpc_client.infer("affine", inputs, outputs=[triton_grpc.InferRequestedOutput("z")])


def test_many_rows(triton_grpc: Any, grpc_client: Any) -> None:
    array = np.arange(80_000, dtype=np.float32).reshape(20_000, 4)
    result = grpc_client.infer("affine", [an_input(triton_grpc, "x", array, "FP32")])
    assert np.array_equal(result.as_numpy("y"), 2 * array + 1)


def test_requests_under_way_at_once(triton_grpc: Any, grpc_client: Any) -> None:
    answers: queue.Queue[tuple[int, Any, Any]] = queue.Queue()
    for number in range(200):
        inputs = [an_input(triton_grpc, "x", row(number, 0, 0, 0), "FP32")]
        grpc_client.async_infer(
            "affine", inputs, lambda result, error, number=number: answers.put((number, result, error))
        )
    for _ in range(200):
        number, result, error = answers.get(timeout=60)
        assert error is None
        assert result.as_numpy("y").tolist() == [[2 * number + 1, 1, 1, 1]]


def test_clients_in_threads(triton_grpc: Any, foreign_server: Server) -> None:
    failures: list[str] = []

    def ask(first: int) -> None:
        with triton_grpc.InferenceServerClient(f"{foreign_server.host}:{foreign_server.port}") as client:
            for number in range(first, first + 50):
                result = client.infer("affine", [an_input(triton_grpc, "x", row(number, 0, 0, 0), "FP32")])
                if result.as_numpy("y")[0, 0] != 2 * number + 1:
                    failures.append(f"{number}: {result.as_numpy('y')}")

    threads = [threading.Thread(target=ask, args=(1000 * index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


@pytest.mark.parametrize(
    ("model", "shape", "datatype", "status", "words"),
    [
        ("nothing", (1, 4), "FP32", "NOT_FOUND", "no model 'nothing'"),
        ("affine", (1, 3), "FP32", "INVALID_ARGUMENT", "inputs.x: shape: expected"),
        ("affine", (4,), "FP32", "INVALID_ARGUMENT", "inputs.x: shape: expected"),
        ("affine", (1, 4), "INT32", "INVALID_ARGUMENT", "datatype: expected FP32, got INT32"),
    ],
)
def test_refusals(
    triton_grpc: Any, grpc_client: Any, model: str, shape: tuple[int, ...], datatype: str, status: str, words: str
) -> None:
    array = np.zeros(shape, np.int32 if datatype == "INT32" else np.float32)
    with pytest.raises(triton_grpc.InferenceServerException) as refused:
        grpc_client.infer(model, [an_input(triton_grpc, "x", array, datatype)])
    assert refused.value.status() == f"StatusCode.{status}"
    assert words in refused.value.message()


def test_method_that_nobody_serves(triton_grpc: Any, grpc_client: Any) -> None:
    with pytest.raises(triton_grpc.InferenceServerException) as refused:
        grpc_client.get_server_metadata()
    assert refused.value.status() == "StatusCode.UNIMPLEMENTED"
