"""Calls of gRPC as the data plane relays them: the message is the body of a POST, and so is the answer."""

import json
from typing import Any

import pytest

from penstock import __version__
from penstock.control.grpc import contract
from tests.integration.control_plane import Control, assert_problem

INFERENCE = "inference.GRPCInferenceService"
REFLECTION = ["grpc.reflection.v1", "grpc.reflection.v1alpha"]
OPERATOR = {"X-Penstock-Principal": "k1", "X-Penstock-Role": "operator"}
PREDICT = {"X-Penstock-Principal": "k1", "X-Penstock-Role": "predict"}


def path_of(method: str) -> str:
    return f"/grpc/{INFERENCE}/{method}"


def call(control: Control, method: str, headers: dict[str, str] | None = None, **fields: Any) -> Any:
    request = contract.describe(f"inference.{method}Request", fields)
    response, body = control.request("POST", path_of(method), headers, request)
    assert response.status == 200, body
    assert response.headers["Content-Type"] == "application/grpc"
    return contract.read(f"inference.{method}Response", body)


def refusal(control: Control, method: str, status: int, code: str, body: bytes = b"", **headers: str) -> str:
    problem = assert_problem(*control.request("POST", path_of(method), headers, body), status, code)
    return str(problem["detail"])


def reflect(control: Control, package: str, **fields: Any) -> Any:
    request = contract.describe(f"{package}.ServerReflectionRequest", {"host": "here", **fields})
    path = f"/grpc/{package}.ServerReflection/ServerReflectionInfo"
    response, body = control.request("POST", path, None, request)
    assert response.status == 200, body
    answer = contract.read(f"{package}.ServerReflectionResponse", body)
    assert answer.valid_host == "here"
    assert answer.original_request.SerializeToString() == request
    return answer


def test_server_is_described(control: Control) -> None:
    answer = call(control, "ServerMetadata")
    assert (answer.name, answer.version) == ("penstock", __version__)
    assert list(answer.extensions) == control.get("/v2")["extensions"]


def test_tensors_are_those_of_rest(control: Control) -> None:
    answer = call(control, "ModelMetadata", name="digits", version="1")
    assert (answer.name, list(answer.versions), answer.platform) == ("digits", ["1"], "onnxruntime_onnx")
    assert [(each.name, each.datatype, list(each.shape)) for each in answer.inputs] == [("pixels", "FP32", [-1, 64])]


def test_configuration_is_that_of_rest(control: Control) -> None:
    config = call(control, "ModelConfig", name="digits").config
    told = control.get("/v2/models/digits/config")
    assert (config.name, config.backend, config.max_batch_size) == ("digits", "onnxruntime", told["max_batch_size"])
    assert list(config.version_policy.specific.versions) == [1]
    assert list(config.dynamic_batching.preferred_batch_size) == told["dynamic_batching"]["preferred_batch_size"]
    assert [list(each.dims) for each in config.output] == [[], [10]]
    assert config.instance_group[0].kind == 2  # KIND_CPU


@pytest.mark.parametrize("asked", [{}, {"name": "digits"}, {"name": "digits", "version": "latest"}])
def test_statistics_are_those_of_rest(control: Control, asked: dict[str, str]) -> None:
    (answer,) = call(control, "ModelStatistics", **asked).model_stats
    (told,) = control.get("/v2/models/stats")["model_stats"]
    assert (answer.inference_count, answer.execution_count) == (told["inference_count"], told["execution_count"])
    assert answer.inference_stats.queue.ns == told["inference_stats"]["queue"]["ns"]
    assert [each.batch_size for each in answer.batch_stats] == [1, 4]


def test_repository_needs_a_role(control: Control) -> None:
    listed = call(control, "RepositoryIndex", PREDICT).models
    assert [(each.name, each.state) for each in listed] == [("digits", "READY"), ("broken", "UNAVAILABLE")]
    assert [each.name for each in call(control, "RepositoryIndex", PREDICT, ready=True).models] == ["digits"]
    refusal(control, "RepositoryIndex", 401, "unauthorized")
    for method in ("RepositoryModelLoad", "RepositoryModelUnload"):
        message = contract.describe(f"inference.{method}Request", {"model_name": "digits"})
        refusal(control, method, 401, "unauthorized", message)
        refusal(control, method, 403, "forbidden", message, **PREDICT)


