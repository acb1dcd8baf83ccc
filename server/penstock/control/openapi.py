"""The OpenAPI 3.1 description of every public route, predictions and health included.

Errors come from the problem catalogue, so the document cannot name one that the server does not know.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from urllib.parse import quote

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
from penstock.control.openapi_predict import PREDICT_PATHS
from penstock.control.schemas import SCHEMAS
from penstock.control.schemas_oip import OIP_SCHEMAS
from penstock.control.schemas_registry import REGISTRY_SCHEMAS
from penstock.core.status import ModelStatus

__all__ = ["openapi_document", "with_records"]


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
            **PREDICT_PATHS,
            **MODEL_PATHS,
            **OIP_PATHS,
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


def with_records(document: Json, models: Iterable[ModelStatus]) -> Json:
    """Return the document with a schema for the record of each model's latest version, NAME.record, and an example."""
    schemas: Json = {}
    examples: Json = {}
    for status in models:
        if status.record is None or not status.latest:
            continue
        name = status.config.name
        # With an id of its own a schema's references stay inside it.
        schemas[f"{name}.record"] = {
            **status.record,
            "$id": f"/models/{quote(name, safe='')}/versions/{quote(status.config.version, safe='')}/record",
        }
        examples[f"{name}.request"] = {
            "summary": f"A record of {name}",
            "value": {"model": name, "inputs": status.record["examples"][0]},
        }
    if not schemas:
        return document
    components = document["components"]
    more = {"schemas": {**components["schemas"], **schemas}, "examples": {**components["examples"], **examples}}
    return {**document, "components": {**components, **more}}


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
