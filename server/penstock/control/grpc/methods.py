"""Methods of the Open Inference Protocol over gRPC, answered by the resources that answer the same over REST."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, cast

from penstock.control import oip
from penstock.control.grpc import contract, reflection
from penstock.control.reading import Members, read_name
from penstock.control.resources.oip import AllStatistics, ModelConfiguration, ModelMetadata, ModelStatistics
from penstock.control.resources.repository import RepositoryIndex, RepositoryLoad, RepositoryUnload
from penstock.control.state import ServerState
from penstock.core.errors import RequestError

__all__ = ["call"]

_INFERENCE = "inference.GRPCInferenceService"
_REFLECTION = ("grpc.reflection.v1", "grpc.reflection.v1alpha")

_Answer = Mapping[str, object]


def call(state: ServerState, service: str, method: str, content: bytes) -> bytes:
    """Answer a message with a message; RequestError says why not (`not_found`: no such method)."""
    package = service.removesuffix(".ServerReflection")
    if package in _REFLECTION and package != service and method == "ServerReflectionInfo":
        return reflection.answer(package, content)
    answer = _METHODS.get(method) if service == _INFERENCE else None
    if answer is None:
        raise RequestError("not_found", f"no method /{service}/{method} is served here")
    request = contract.read(f"inference.{method}Request", content)
    return contract.describe(f"inference.{method}Response", dict(answer(state, request)))


def _server_metadata(state: ServerState, request: Any) -> _Answer:
    return oip.server_metadata()


def _model_metadata(state: ServerState, request: Any) -> _Answer:
    return ModelMetadata(state=state).get(*_model_in(request))


def _model_config(state: ServerState, request: Any) -> _Answer:
    config = dict(ModelConfiguration(state=state).get(*_model_in(request)))
    (version,) = cast(Any, config["version_policy"])["specific"]["versions"]
    if not version.isdecimal():  # the protocol's are numbers
        del config["version_policy"]
    return {"config": config}


def _model_statistics(state: ServerState, request: Any) -> _Answer:
    if not request.name and not request.version:
        return AllStatistics(state=state).get()
    return ModelStatistics(state=state).get(*_model_in(request))


def _repository_index(state: ServerState, request: Any) -> _Answer:
    _refuse_repository(request)
    return {"models": RepositoryIndex(state=state).entries(ready=request.ready)}


def _repository_load(state: ServerState, request: Any) -> _Answer:
    _refuse_repository(request)
    RepositoryLoad(state=state).load(read_name(request.model_name, "model_name"), _parameters(request))
    return {}


def _repository_unload(state: ServerState, request: Any) -> _Answer:
    _refuse_repository(request)
    parameters = Members(_parameters(request), "parameters.")
    RepositoryUnload(state=state).unload(read_name(request.model_name, "model_name"), parameters)
    return {}


_METHODS: dict[str, Callable[[ServerState, Any], _Answer]] = {
    "ServerMetadata": _server_metadata,
    "ModelMetadata": _model_metadata,
    "ModelConfig": _model_config,
    "ModelStatistics": _model_statistics,
    "RepositoryIndex": _repository_index,
    "RepositoryModelLoad": _repository_load,
    "RepositoryModelUnload": _repository_unload,
}


def _model_in(request: Any) -> tuple[str, str | None]:
    return read_name(request.name, "name"), request.version or None


def _parameters(request: Any) -> dict[str, object]:
    return {
        name: getattr(value, value.WhichOneof("parameter_choice") or "bool_param")
        for name, value in request.parameters.items()
    }


def _refuse_repository(request: Any) -> None:
    if request.repository_name:
        raise RequestError("invalid_input", "repository_name: there is one repository, and it has no name")
