"""What is asked of the lifecycle over REST, and in whose name."""

from pathlib import Path

import pytest

from penstock.core.errors import RequestError
from penstock.core.models import Mirror
from penstock.registry.records import UNSET
from tests.integration.registered_client import Client, versions
from tests.integration.registered_control import Registered


def test_lifecycle_is_asked_in_the_name_of_the_key(client: Client, running: Registered, model: Path) -> None:
    versions(client, model, 2)
    mirror = {"share": 0.5, "rows": 10, "rtol": 0.1, "atol": 0.2, "timeout_s": 3}
    client.ask("POST", "/models/letters/load", {"version": "1.0.0", "lazy": True})
    client.ask("POST", "/models/letters/load")
    client.ask("POST", "/models/letters/promote", {"version": "1.0.0"})
    client.ask("POST", "/models/letters/promote", {"version": "1.1.0", "reason": "better", "mirror": mirror})
    client.ask("POST", "/models/letters/promote", {"version": "1.0.0", "allow_schema_change": True})
    client.ask("POST", "/models/letters/rollback", {"reason": "worse"})
    client.ask("POST", "/models/letters/unload", {"version": "1.1.0"})
    client.ask("POST", "/models/letters/unload")
    assert running.lifecycle.calls == [
        ("load", "letters", "1.0.0", True, "k1"),
        ("load", "letters", None, False, "k1"),
        ("promote", "letters", "1.0.0", "k1", "", None, False),
        ("promote", "letters", "1.1.0", "k1", "better", Mirror(0.5, 10, 0.1, 0.2, 3), False),
        ("promote", "letters", "1.0.0", "k1", "", None, True),
        ("rollback", "letters", "k1", "worse"),
        ("unload", "letters", "1.1.0", "k1"),
        ("unload", "letters", None, "k1"),
    ]


def test_mirror_has_usual_values(client: Client, running: Registered, model: Path) -> None:
    versions(client, model, 1)
    client.ask("POST", "/models/letters/promote", {"version": "1.0.0", "mirror": {}})
    assert running.lifecycle.calls[-1][-2] == Mirror()
    wish = {"version": "1.0.0", "mirror": {"share": 2}}
    assert "mirror.share" in client.refused("POST", "/models/letters/promote", 422, "invalid_input", wish)


def test_promotion_answers_with_the_version_that_answers(client: Client, model: Path) -> None:
    versions(client, model, 2)
    client.ask("PUT", "/models/letters/aliases/staging", {"version": "1.1.0"})
    answer = client.ask("POST", "/models/letters/promote", {"version": "staging"})
    assert answer == {"name": "letters", "alias": "champion", "version": "1.1.0"}


def test_alias_is_set_moved_and_taken_away(client: Client, running: Registered, model: Path) -> None:
    versions(client, model, 2)
    target = "/models/letters/aliases/staging"
    change = client.ask("PUT", target, {"version": "1.0.0", "reason": "to try", "expected": None})
    assert (change["version"], change["previous"], change["by"], change["reason"]) == ("1.0.0", None, "k1", "to try")
    assert client.ask("GET", target) == {"name": "letters", "alias": "staging", "version": "1.0.0"}
    wish = {"version": "1.1.0", "expected": "1.1.0"}
    assert "somebody" in client.refused("PUT", target, 409, "conflict", wish)
    assert client.ask("PUT", target, {"version": "1.1.0", "expected": "1.0.0"})["previous"] == "1.0.0"
    assert client.ask("DELETE", f"{target}?reason=done&expected=1.1.0")["version"] is None
    client.refused("GET", target, 404, "version_not_found")
    asked = [call for call in running.lifecycle.calls if call[0] == "set_alias"]
    assert asked[0][1:] == ("letters", "staging", "1.0.0", "k1", "to try", None, False)
    assert asked[-1][1:] == ("letters", "staging", None, "k1", "done", "1.1.0", False)


def test_expected_is_left_open_when_nothing_is_said(client: Client, running: Registered, model: Path) -> None:
    versions(client, model, 1)
    client.ask("PUT", "/models/letters/aliases/staging", {"version": "1.0.0"})
    assert running.lifecycle.calls[-1][-2] is UNSET
    client.ask("PUT", "/models/letters/aliases/staging", {"version": "1.0.0", "allow_schema_change": True})
    assert running.lifecycle.calls[-1][-1] is True


@pytest.mark.parametrize("alias", ["latest", "1.0.0", "a%20b"])
def test_what_cannot_be_an_alias(client: Client, model: Path, alias: str) -> None:
    versions(client, model, 1)
    client.refused("PUT", f"/models/letters/aliases/{alias}", 422, "invalid_input", {"version": "1.0.0"})


def test_removing(client: Client, model: Path) -> None:
    versions(client, model, 3)
    client.ask("PUT", "/models/letters/aliases/staging", {"version": "1.0.0"})
    assert "staging" in client.refused("DELETE", "/models/letters/versions/1.0.0", 409, "conflict")
    client.ask("DELETE", "/models/letters/versions/1.1.0")
    client.refused("DELETE", "/models/letters/versions/1.1.0", 404, "version_not_found")
    client.ask("DELETE", "/models/letters/aliases/staging")
    client.ask("DELETE", "/models/letters")
    client.refused("GET", "/models/letters", 404, "model_not_found")


def test_load_that_fails_is_told_with_its_reason(client: Client, running: Registered, model: Path) -> None:
    versions(client, model, 1)
    running.lifecycle.refusal = RequestError("load_failed", "Model.predict raised ZeroDivisionError")
    for verb in ("load", "promote", "rollback"):
        document = {"version": "1.0.0"} if verb != "rollback" else {}
        reason = client.refused("POST", f"/models/letters/{verb}", 422, "load_failed", document)
        assert reason == "Model.predict raised ZeroDivisionError"


@pytest.mark.parametrize(
    ("method", "target"),
    [
        ("POST", "/models/%C2%84/unload"),
        ("DELETE", "/models/a%20b"),
        ("GET", f"/models/{'x' * 65}/history?at=2026-01-31T12:00:00Z"),
    ],
)
def test_name_that_no_model_can_have_is_refused(client: Client, method: str, target: str) -> None:
    assert client.refused(method, target, 422, "invalid_input").startswith("the model's name: expected")
