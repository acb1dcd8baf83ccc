"""The model repository extension of the Open Inference Protocol over a registry."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from penstock.core.status import ModelState
from tests.integration.control_plane import DIGITS
from tests.integration.registered_client import ADMIN, Client, loaded, versions
from tests.integration.registered_control import Registered


def test_repository_index(client: Client, running: Registered, model: Path) -> None:
    versions(client, model, 2)
    failed = replace(loaded("letters", "1.1.0", ModelState.FAILED), detail="no memory")
    running.control.source.statuses = (DIGITS, failed)
    index = client.ask("POST", "/v2/repository/index")
    assert index == [
        {"name": "digits", "version": "1", "state": "READY", "reason": ""},
        {"name": "letters", "version": "1.1.0", "state": "UNAVAILABLE", "reason": "no memory"},
        {"name": "letters", "version": "1.0.0", "state": "UNAVAILABLE", "reason": "registered, not loaded"},
    ]
    assert client.ask("POST", "/v2/repository/index", {"ready": True}) == index[:1]


@pytest.mark.parametrize(
    ("state", "shown"),
    [("loading", "LOADING"), ("warming", "LOADING"), ("draining", "UNLOADING"), ("stopped", "UNAVAILABLE")],
)
def test_states_of_the_extension(client: Client, running: Registered, state: str, shown: str) -> None:
    running.control.source.statuses = (loaded("letters", "1.0.0", ModelState(state)),)
    (entry,) = client.ask("POST", "/v2/repository/index")
    assert (entry["state"], entry["reason"]) == (shown, state)


def test_repository_load_and_unload(client: Client, running: Registered, model: Path) -> None:
    versions(client, model, 1)
    assert client.ask("POST", "/v2/repository/models/letters/load") is None
    assert client.ask("POST", "/v2/repository/models/letters/load", {"parameters": {}}) is None
    assert (
        client.ask("POST", "/v2/repository/models/letters/unload", {"parameters": {"unload_dependents": True}}) is None
    )
    assert running.lifecycle.calls == [
        ("load", "letters", None, False, "k1"),
        ("load", "letters", None, False, "k1"),
        ("unload", "letters", None, "k1"),
    ]


@pytest.mark.parametrize(
    ("target", "document", "reason"),
    [
        ("letters/load", {"parameters": {"config": "{}"}}, "parameters.config: files and settings are registered"),
        ("letters/unload", {"parameters": {"config": "{}"}}, "parameters.config: no such member"),
        ("letters/unload", {"parameters": {"unload_dependents": "yes"}}, "parameters.unload_dependents: expected true"),
        ("none/load", {}, "'none'"),
    ],
)
def test_repository_refuses_where_its_clients_look(
    running: Registered, target: str, document: object, reason: str
) -> None:
    body = json.dumps(document).encode()
    response, answer = running.control.request("POST", f"/v2/repository/models/{target}", ADMIN, body)
    assert response.status in (404, 422)
    assert reason in json.loads(answer)["error"]
