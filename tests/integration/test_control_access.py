"""Who may do what, by the headers that the data plane writes. The data plane's part is in the tests of its keys."""

import http.client
import json
from typing import Any

import pytest

from penstock.control.openapi import openapi_document
from penstock.registry.records import Role
from tests.integration.control_plane import Control, assert_problem

NEEDED = [
    (method.upper(), path.format_map({"name": "letters", "version": "1.0.0", "alias": "a", "id": "k"}), needed)
    for path, item in openapi_document()["paths"].items()
    for method, operation in item.items()
    if (needed := operation.get("x-penstock-role"))
]
RISING = [Role.PREDICT, Role.OPERATOR, Role.ADMIN]
ROUTE = ("POST", "/models/letters/rollback")


def headers(principal: str, role: str, **more: str) -> dict[str, str]:
    return {"X-Penstock-Principal": principal, "X-Penstock-Role": role, **more}


def assert_problem_of(
    response: http.client.HTTPResponse, body: bytes, target: str, status: int, code: str
) -> dict[str, Any]:
    """As assert_problem; the Open Inference Protocol's routes say the reason where its clients look for it, too."""
    if not target.startswith("/v2/"):
        return assert_problem(response, body, status, code)
    problem: dict[str, Any] = json.loads(body)
    assert (response.status, problem["code"], problem["error"]) == (status, code, problem["detail"])
    return problem


def test_there_are_routes_of_each_role() -> None:
    assert {Role(role) for _, _, role in NEEDED} == set(RISING)


@pytest.mark.parametrize(("method", "target", "needed"), NEEDED)
def test_role_decides(control: Control, method: str, target: str, needed: str) -> None:
    response, body = control.request(method, target)
    problem = assert_problem_of(response, body, target, 401, "unauthorized")
    assert f"the role {needed}" in problem["detail"]
    assert response.headers["WWW-Authenticate"] == "Bearer"
    for role in RISING:
        response, body = control.request(method, target, headers("k1", role))
        if RISING.index(role) < RISING.index(Role(needed)):
            problem = assert_problem_of(response, body, target, 403, "forbidden")
            assert problem["detail"] == f"this needs the role {needed}; the key k1 has the role {role}"
        else:
            assert response.status not in (401, 403)


@pytest.mark.parametrize("given", [headers("", "admin"), headers("k1", ""), headers("k1", "root"), {}])
def test_half_a_principal_is_nobody(control: Control, given: dict[str, str]) -> None:
    assert_problem(*control.request(*ROUTE, given), 401, "unauthorized")


@pytest.mark.parametrize(
    "host", ["localhost", "localhost:8000", "127.0.0.1:8000", "127.8.8.8", "[::1]:8000", "a.localhost:80"]
)
def test_development_is_asked_as_loopback(control: Control, host: str) -> None:
    response, body = control.request(*ROUTE, headers("development", "admin", Host=host))
    assert_problem(response, body, 503, "registry_unavailable")


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "10.0.0.1:8000", "localhost.evil.example", "", "[::1", "127.0.0.1.x"]
)
def test_development_behind_another_name_is_refused(control: Control, host: str) -> None:
    response, body = control.request(*ROUTE, headers("development", "admin", Host=host))
    assert_problem(response, body, 403, "forbidden")


@pytest.mark.parametrize(
    ("origin", "allowed"),
    [
        ("http://localhost:8000", True),
        ("http://LOCALHOST:8000", True),
        ("http://localhost:3000", False),
        ("https://localhost:8000", True),
        ("http://localhost", False),
        ("http://127.0.0.1:8000", False),
        ("https://evil.example", False),
        ("null", False),
        ("", False),
        ("http://localhost:x", False),
    ],
)
def test_development_refuses_pages_of_others(control: Control, origin: str, allowed: bool) -> None:
    given = headers("development", "admin", Host="localhost:8000", Origin=origin)
    response, body = control.request(*ROUTE, given)
    assert_problem(response, body, *((503, "registry_unavailable") if allowed else (403, "forbidden")))


def test_key_is_good_from_any_page(control: Control) -> None:
    given = headers("k1", "admin", Host="models.example", Origin="https://console.example")
    assert_problem(*control.request(*ROUTE, given), 503, "registry_unavailable")


def test_reading_needs_nothing_here(control: Control) -> None:
    assert control.get("/models", {"Host": "evil.example", "Origin": "https://evil.example"})["models"]
