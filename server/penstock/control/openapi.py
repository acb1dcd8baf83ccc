"""The OpenAPI 3.1 description of every public route, predictions and health included.

Errors come from the problem catalogue, so the document cannot name one that the server does not know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import cache

from penstock import __version__
from penstock.control.openapi_models import MODEL_PATHS
from penstock.control.openapi_oip import OIP_PATHS
from penstock.control.openapi_parts import (
    ANY_REQUEST,
    RESPONSE_HEADERS,
    SECURITY_SCHEMES,
    Json,
    operation,
    parameters,
    problem_examples,
    problem_schema,
    problems,
    references,
)
from penstock.control.schemas import SCHEMAS
from penstock.control.schemas_oip import OIP_SCHEMAS
from penstock.control.schemas_registry import REGISTRY_SCHEMAS

__all__ = ["openapi_document"]

_PREDICT = (
    "malformed_body",
    "contradiction",
    "unauthorized",
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
    "model_loading",
    "worker_died",
    "deadline_exceeded",
)


@cache
def openapi_document() -> Json:
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
            **MODEL_PATHS,
            **OIP_PATHS,
            "/health/live": {"get": _health("isLive", "Whether the process answers")},
            "/health/ready": {"get": _health("isReady", "Whether every model can be asked", ("model_unavailable",))},
            "/health": {"get": _health("isLiveAlias", "The same as /health/live")},
            "/ready": {"get": _health("isReadyAlias", "The same as /health/ready", ("model_unavailable",))},
            "/metrics": {"get": _metrics()},
            "/openapi.json": {"get": operation("describeInterface", "This document", "OpenApi")},
            "/": {"get": operation("index", "What this is and where to go on", "Index")},
        },
        "components": {
            "schemas": SCHEMAS | REGISTRY_SCHEMAS | OIP_SCHEMAS | {"Problem": problem_schema()},
            "examples": problem_examples(),
            "parameters": parameters(),
            "securitySchemes": SECURITY_SCHEMES,
            "headers": {
                "RequestId": {
                    "description": "The request's X-Request-Id, or one that the server made.",
                    "schema": {"type": "string"},
                }
            },
        },
    }


def _predict() -> Json:
    row = {"$ref": "#/components/schemas/PredictRequest"}
    outputs = {"$ref": "#/components/schemas/PredictResponse"}
    # OpenAPI 3.1 describes raw bytes by a media type without a schema.
    return {
        "operationId": "predict",
        "summary": "Run a model on one row",
        "description": "One request is one row, without a batch dimension. The server makes the batches.",
        "tags": ["prediction"],
        "parameters": references("ModelName", "ModelVersion", "Output", "RequestId", *_OPTIONS),
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
                "headers": {**RESPONSE_HEADERS, **_RECEIPT_HEADERS},
                "content": {
                    "application/json": {"schema": outputs},
                    "application/msgpack": {"schema": outputs},
                    "application/octet-stream": {},
                },
            },
            **problems((*_PREDICT, *ANY_REQUEST)),
        },
    }


def _health(operation: str, summary: str, codes: Iterable[str] = ()) -> Json:
    content = {"application/json": {"schema": {"$ref": "#/components/schemas/Health"}}}
    return {
        "operationId": operation,
        "summary": summary,
        "tags": ["health"],
        "parameters": references("RequestId"),
        "responses": {
            "200": {"description": "Yes.", "headers": RESPONSE_HEADERS, "content": content},
            **problems((*codes, *ANY_REQUEST)),
        },
    }


def _metrics() -> Json:
    text = {"schema": {"type": "string"}}
    return {
        "operationId": "metrics",
        "summary": "Counters and histograms for Prometheus",
        "tags": ["administration"],
        "parameters": references("RequestId"),
        "responses": {
            "200": {
                "description": "The text format, or OpenMetrics where Accept prefers it.",
                "headers": RESPONSE_HEADERS,
                "content": {"text/plain": text, "application/openmetrics-text": text},
            },
            **problems(("unauthorized", "internal_error", "control_plane_unavailable", *ANY_REQUEST)),
        },
    }


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
