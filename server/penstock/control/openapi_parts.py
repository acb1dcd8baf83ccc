"""The parts that the interface description is put together from: operations, refusals, parameters."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from itertools import groupby
from typing import Any

from penstock.control.schemas import FIELD_FAULTS
from penstock.core.problems import PROBLEMS
from penstock.registry.records import Role

__all__ = [
    "ANY_REQUEST",
    "CONTROL",
    "RESPONSE_HEADERS",
    "SECURITY_SCHEMES",
    "Json",
    "json_body",
    "operation",
    "parameters",
    "problem_examples",
    "problem_schema",
    "problems",
    "references",
]

Json = dict[str, Any]

# Anything may meet these: what is wrong with the request itself, and a server with no room.
ANY_REQUEST = (
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
CONTROL = ("unauthorized", "not_acceptable", "internal_error", "control_plane_unavailable")
SECURITY_SCHEMES: Json = {
    "Bearer": {"type": "http", "scheme": "bearer", "description": "A key: psk_ID_SECRET."},
    "ApiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "The same."},
}
_BODY = (
    "malformed_body",
    "invalid_input",
    "length_required",
    "unsupported_media_type",
    "unsupported_content_encoding",
)

RESPONSE_HEADERS: Mapping[str, object] = {"X-Request-Id": {"$ref": "#/components/headers/RequestId"}}
_RETRY_AFTER: Mapping[str, object] = {
    "Retry-After": {"description": "Seconds to wait before the next attempt.", "schema": {"type": "integer"}}
}


def operation(
    name: str,
    summary: str,
    answer: str | None,
    *,
    codes: Iterable[str] = (),
    takes: Iterable[str] = (),
    body: Json | None = None,
    role: Role | None = None,
    created: bool = False,
) -> Json:
    """Describe a route of the control plane: `answer` names a schema, `takes` parameters, `role` who may."""
    content = {} if answer is None else {"content": {"application/json": {"schema": _schema(answer)}}}
    success = {"description": "As asked.", "headers": RESPONSE_HEADERS, **content}
    refused = (*codes, *CONTROL, *ANY_REQUEST, *(("forbidden",) if role else ()), *(_BODY if body else ()))
    described: Json = {
        "operationId": name,
        "summary": summary,
        "tags": ["administration"],
        "parameters": references(*takes, "RequestId"),
        "responses": {
            "200": success,
            **({"201": {**success, "description": "Made."}} if created else {}),
            **problems(refused),
        },
    }
    if body is not None:
        described["requestBody"] = body
    if role is not None:
        described["description"] = f"Needs a key with the role {role} or one above it."
        described["security"] = [{scheme: []} for scheme in SECURITY_SCHEMES]
        described["x-penstock-role"] = role.value
    return described


def json_body(schema: str, *, required: bool = True) -> Json:
    """Describe a JSON body."""
    return {"required": required, "content": {"application/json": {"schema": _schema(schema)}}}


def _schema(name: str) -> Json:
    return {"$ref": f"#/components/schemas/{name}"}


def problems(codes: Iterable[str]) -> Json:
    """Describe the refusals of an operation, by status; several codes may share one."""
    entries = sorted((PROBLEMS[code] for code in set(codes)), key=lambda entry: (entry.status, entry.code))
    responses: Json = {}
    for status, group in groupby(entries, key=lambda entry: entry.status):
        meant = list(group)
        examples = {entry.code: {"$ref": f"#/components/examples/{entry.code}"} for entry in meant}
        responses[str(status)] = {
            "description": " or ".join(entry.title for entry in meant),
            "headers": {**RESPONSE_HEADERS, **(_RETRY_AFTER if status in (429, 503) else {})},
            "content": {
                "application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}, "examples": examples}
            },
        }
    return responses


def problem_examples() -> Json:
    """Describe every refusal by its code."""
    return {
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
        for entry in PROBLEMS.values()
        if entry.code != "method_not_allowed"  # belongs to no operation
    }


def problem_schema() -> Json:
    """Describe application/problem+json."""
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
            "errors": FIELD_FAULTS,
            "error": {
                "type": "string",
                "description": "The detail again, under /v2: clients of the Open Inference Protocol look for it here.",
            },
        },
    }


def parameters() -> Json:
    """Describe every parameter by its name."""
    name: Json = {"$ref": "#/components/schemas/Name"}
    return {
        "Name": {"name": "name", "in": "path", "required": True, "schema": name},
        "Version": {
            "name": "version",
            "in": "path",
            "required": True,
            "description": "A version, an alias or 'latest'; to remove one, its version.",
            "schema": name,
        },
        "Alias": {"name": "alias", "in": "path", "required": True, "schema": name},
        "KeyId": {"name": "id", "in": "path", "required": True, "schema": {"type": "string"}},
        "Limit": _query("limit", "At most so many versions; without it all.", _whole(1, 10_000)),
        "After": _query("after", "`next` of the page before.", {"type": "string"}),
        "EventLimit": _query("limit", "At most so many events.", {**_whole(1, 1000), "default": 100}),
        "Before": _query("before", "`next` of the page before.", {"type": "integer", "minimum": 0}),
        "At": _query(
            "at",
            "A moment with its time zone; the answer is then which version was active on each server.",
            {"type": "string", "format": "date-time"},
        ),
        "Reason": _query("reason", "Why; it stands in the history.", {"type": "string"}),
        "Expected": _query("expected", "The version that the alias must point to now.", name),
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
        "InferenceHeaderLength": {
            "name": "Inference-Header-Content-Length",
            "in": "header",
            "description": "Bytes of JSON at the start of the body; without it all of it is JSON.",
            "schema": {"type": "integer", "minimum": 0},
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


def _query(name: str, description: str, schema: Json) -> Json:
    return {"name": name, "in": "query", "description": description, "schema": schema}


def _whole(minimum: int, maximum: int) -> Json:
    return {"type": "integer", "minimum": minimum, "maximum": maximum}


def references(*names: str) -> list[Json]:
    """Refer to parameters."""
    return [{"$ref": f"#/components/parameters/{name}"} for name in names]
