"""What is registered is listed, shown and remembered."""

from datetime import UTC, datetime
from pathlib import Path

import pytest

from penstock.core.status import ModelState
from penstock.registry.records import EventKind
from tests.integration.control_plane import BROKEN, DIGITS
from tests.integration.registered_client import Client, loaded, versions
from tests.integration.registered_control import Registered


def test_list_has_what_is_configured_and_what_is_registered(client: Client, running: Registered, model: Path) -> None:
    versions(client, model, 2)
    running.control.source.statuses = (DIGITS, BROKEN, loaded("letters", "1.1.0", ModelState.READY))
    listed = client.ask("GET", "/models")
    assert [(each["name"], each["version"], each["state"], each["latest"]) for each in listed["models"]] == [
        ("digits", "1", "ready", True),
        ("broken", "2024-01", "failed", True),
        ("letters", "1.0.0", "registered", False),
        ("letters", "1.1.0", "ready", True),
    ]
    assert (listed["next"], listed["registry_failure"]) == (None, None)


def test_champion_is_the_latest_of_what_is_not_loaded(client: Client, model: Path) -> None:
    versions(client, model, 3)
    client.ask("POST", "/models/letters/promote", {"version": "1.1.0"})
    listed = client.ask("GET", "/models")["models"]
    assert [each["latest"] for each in listed] == [False, True, False]
    assert listed[1]["aliases"] == ["champion"]


def test_list_in_pages(client: Client, running: Registered, model: Path) -> None:
    versions(client, model, 5)
    running.control.source.statuses = (DIGITS,)
    everything = client.ask("GET", "/models")["models"]
    pages, after = [], ""
    for _ in range(3):
        page = client.ask("GET", f"/models?limit=2{after}")
        pages += page["models"]
        after = f"&after={page['next']}"
    assert pages == everything
    assert page["next"] is None
    assert client.ask("GET", "/models?limit=2&after=letters@1.3.0")["models"] == everything[5:]


@pytest.mark.parametrize(
    ("query", "reason"),
    [
        ("limit=0", "limit: expected"),
        ("limit=x", "limit: not"),
        ("after=no@1", "after: 'no@1'"),
        ("limt=1", "'limit'?"),
    ],
)
def test_wrong_page(client: Client, query: str, reason: str) -> None:
    assert reason in client.refused("GET", f"/models?{query}", 422, "invalid_input")


def test_model_has_its_aliases_and_all_its_versions(client: Client, running: Registered, model: Path) -> None:
    versions(client, model, 2)
    client.ask("PUT", "/models/letters/aliases/staging", {"version": "1.0.0"})
    running.control.source.statuses = (loaded("letters", "1.1.0", ModelState.WARMING),)
    shown = client.ask("GET", "/models/letters")
    assert shown["aliases"] == {"staging": "1.0.0"}
    assert [(each["version"], each["state"]) for each in shown["versions"]] == [
        ("1.1.0", "warming"),
        ("1.0.0", "registered"),
    ]
    in_memory, registered = shown["versions"]
    assert in_memory["registration"]["registered_by"] == "k1"
    assert (registered["batching"], registered["workers"], registered["aliases"]) == (None, [], ["staging"])


@pytest.mark.parametrize("target", ["/models/none", "/models/none/versions/1.0.0", "/models/none/history"])
def test_unknown_model(client: Client, target: str) -> None:
    assert "'none'" in client.refused("GET", target, 404, "model_not_found")


@pytest.mark.parametrize("ref", ["champion", "latest", "1.1.0", "staging"])
def test_version_by_any_of_its_names(client: Client, model: Path, ref: str) -> None:
    versions(client, model, 2)
    for alias in ("champion", "staging"):
        client.ask("PUT", f"/models/letters/aliases/{alias}", {"version": "1.1.0"})
    assert client.ask("GET", f"/models/letters/versions/{ref}")["version"] == "1.1.0"
    client.refused("GET", "/models/letters/versions/9.0.0", 404, "version_not_found")


def test_history_in_pages(client: Client, model: Path) -> None:
    versions(client, model, 3)
    everything = client.ask("GET", "/models/letters/history")
    assert [(each["kind"], each["version"], each["by"]) for each in everything["events"]] == [
        ("registered", "1.2.0", "k1"),
        ("registered", "1.1.0", "k1"),
        ("registered", "1.0.0", "k1"),
    ]
    assert everything["next"] is None
    first = client.ask("GET", "/models/letters/history?limit=2")
    rest = client.ask("GET", f"/models/letters/history?limit=2&before={first['next']}")
    assert first["events"] + rest["events"] == everything["events"]


def test_history_at_a_time(client: Client, running: Registered, model: Path) -> None:
    versions(client, model, 2)
    for version, hour in (("1.0.0", 8), ("1.1.0", 9)):
        at = datetime(2026, 1, 31, hour, tzinfo=UTC)
        note = running.registry.note("letters", version, EventKind.ACTIVE, by="k1", node="a:8000", at=at)
        running.bridge.call(note)
    for at, version in (("08:30:00Z", "1.0.0"), ("10:30:00%2B01:00", "1.1.0")):
        (event,) = client.ask("GET", f"/models/letters/history?at=2026-01-31T{at}")["events"]
        assert (event["version"], event["node"]) == (version, "a:8000")
    assert client.ask("GET", "/models/letters/history?at=2026-01-31T07:00:00Z")["events"] == []
    reason = client.refused("GET", "/models/letters/history?at=noon", 422, "invalid_input")
    assert "2026-01-31T12:00:00Z" in reason
