"""The JSON schemas of registered models, aliases, history and keys, as the OpenAPI document uses them."""

from __future__ import annotations

from typing import Any

from penstock.control.schemas import COUNT, NAME, SECONDS, TEXT_OR_NULL, VERSION_PROPERTIES, record
from penstock.core.config import BackendName
from penstock.registry.records import EventKind, Role

__all__ = ["REGISTRY_SCHEMAS"]

_TEXT = {"type": "string"}
_MOMENT = {"type": "string", "format": "date-time"}
_NAME_OR_NULL = {"anyOf": [NAME, {"type": "null"}]}
_SHA256 = {"type": "string", "pattern": "^[0-9a-f]{64}$"}
_TAGS = {"type": "array", "items": _TEXT}
_TEXTS = {"type": "object", "additionalProperties": _TEXT}
_NUMBERS = {"type": "object", "additionalProperties": {"type": "number"}}
_ROLE = {"enum": [role.value for role in Role]}
_REFERENCE = {"type": "string", "description": "A version, an alias, or 'latest'."}
_CLOSED = {"additionalProperties": False}
_ALLOW_SCHEMA_CHANGE = {
    "type": "boolean",
    "default": False,
    "description": "Let it answer even if its inputs or outputs break clients of the version that answers.",
}

_METADATA: dict[str, Any] = {
    "description": _TEXT,
    "owner": _TEXT,
    "tags": _TAGS,
    "framework": _TEXT,
    "training_data": _TEXT,
    "metrics": _NUMBERS,
    "lineage": {**_TEXTS, "description": "What the version was made from, by kind."},
    "environment": {**_TEXTS, "description": "Packages that it was made with, and their versions."},
}
_CARD = {"type": "string", "description": "A model card in Markdown."}
_FILES = {"type": "array", "items": record({"path": _TEXT, "bytes": COUNT, "sha256": _SHA256})}
_SETTINGS = {"type": "object", "description": "Settings of a model as the configuration file has them."}
_KEY: dict[str, Any] = {
    "id": _TEXT,
    "name": _TEXT,
    "role": _ROLE,
    "created_at": _MOMENT,
    "created_by": _TEXT,
    "revoked_at": {"anyOf": [_MOMENT, {"type": "null"}]},
}


def _request(properties: dict[str, Any], *required: str) -> dict[str, Any]:
    """Describe the body of a request: what is not required may be left out, and nothing else may be there."""
    return record(properties, optional=tuple(name for name in properties if name not in required)) | _CLOSED


REGISTRY_SCHEMAS: dict[str, Any] = {
    "Registration": record(
        {
            "digest": {**_SHA256, "description": "SHA-256 of the manifest: the version's content."},
            "bytes": COUNT,
            "registered_at": _MOMENT,
            "registered_by": _TEXT,
            "backend": {"enum": [backend.value for backend in BackendName]},
            "metadata": record(_METADATA),
            "settings": _SETTINGS,
            "load_seconds": {"anyOf": [SECONDS, {"type": "null"}]},
        }
    ),
    "RegisterRequest": _request(
        {
            "name": NAME,
            "version": {
                **_NAME_OR_NULL,
                "description": "A semantic version; without one the next minor version is taken.",
            },
            "path": {"type": "string", "description": "A file or folder of the server's file system, absolute."},
            "url": {"type": "string", "description": "Or a URL that fsspec knows, such as s3://bucket/model.onnx."},
            "backend": {"enum": [backend.value for backend in BackendName], "default": "auto"},
            **_METADATA,
            "card": _CARD,
            "settings": _SETTINGS,
        },
        "name",
    )
    | {"oneOf": [{"required": ["path"]}, {"required": ["url"]}]},
    "Registered": record(
        {
            "name": NAME,
            "version": NAME,
            "registration": {"$ref": "#/components/schemas/Registration"},
            "files": _FILES,
            "card": _CARD,
        }
    ),
    "Version": record({"name": NAME, **VERSION_PROPERTIES, "files": _FILES, "card": _CARD}),
    "Removed": record({"name": NAME, "version": NAME, "removed": {"const": True}}, optional=("version",)),
    "LoadRequest": _request(
        {
            "version": {"anyOf": [_REFERENCE, {"type": "null"}]},
            "lazy": {"type": "boolean", "default": False, "description": "Load it at the first request for it."},
        }
    ),
    "Loading": record({"name": NAME, "version": TEXT_OR_NULL, "lazy": {"type": "boolean"}}),
    "UnloadRequest": _request({"version": {"anyOf": [_REFERENCE, {"type": "null"}]}}),
    "Unloading": record({"name": NAME, "version": TEXT_OR_NULL}),
    "Alias": record({"name": NAME, "alias": NAME, "version": NAME}),
    "AliasRequest": _request(
        {
            "version": _REFERENCE,
            "reason": _TEXT,
            "expected": {**_NAME_OR_NULL, "description": "What it must point to now; null for nothing."},
            "allow_schema_change": _ALLOW_SCHEMA_CHANGE,
        },
        "version",
    ),
    "AliasChange": record(
        {
            "name": NAME,
            "alias": NAME,
            "version": {**_NAME_OR_NULL, "description": "null when the alias was taken away."},
            "previous": _NAME_OR_NULL,
            "at": _MOMENT,
            "by": _TEXT,
            "reason": _TEXT,
        }
    ),
    "PromoteRequest": _request(
        {
            "version": _REFERENCE,
            "reason": _TEXT,
            "mirror": {
                "description": "Compare it with the version that answers, on live requests, before it takes them over.",
                **_request(
                    {
                        "share": {"type": "number", "exclusiveMinimum": 0, "maximum": 1, "default": 0.1},
                        "rows": {"type": "integer", "minimum": 1, "default": 100},
                        "rtol": {"type": "number", "minimum": 0, "default": 1e-4},
                        "atol": {"type": "number", "minimum": 0, "default": 1e-6},
                        "timeout_s": {"type": "number", "exclusiveMinimum": 0, "default": 60.0},
                    }
                ),
            },
            "allow_schema_change": _ALLOW_SCHEMA_CHANGE,
        },
        "version",
    ),
    "RollbackRequest": _request({"reason": _TEXT}),
    "Event": record(
        {
            "number": COUNT,
            "at": _MOMENT,
            "version": _NAME_OR_NULL,
            "kind": {"enum": [kind.value for kind in EventKind]},
            "by": _TEXT,
            "node": {"type": "string", "description": "The server that it happened on; empty for the registry."},
            "detail": _TEXT,
        }
    ),
    "History": record(
        {
            "name": NAME,
            "at": {"anyOf": [_MOMENT, {"type": "null"}]},
            "events": {"type": "array", "items": {"$ref": "#/components/schemas/Event"}},
            "next": {"type": ["integer", "null"], "description": "What `before` is for the next page."},
        }
    ),
    "Key": record(_KEY),
    "KeyList": record({"keys": {"type": "array", "items": {"$ref": "#/components/schemas/Key"}}}),
    "KeyRequest": _request({"name": NAME, "role": _ROLE}, "name", "role"),
    "NewKey": record({**_KEY, "key": {"type": "string", "description": "What opens; it is never shown again."}}),
    "RepositoryIndexRequest": _request({"ready": {"type": "boolean", "default": False}}),
    "RepositoryIndex": {
        "type": "array",
        "items": record(
            {
                "name": NAME,
                "version": NAME,
                "state": {"enum": ["READY", "UNAVAILABLE", "LOADING", "UNLOADING"]},
                "reason": _TEXT,
            }
        ),
    },
    "RepositoryRequest": _request({"parameters": {"type": "object"}}),
}
