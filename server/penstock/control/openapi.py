"""The OpenAPI 3.1 description of every public route, predictions and health included.

Errors come from the problem catalogue, so the document cannot name one that the server does not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache
from itertools import groupby
from typing import Any

from penstock import __version__
from penstock.control.schemas import SCHEMAS
from penstock.core.problems import PROBLEMS

__all__ = ["openapi_document"]

_Json = dict[str, Any]

# Anything may meet these: what is wrong with the request itself, and a server with no room.
_ANY_REQUEST = (
    "malformed_request",
    "request_timeout",
    "body_too_large",
    "uri_too_long",
    "expectation_failed",
    "head_too_large",
    "not_implemented",
    "connections_exhausted",
    "draining",
    "http_version_not_supported",
)
_BY_NAME = ("model_not_found",)
_CONTROL = ("not_acceptable", "internal_error", "control_plane_unavailable")
_PREDICT = (
    "malformed_body",
    "contradiction",
    "model_not_found",
    "version_not_found",
    "not_acceptable",
    "length_required",
    "unsupported_media_type",
    "invalid_input",
    "too_many_requests",
    "model_error",
    "queue_full",
    "deadline_unreachable",
    "memory_exhausted",
    "model_unavailable",
    "worker_died",
    "deadline_exceeded",
)


@cache
def openapi_document() -> _Json:
    """Return the document; the same object each time, so leave it as it is."""
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Penstock",
            "version": __version__,
            "summary": "A dynamic-batching inference server.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": {
            "/predict": {"post": _predict()},
            "/models": {"get": _get("listModels", "List the model versions", "ModelList")},
            "/models/{name}": {
                "get": _get("describeModel", "Describe a model", "Model", ("model_not_found",), ["Name"])
            },
            "/health/live": {"get": _health("isLive", "Whether the process answers")},
            "/health/ready": {"get": _health("isReady", "Whether every model can be asked", ("model_unavailable",))},
            "/health": {"get": _health("isLiveAlias", "The same as /health/live")},
            "/ready": {"get": _health("isReadyAlias", "The same as /health/ready", ("model_unavailable",))},
            "/metrics": {"get": _metrics()},
            "/openapi.json": {"get": _get("describeInterface", "This document", "OpenApi")},
            "/": {"get": _get("index", "What this is and where to go on", "Index")},
        },
        "components": {
            "schemas": SCHEMAS | {"Problem": _problem_schema()},
            "parameters": _parameters(),
            "headers": {
                "RequestId": {
                    "description": "The request's X-Request-Id, or one that the server made.",
                    "schema": {"type": "string"},
                }
            },
        },
    }


def _predict() -> _Json:
    row = {"$ref": "#/components/schemas/PredictRequest"}
    outputs = {"$ref": "#/components/schemas/PredictResponse"}
    # OpenAPI 3.1 describes raw bytes by a media type without a schema.
    return {
        "operationId": "predict",
        "summary": "Run a model on one row",
        "description": "One request is one row, without a batch dimension. The server makes the batches.",
        "tags": ["prediction"],
        "parameters": _references("ModelName", "ModelVersion", "Output", "RequestId", *_OPTIONS),
        "requestBody": {
            "required": True,
            "description": "A raw body is one row of a single-input model, or many: little-endian, C order.",
            "content": {
                "application/json": {"schema": row},
                "application/msgpack": {"schema": row},
                "application/octet-stream": {},
            },
        },
        "responses": {
            "200": {
                "description": "The row's outputs. Accept chooses the encoding; raw is one output's tensor.",
                "headers": {**_RESPONSE_HEADERS, **_RECEIPT_HEADERS},
                "content": {
                    "application/json": {"schema": outputs},
                    "application/msgpack": {"schema": outputs},
                    "application/octet-stream": {},
                },
            },
            **_problems((*_PREDICT, *_ANY_REQUEST)),
        },
    }


def _get(operation: str, summary: str, schema: str, codes: Iterable[str] = (), parameters: Iterable[str] = ()) -> _Json:
    content = {"application/json": {"schema": {"$ref": f"#/components/schemas/{schema}"}}}
    return {
        "operationId": operation,
        "summary": summary,
        "tags": ["administration"],
        "parameters": _references(*parameters, "RequestId"),
        "responses": {
            "200": {"description": "As asked.", "headers": _RESPONSE_HEADERS, "content": content},
            **_problems((*codes, *_CONTROL, *_ANY_REQUEST)),
        },
    }


def _health(operation: str, summary: str, codes: Iterable[str] = ()) -> _Json:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Health"}}}
    return {
        "operationId": operation,
        "summary": summary,
        "tags": ["health"],
        "parameters": _references("RequestId"),
        "responses": {
            "200": {"description": "Yes.", "headers": _RESPONSE_HEADERS, "content": content},
            **_problems((*codes, *_ANY_REQUEST)),
        },
    }


def _metrics() -> _Json:
    text = {"schema": {"type": "string"}}
    return {
        "operationId": "metrics",
        "summary": "Counters and histograms for Prometheus",
        "tags": ["administration"],
        "parameters": _references("RequestId"),
        "responses": {
            "200": {
                "description": "The text format, or OpenMetrics where Accept prefers it.",
                "headers": _RESPONSE_HEADERS,
                "content": {"text/plain": text, "application/openmetrics-text": text},
            },
            **_problems(("internal_error", "control_plane_unavailable", *_ANY_REQUEST)),
        },
    }


_RESPONSE_HEADERS: Mapping[str, object] = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}
_RECEIPT_HEADERS: Mapping[str, object] = {
    f"X-Penstock-{name}": {"description": f"With a receipt: {what}.", "schema": {"type": kind}}
    for name, kind, what in (
        ("Queue-Us", "integer", "microseconds from arrival to the batch being taken"),
        ("Batch-Us", "integer", "microseconds from there to the batch being done"),
        ("Run-Us", "integer", "of these, the model's own"),
        ("Batch-Rows", "integer", "rows that ran together"),
        ("Padding", "number", "share of the batch that was padding"),
        ("Sealed", "string", "why the batch was no larger"),
        ("Model-Version", "string", "the version that answered"),
        ("Instance", "integer", "the worker that ran it"),
    )
}
_OPTIONS = ("RequestTimeout", "Priority", "Reproducible", "Receipt")
_RETRY_AFTER: Mapping[str, object] = {
    "Retry-After": {"description": "Seconds to wait before the next attempt.", "schema": {"type": "integer"}}
}


def _problems(codes: Iterable[str]) -> _Json:
    """Describe the refusals of an operation, by status; several codes may share one."""
    entries = sorted((PROBLEMS[code] for code in codes), key=lambda entry: entry.status)
    responses: _Json = {}
    for status, group in groupby(entries, key=lambda entry: entry.status):
        meant = list(group)
        examples = {
            entry.code: {
                "summary": entry.title,
                "value": {
                    "type": f"/problems/{entry.code}",
                    "title": entry.title,
                    "status": entry.status,
                    "detail": "what is wrong with this request",
                    "code": entry.code,
                    "request_id": "4bf92f3577b34da6a3ce929d0e0e4736",
                },
            }
            for entry in meant
        }
        responses[str(status)] = {
            "description": " or ".join(entry.title for entry in meant),
            "headers": {**_RESPONSE_HEADERS, **(_RETRY_AFTER if status in (429, 503) else {})},
            "content": {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}
            },
        }
    return responses


def _problem_schema() -> _Json:
    return {
        "type": "object",
        "description": "Why a request was refused (RFC 9457).",
        "required": ["type", "title", "status", "detail", "code", "request_id"],
        "properties": {
            "type": {"type": "string", "format": "uri-reference"},
            "title": {"type": "string", "description": "Never varies for a code."},
            "status": {"type": "integer", "minimum": 400, "maximum": 599},
            "detail": {"type": "string", "description": "For people; may change."},
            "code": {"enum": list(PROBLEMS), "description": "Stable; for programs."},
            "request_id": {"type": "string"},
        },
    }


def _parameters() -> _Json:
    name: _Json = {"$ref": "#/components/schemas/Name"}
    return {
        "Name": {"name": "name", "in": "path", "required": True, "schema": name},
        "ModelName": {
            "name": "model",
            "in": "query",
            "description": "May stand here or in the body, or be left out when one model is served.",
            "schema": name,
        },
        "ModelVersion": {
            "name": "version",
            "in": "query",
            "description": "A version or 'latest', which is also what is meant without one.",
            "schema": name,
        },
        "Output": {
            "name": "output",
            "in": "query",
            "description": "The output to send as application/octet-stream.",
            "schema": {"type": "string"},
        },
        "RequestId": {
            "name": "X-Request-Id",
            "in": "header",
            "description": "Returned with the reply and written in logs. Visible ASCII without quotes and backslash.",
            "schema": {"type": "string", "minLength": 1, "maxLength": 128},
        },
        "RequestTimeout": {
            "name": "X-Request-Timeout-Ms",
            "in": "header",
            "description": "Milliseconds after which the answer is of no use; it is then a 504.",
            "schema": {"type": "integer", "minimum": 1, "maximum": 86400000},
        },
        "Priority": {
            "name": "X-Request-Priority",
            "in": "header",
            "description": "Which of the model's rows go first.",
            "schema": {"type": "string", "enum": ["interactive", "normal", "batch"], "default": "normal"},
        },
        "Reproducible": {
            "name": "X-Penstock-Reproducible",
            "in": "header",
            "description": "Run in a batch of fixed size with no other request's rows.",
            "schema": {"type": "string", "enum": ["true", "false"], "default": "false"},
        },
        "Receipt": {
            "name": "X-Penstock-Receipt",
            "in": "header",
            "description": "Send with the answer how its batch fared.",
            "schema": {"type": "string", "enum": ["true", "false"], "default": "false"},
        },
    }


def _references(*names: str) -> list[_Json]:
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]
