"""Keys are made, shown once and revoked."""

import json

import pytest

from tests.integration.registered_client import ADMIN, Client
from tests.integration.registered_control import Registered


def test_key_is_shown_once_and_revoked(client: Client, running: Registered) -> None:
    response, body = running.control.request("POST", "/keys", ADMIN, b'{"name": "ci", "role": "operator"}')
    assert response.status == 201
    assert response.headers["Cache-Control"] == "no-store"
    made = json.loads(body)
    client.validate(client.operation("POST", "/keys"), "201", made)
    assert made["key"].startswith(f"psk_{made['id']}_")
    (listed,) = client.ask("GET", "/keys")["keys"]
    assert listed == {name: value for name, value in made.items() if name != "key"}
    assert (listed["role"], listed["created_by"], listed["revoked_at"]) == ("operator", "k1", None)
    assert client.ask("DELETE", f"/keys/{made['id']}")["revoked_at"] is not None
    assert running.lifecycle.calls == [("keys_changed", 1), ("keys_changed", 0)]
    client.refused("DELETE", "/keys/none", 404, "not_found")


@pytest.mark.parametrize("wish", [{"name": "ci"}, {"name": "ci", "role": "root"}, {"role": "admin"}])
def test_wrong_key(client: Client, wish: object) -> None:
    client.refused("POST", "/keys", 422, "invalid_input", wish)
