"""tritonclient's gRPC side, unmodified, against the port that answers HTTP, too."""

import json
import queue
import threading
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock import __version__
from tests.clients.element_types import DTYPES
from tests.clients.test_triton_infer import values
from tests.integration.supervised import until
from tests.serving import Server

pytestmark = pytest.mark.clients


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
        number, result, error = answers.get(timeout=300)
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


def test_server_says_who_it_is(grpc_client: Any) -> None:
    metadata = grpc_client.get_server_metadata()
    assert (metadata.name, metadata.version) == ("penstock", __version__)
    assert {"model_configuration", "model_repository", "statistics"} <= set(metadata.extensions)


@pytest.mark.parametrize("version", ["", "1"])
def test_metadata(grpc_client: Any, version: str) -> None:
    metadata = grpc_client.get_model_metadata("pair", version)
    assert (metadata.name, list(metadata.versions), metadata.platform) == ("pair", ["1"], "onnxruntime_onnx")
    assert [(each.name, each.datatype, list(each.shape)) for each in metadata.inputs] == [
        ("a", "FP32", [-1, 2, 3]),
        ("b", "INT64", [-1, 5]),
    ]
    assert grpc_client.get_model_metadata("pair", version, as_json=True)["outputs"][1]["name"] == "total"


def test_configuration(grpc_client: Any) -> None:
    config = grpc_client.get_model_config("affine").config
    assert (config.name, config.backend, config.max_batch_size) == ("affine", "onnxruntime", 64)
    assert [(each.name, each.data_type, list(each.dims)) for each in config.input] == [("x", 11, [4])]
    assert config.HasField("dynamic_batching")
    assert not config.model_transaction_policy.decoupled


def test_statistics(triton_grpc: Any, grpc_client: Any) -> None:
    listed = {each.name for each in grpc_client.get_inference_statistics().model_stats}
    assert {"affine", "pair", "tokens", "echo", "types"} <= listed
    (before,) = grpc_client.get_inference_statistics("affine").model_stats
    grpc_client.infer("affine", [an_input(triton_grpc, "x", row(1, 2, 3, 4), "FP32")])
    (after,) = grpc_client.get_inference_statistics("affine", "1").model_stats
    assert after.inference_count > before.inference_count
    assert after.inference_stats.success.count > before.inference_stats.success.count


def test_repository_lists_what_is_served(grpc_client: Any) -> None:
    index = grpc_client.get_model_repository_index().models
    assert ("affine", "1", "READY", "") in [(each.name, each.version, each.state, each.reason) for each in index]


def test_registered_model_is_loaded_and_unloaded(
    triton_grpc: Any, grpc_client: Any, foreign_server: Server, registered_file: Path
) -> None:
    body = json.dumps({"name": "lent-by-grpc", "path": str(registered_file)})
    assert foreign_server.request("POST", "/models", body, {"Content-Type": "application/json"}).status == 201
    assert not grpc_client.is_model_ready("lent-by-grpc")
    grpc_client.load_model("lent-by-grpc")
    assert grpc_client.is_model_ready("lent-by-grpc")
    with pytest.raises(
        triton_grpc.InferenceServerException, match=r"parameters\.config: files and settings"
    ) as refused:
        grpc_client.load_model("lent-by-grpc", config="{}")
    assert refused.value.status() == "StatusCode.INVALID_ARGUMENT"
    grpc_client.unload_model("lent-by-grpc")
    until(lambda: not grpc_client.is_model_ready("lent-by-grpc"), "the model is gone")


@pytest.mark.parametrize(
    ("ask", "status", "words"),
    [
        (lambda client: client.get_model_metadata("nothing"), "NOT_FOUND", "no model 'nothing'"),
        (lambda client: client.get_model_config("affine", "9"), "NOT_FOUND", "has no version '9'"),
        (lambda client: client.get_inference_statistics("nothing"), "NOT_FOUND", "no model 'nothing'"),
        (lambda client: client.load_model("affine"), "ABORTED", "belongs to this server's configuration"),
        (lambda client: client.get_trace_settings(), "UNIMPLEMENTED", "trace_endpoint"),
        (lambda client: client.get_log_settings(), "UNIMPLEMENTED", "log_level"),
        (lambda client: client.get_system_shared_memory_status(), "UNIMPLEMENTED", "shared memory is not served"),
        (lambda client: client.get_cuda_shared_memory_status(), "UNIMPLEMENTED", "shared memory is not served"),
    ],
)
def test_refusals_of_administration(triton_grpc: Any, grpc_client: Any, ask: Any, status: str, words: str) -> None:
    with pytest.raises(triton_grpc.InferenceServerException) as refused:
        ask(grpc_client)
    assert refused.value.status() == f"StatusCode.{status}"
    assert words in refused.value.message()
