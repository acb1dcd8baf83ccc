"""The interface description is valid, complete and about this server."""

import re
from typing import Any

import pytest
from openapi_spec_validator import validate

from penstock import __version__
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
FAST_PATHS = {"/predict", "/health/live", "/health/ready", "/health", "/ready"}


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
    assert {path for _, path, _ in OPERATIONS} == routes | FAST_PATHS


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
    # Keys come with authentication; unknown routes and methods belong to no operation.
    assert set(PROBLEMS) - documented == {"unauthorized", "forbidden", "not_found", "method_not_allowed"}


def test_schemas_are_all_used() -> None:
    text = str(openapi_document())
    for section, entries in openapi_document()["components"].items():
        for name in entries:
            assert f"'#/components/{section}/{name}'" in text
