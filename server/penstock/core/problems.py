"""The error catalogue of sdk/contract/problems.json as a table, so that an installed package needs no file beside it.

tests/unit/test_problems.py compares the two.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["PROBLEMS", "ProblemType", "problem_of_status"]


class ProblemType(NamedTuple):
    """One way to refuse a request. `retryable`: the same request may be sent again without further thought."""

    code: str
    status: int
    title: str
    retryable: bool


_ENTRIES = (
    ProblemType("malformed_request", 400, "Malformed request", False),
    ProblemType("malformed_body", 400, "Malformed body", False),
    ProblemType("contradiction", 400, "Contradictory request", False),
    ProblemType("unauthorized", 401, "Unauthorized", False),
    ProblemType("forbidden", 403, "Forbidden", False),
    ProblemType("not_found", 404, "Not found", False),
    ProblemType("model_not_found", 404, "Model not found", False),
    ProblemType("version_not_found", 404, "Version not found", False),
    ProblemType("method_not_allowed", 405, "Method not allowed", False),
    ProblemType("not_acceptable", 406, "Not acceptable", False),
    ProblemType("request_timeout", 408, "Request timeout", True),
    ProblemType("conflict", 409, "Conflict", False),
    ProblemType("length_required", 411, "Length required", False),
    ProblemType("body_too_large", 413, "Body too large", False),
    ProblemType("uri_too_long", 414, "URI too long", False),
    ProblemType("unsupported_media_type", 415, "Unsupported media type", False),
    ProblemType("unsupported_content_encoding", 415, "Unsupported content encoding", False),
    ProblemType("expectation_failed", 417, "Expectation failed", False),
    ProblemType("invalid_input", 422, "Invalid input", False),
    ProblemType("load_failed", 422, "Model cannot be served", False),
    ProblemType("too_many_requests", 429, "Too many requests", True),
    ProblemType("head_too_large", 431, "Request head too large", False),
    ProblemType("model_error", 500, "Model error", False),
    ProblemType("internal_error", 500, "Internal error", False),
    ProblemType("not_implemented", 501, "Not implemented", False),
    ProblemType("control_plane_unavailable", 502, "Control plane unavailable", True),
    ProblemType("queue_full", 503, "Queue full", True),
    ProblemType("deadline_unreachable", 503, "Deadline unreachable", True),
    ProblemType("connections_exhausted", 503, "Connections exhausted", True),
    ProblemType("memory_exhausted", 503, "Memory exhausted", True),
    ProblemType("model_unavailable", 503, "Model unavailable", True),
    ProblemType("model_loading", 503, "Model is loading", True),
    ProblemType("registry_unavailable", 503, "Registry unavailable", True),
    ProblemType("worker_died", 503, "Worker died", False),
    ProblemType("draining", 503, "Draining", True),
    ProblemType("deadline_exceeded", 504, "Deadline exceeded", False),
    ProblemType("http_version_not_supported", 505, "HTTP version not supported", False),
)

PROBLEMS: dict[str, ProblemType] = {entry.code: entry for entry in _ENTRIES}

# Where several codes share a status, the one that fits an error that knows no more than its status.
_PLAIN_CODES = {
    400: "malformed_request",
    404: "not_found",
    415: "unsupported_media_type",
    500: "internal_error",
    503: "model_unavailable",
}


def problem_of_status(status: int) -> ProblemType:
    """Return the entry for an error that knows only its HTTP status; unknown statuses are an internal_error."""
    code = _PLAIN_CODES.get(status)
    if code is None:
        code = next((entry.code for entry in _ENTRIES if entry.status == status), "internal_error")
    return PROBLEMS[code]