@pytest.mark.parametrize("method", ["RepositoryModelLoad", "RepositoryModelUnload"])
def test_repository_refuses_what_it_does_not_know(control: Control, method: str) -> None:
    def refused(**fields: Any) -> str:
        message = contract.describe(f"inference.{method}Request", fields)
        return refusal(control, method, 422, "invalid_input", message, **OPERATOR)

    assert "repository_name" in refused(model_name="digits", repository_name="other")
    assert "model_name" in refused(model_name="")
    assert "parameters.files" in refused(model_name="digits", parameters={"files": {"string_param": "x"}})


@pytest.mark.parametrize(
    ("method", "status", "code", "words"),
    [
        ("Nothing", 404, "not_found", "no method /inference.GRPCInferenceService/Nothing"),
        ("ModelInfer", 404, "not_found", "no method"),  # the data plane answers it
        ("SystemSharedMemoryStatus", 501, "not_implemented", "shared memory is not served"),
        ("CudaSharedMemoryRegister", 501, "not_implemented", "shared memory is not served"),
        ("TraceSetting", 501, "not_implemented", "trace_endpoint"),
        ("LogSettings", 501, "not_implemented", "log_level"),
    ],
)
def test_methods_that_are_not_served(control: Control, method: str, status: int, code: str, words: str) -> None:
    assert words in refusal(control, method, status, code)


def test_body_that_is_no_message(control: Control) -> None:
    assert "no inference.ModelMetadataRequest" in refusal(control, "ModelMetadata", 400, "malformed_body", b"\x0a\xff")
    assert "no inference.ModelMetadataRequest" in refusal(
        control, "ModelMetadata", 400, "malformed_body", b"\x0a\x01\xff"
    )


def test_models_that_are_not_there(control: Control) -> None:
    for name, version, code in (("nothing", "", "model_not_found"), ("digits", "9", "version_not_found")):
        message = contract.describe("inference.ModelMetadataRequest", {"name": name, "version": version})
        refusal(control, "ModelMetadata", 404, code, message)
    refusal(control, "ModelMetadata", 422, "invalid_input")


@pytest.mark.parametrize("package", REFLECTION)
def test_reflection(control: Control, package: str) -> None:
    listed = reflect(control, package, list_services="*").list_services_response.service
    assert {each.name for each in listed} == {
        INFERENCE,
        "grpc.health.v1.Health",
        *(f"{each}.ServerReflection" for each in REFLECTION),
    }
    for each in listed:
        (file,) = reflect(
            control, package, file_containing_symbol=each.name
        ).file_descriptor_response.file_descriptor_proto
        assert file == contract.file_with(each.name)
    by_name = reflect(control, package, file_by_filename="inference.proto")
    for symbol in (f"{INFERENCE}.ModelInfer", "inference.ModelInferRequest", "inference.ModelInferRequest.id"):
        by_symbol = reflect(control, package, file_containing_symbol=symbol)
        assert by_symbol.file_descriptor_response == by_name.file_descriptor_response, symbol
    numbers = reflect(control, package, all_extension_numbers_of_type="inference.ModelInferRequest")
    assert list(numbers.all_extension_numbers_response.extension_number) == []
    assert numbers.all_extension_numbers_response.base_type_name == "inference.ModelInferRequest"


@pytest.mark.parametrize(
    ("asked", "code"),
    [
        ({"file_by_filename": "nothing.proto"}, 5),
        ({"file_containing_symbol": "nothing.Here"}, 5),
        ({"all_extension_numbers_of_type": "nothing.Here"}, 5),
        ({"file_containing_extension": {"containing_type": "inference.ModelInferRequest", "extension_number": 7}}, 5),
        ({}, 3),
    ],
)
@pytest.mark.parametrize("package", REFLECTION)
def test_reflection_says_what_is_not_there(control: Control, package: str, asked: dict[str, Any], code: int) -> None:
    assert reflect(control, package, **asked).error_response.error_code == code


def test_without_protobuf_the_extra_is_named(control: Control, monkeypatch: pytest.MonkeyPatch) -> None:
    """As where it is not installed: importing it fails."""
    import sys

    monkeypatch.delitem(sys.modules, "penstock.control.grpc.methods", raising=False)
    monkeypatch.setitem(sys.modules, "penstock.control.grpc.contract", None)
    monkeypatch.delattr("penstock.control.grpc.contract", raising=False)
    detail = refusal(control, "ServerMetadata", 501, "not_implemented")
    assert "pip install 'penstock[grpc]'" in detail
    assert "shared memory" in refusal(control, "SystemSharedMemoryStatus", 501, "not_implemented")


def test_problems_are_json_that_the_data_plane_reads(control: Control) -> None:
    response, body = control.request("POST", path_of("Nothing"))
    assert response.headers["Content-Type"] == "application/problem+json"
    assert json.loads(body)["code"] == "not_found"
