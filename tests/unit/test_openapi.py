"""The interface description is valid, complete and about this server."""

import re
from typing import Any

import pytest
from openapi_spec_validator import validate

from penstock import __version__
from penstock.control.access import role_needed
from penstock.control.app import make_app
from penstock.control.openapi import openapi_document
from penstock.control.state import ServerState
from penstock.core.problems import PROBLEMS

OPERATIONS = [
    (method, path, operation)
    for path, item in openapi_document()["paths"].items()
    for method, operation in item.items()
]
# Answered by the data plane; the control plane never sees them.
FAST_PATHS = {
    "/predict",
    "/predict/batch",
    "/health/live",
    "/health/ready",
    "/health",
    "/ready",
    "/v2/health/live",
    "/v2/health/ready",
    *(f"/v2/models/{{name}}{version}/{what}" for version in ("", "/versions/{version}") for what in ("infer", "ready")),
}
# Where the data plane relays calls of gRPC; nobody gets there over HTTP.
RELAYED = {"/grpc/{service}/{method}"}


def problems_of(operation: dict[str, Any]) -> dict[str, set[str]]:
    """Codes by status, as an operation's responses document them."""
    return {
        status: set(response["content"]["application/problem+json"]["examples"])
        for status, response in operation["responses"].items()
        if "application/problem+json" in response.get("content", {})
    }


def test_document_is_valid() -> None:
    validate(openapi_document())
    assert openapi_document()["info"]["version"] == __version__


def test_document_has_the_control_planes_routes_and_the_fast_ones() -> None:
    state = ServerState(stats=None, models=None, log_records_dropped=lambda: 0)  # type: ignore[arg-type]  # none is asked
    routes = {re.sub(r"<(\w+)>", r"{\1}", rule.rule) for rule in make_app(state).url_map.iter_rules()}
    assert {path for _, path, _ in OPERATIONS} == routes - RELAYED | FAST_PATHS


def test_operation_ids_are_unique() -> None:
    names = [operation["operationId"] for _, _, operation in OPERATIONS]
    assert len(set(names)) == len(names)


@pytest.mark.parametrize(("method", "path", "operation"), OPERATIONS, ids=lambda value: str(value)[:20])
def test_problems_stand_under_their_status(method: str, path: str, operation: dict[str, Any]) -> None:
    found = problems_of(operation)
    assert found
    for status, codes in found.items():
        assert {str(PROBLEMS[code].status) for code in codes} == {status}, f"{method} {path}"
        headers = operation["responses"][status]["headers"]
        assert ("Retry-After" in headers) == (status in {"429", "503"})


def test_every_problem_is_documented_somewhere() -> None:
    documented = {code for _, _, operation in OPERATIONS for codes in problems_of(operation).values() for code in codes}
    # A wrong method belongs to no operation.
    assert set(PROBLEMS) - documented == {"method_not_allowed"}


def test_schemas_are_all_used() -> None:
    text = str(openapi_document())
    for section, entries in openapi_document()["components"].items():
        for name in entries:
            # A security scheme is referred to by its bare name.
            reference = f"'#/components/{section}/{name}'" if section != "securitySchemes" else f"{{'{name}': []}}"
            assert reference in text


def test_roles_are_those_that_the_routes_ask_for() -> None:
    state = ServerState(stats=None, models=None, log_records_dropped=lambda: 0)  # type: ignore[arg-type]  # none is asked
    app = make_app(state)
    routes = {rule.endpoint: re.sub(r"<(\w+)>", r"{\1}", rule.rule) for rule in app.url_map.iter_rules()}
    asked = {
        (method.lower(), routes[endpoint]): role
        for endpoint, view in app.view_functions.items()
        for method in view.view_class.methods  # type: ignore[attr-defined]  # flask_restful has no types
        if (role := role_needed(getattr(view.view_class, method.lower()))) is not None  # type: ignore[attr-defined]
    }
    described = {
        (method, path): operation["x-penstock-role"]
        for method, path, operation in OPERATIONS
        if "x-penstock-role" in operation
    }
    assert described == asked
    # What changes something is open to nobody.
    changing = {(method, path) for method, path, _ in OPERATIONS if method != "get" and path not in FAST_PATHS}
    assert changing <= set(asked)
