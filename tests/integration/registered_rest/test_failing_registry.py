"""A registry that is missing or fails leaves what is served, and is told."""

import sqlite3
from contextlib import closing

import pytest

from penstock.core.errors import RegistryUnavailableError
from tests.integration.control_plane import DIGITS, assert_problem, control_plane
from tests.integration.registered_client import ADMIN, Client
from tests.integration.registered_control import Registered


def test_without_a_registry_what_needs_it_says_why() -> None:
    with control_plane(registry_failure="the folder /data cannot be written") as control:
        for method, target, body in (
            ("POST", "/models", b'{"name": "letters", "path": "/x"}'),
            ("GET", "/models/digits/history", b""),
            ("GET", "/models/letters/versions/1", b""),
            ("POST", "/models/letters/load", b""),
            ("POST", "/models/letters/rollback", b"{}"),
            ("GET", "/keys", b""),
        ):
            response, answer = control.request(method, target, ADMIN, body)
            problem = assert_problem(response, answer, 503, "registry_unavailable")
            assert "the folder /data cannot be written" in problem["detail"]
        listed = control.get("/models")
        assert [each["name"] for each in listed["models"]] == ["digits", "broken"]
        assert listed["registry_failure"] == "the folder /data cannot be written"


def test_registry_that_fails_leaves_what_is_served(
    client: Client, running: Registered, caplog: pytest.LogCaptureFixture
) -> None:
    running.control.source.statuses = (DIGITS,)
    with closing(sqlite3.connect(running.folder / "penstock.db")) as database:
        database.execute("ALTER TABLE versions RENAME TO lost")
        database.execute("ALTER TABLE counters RENAME TO lost_too")
    listed = client.ask("GET", "/models")
    assert [each["name"] for each in listed["models"]] == ["digits"]
    assert "log says why" in listed["registry_failure"]
    detail = client.refused("GET", "/models/letters/versions/1.0.0", 503, "registry_unavailable")
    assert "versions" not in detail
    assert any(record.message == "the registry cannot be used" for record in caplog.records)


def test_reason_of_a_failing_registry_is_logged_and_not_told(
    client: Client, running: Registered, caplog: pytest.LogCaptureFixture
) -> None:
    running.lifecycle.refusal = RegistryUnavailableError("the database at /secret/penstock.db is locked")
    detail = client.refused("POST", "/models/letters/rollback", 503, "registry_unavailable")
    assert "/secret" not in detail
    assert any("/secret/penstock.db" in str(record.__dict__.get("reason")) for record in caplog.records)
