"""The routes of models, versions, aliases, keys and the model repository extension, for the interface description."""

from __future__ import annotations

from penstock.control.openapi_parts import Json, json_body, operation
from penstock.registry.records import Role

__all__ = ["MODEL_PATHS"]

_REGISTRY = ("registry_unavailable",)
_MODEL = (*_REGISTRY, "model_not_found")
_VERSION = (*_MODEL, "version_not_found")
_CHANGE = (*_VERSION, "conflict")
_LOAD = (*_CHANGE, "load_failed")


def _registration() -> Json:
    document = json_body("RegisterRequest")
    document["content"]["application/x-tar"] = {}
    document["description"] = (
        "What to register, from a path of the server's file system or a URL; or a tar archive of the files, with the "
        "same members but those two in the query, or in a file penstock.json at the archive's top."
    )
    return document


MODEL_PATHS: Json = {
    "/models": {
        "get": operation(
            "listModels", "List the model versions", "ModelList", codes=("invalid_input",), takes=("Limit", "After")
        ),
        "post": operation(
            "registerVersion",
            "Register a model version",
            "Registered",
            codes=(*_REGISTRY, "conflict"),
            body=_registration(),
            role=Role.ADMIN,
            created=True,
        ),
    },
    "/models/{name}": {
        "get": operation(
            "describeModel", "Describe a model", "Model", codes=("invalid_input", "model_not_found"), takes=("Name",)
        ),
        "delete": operation(
            "removeModel",
            "Remove a model with all its versions",
            "Removed",
            codes=(*_CHANGE, "invalid_input"),
            takes=("Name",),
            role=Role.ADMIN,
        ),
    },
    "/models/{name}/versions/{version}": {
        "get": operation(
            "describeVersion",
            "Describe a version, its files and its card",
            "Version",
            codes=(*_VERSION, "invalid_input"),
            takes=("Name", "Version"),
        ),
        "delete": operation(
            "removeVersion",
            "Remove a version",
            "Removed",
            codes=(*_CHANGE, "invalid_input"),
            takes=("Name", "Version"),
            role=Role.ADMIN,
        ),
    },
    "/models/{name}/load": {
        "post": operation(
            "loadVersion",
            "Have a version in memory",
            "Loading",
            codes=_LOAD,
            takes=("Name",),
            body=json_body("LoadRequest", required=False),
            role=Role.OPERATOR,
        )
    },
    "/models/{name}/unload": {
        "post": operation(
            "unloadVersion",
            "Have a version in memory no longer",
            "Unloading",
            codes=_CHANGE,
            takes=("Name",),
            body=json_body("UnloadRequest", required=False),
            role=Role.OPERATOR,
        )
    },
    "/models/{name}/aliases/{alias}": {
        "get": operation(
            "describeAlias",
            "Say where an alias points",
            "Alias",
            codes=(*_VERSION, "invalid_input"),
            takes=("Name", "Alias"),
        ),
        "put": operation(
            "setAlias",
            "Point an alias to a version",
            "AliasChange",
            codes=_LOAD,
            takes=("Name", "Alias"),
            body=json_body("AliasRequest"),
            role=Role.OPERATOR,
        ),
        "delete": operation(
            "removeAlias",
            "Take an alias away",
            "AliasChange",
            codes=(*_CHANGE, "invalid_input"),
            takes=("Name", "Alias", "Reason", "Expected"),
            role=Role.OPERATOR,
        ),
    },
    "/models/{name}/promote": {
        "post": operation(
            "promoteVersion",
            "Let another version answer, once it has proved itself",
            "Alias",
            codes=_LOAD,
            takes=("Name",),
            body=json_body("PromoteRequest"),
            role=Role.OPERATOR,
        )
    },
    "/models/{name}/rollback": {
        "post": operation(
            "rollBack",
            "Let the version answer that did before",
            "Alias",
            codes=_LOAD,
            takes=("Name",),
            body=json_body("RollbackRequest", required=False),
            role=Role.OPERATOR,
        )
    },
    "/models/{name}/history": {
        "get": operation(
            "readHistory",
            "List what happened to a model, or which version answered at a time",
            "History",
            codes=(*_MODEL, "invalid_input"),
            takes=("Name", "At", "EventLimit", "Before"),
        )
    },
    "/keys": {
        "get": operation("listKeys", "List the keys", "KeyList", codes=(*_REGISTRY, "invalid_input"), role=Role.ADMIN),
        "post": operation(
            "createKey",
            "Make a key",
            "NewKey",
            codes=(*_REGISTRY, "conflict"),
            body=json_body("KeyRequest"),
            role=Role.ADMIN,
            created=True,
        ),
    },
    "/keys/{id}": {
        "delete": operation(
            "revokeKey",
            "Revoke a key",
            "Key",
            codes=(*_REGISTRY, "not_found", "invalid_input"),
            takes=("KeyId",),
            role=Role.ADMIN,
        )
    },
    "/v2/repository/index": {
        "post": operation(
            "indexRepository",
            "List the model versions (Open Inference Protocol)",
            "RepositoryIndex",
            body=json_body("RepositoryIndexRequest", required=False),
            role=Role.PREDICT,
        )
    },
    "/v2/repository/models/{name}/load": {
        "post": operation(
            "loadRepositoryModel",
            "Load a model (Open Inference Protocol)",
            None,
            codes=_LOAD,
            takes=("Name",),
            body=json_body("RepositoryRequest", required=False),
            role=Role.OPERATOR,
        )
    },
    "/v2/repository/models/{name}/unload": {
        "post": operation(
            "unloadRepositoryModel",
            "Unload a model (Open Inference Protocol)",
            None,
            codes=_CHANGE,
            takes=("Name",),
            body=json_body("RepositoryRequest", required=False),
            role=Role.OPERATOR,
        )
    },
}
