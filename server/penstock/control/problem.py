"""Every error of the control plane becomes application/problem+json (RFC 9457), here and nowhere else."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Iterable

from flask import Flask, Response, g, request
from werkzeug.exceptions import HTTPException, MethodNotAllowed, NotFound

from penstock.core.errors import RegistryUnavailableError, RequestError
from penstock.core.problems import PROBLEMS, ProblemType, problem_of_status

__all__ = ["install_problems", "request_id"]

_log = logging.getLogger(__name__)

# The data plane puts it there after it removed whatever a client sent under this name.
_REQUEST_ID_HEADER = "X-Penstock-Request-Id"
_RETRY_AFTER_SECONDS = "1"


def request_id() -> str:
    """Return the request's id: the data plane's, or one made now when the request came past it."""
    if "request_id" not in g:
        g.request_id = request.headers.get(_REQUEST_ID_HEADER) or uuid.uuid4().hex
    return str(g.request_id)


def install_problems(app: Flask) -> None:
    """Route every exception of `app` through the problem catalogue."""
    app.register_error_handler(RequestError, _on_refusal)
    app.register_error_handler(HTTPException, _on_http_exception)
    app.register_error_handler(Exception, _on_failure)


def _on_refusal(error: RequestError) -> Response:
    if isinstance(error, RegistryUnavailableError):
        _log.error("the registry cannot be used", extra={"reason": str(error), "request_id": request_id()})
    return _respond(PROBLEMS[error.code], error.detail)


def _on_http_exception(error: HTTPException) -> Response:
    problem = problem_of_status(error.code or 500)
    if isinstance(error, NotFound):
        return _respond(problem, f"there is no route {request.path}")
    if isinstance(error, MethodNotAllowed):
        allow = ", ".join(sorted(error.valid_methods or ()))
        return _respond(problem, f"{request.path} takes {allow}, not {request.method}", [("Allow", allow)])
    return _respond(problem, error.description or problem.title)


def _on_failure(error: Exception) -> Response:
    _log.error("a control route failed", exc_info=error, extra={"path": request.path, "request_id": request_id()})
    return _respond(PROBLEMS["internal_error"], "the server failed; its log holds the reason under this request_id")


def _respond(problem: ProblemType, detail: str, headers: Iterable[tuple[str, str]] = ()) -> Response:
    body = {
        "type": f"/problems/{problem.code}",
        "title": problem.title,
        "status": problem.status,
        "detail": detail,
        "code": problem.code,
        "request_id": request_id(),
    }
    if request.path.startswith("/v2/") or request.path == "/v2":
        body["error"] = detail  # where clients of the Open Inference Protocol look for it
    response = Response(json.dumps(body), problem.status, list(headers), content_type="application/problem+json")
    if problem.status in (429, 503):
        response.headers["Retry-After"] = _RETRY_AFTER_SECONDS
    if problem.status == 401:
        response.headers["WWW-Authenticate"] = "Bearer"
    return response
