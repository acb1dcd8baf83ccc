"""Who may administer a real server: keys, roles, development mode, and what no client can pretend."""

import json
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from tests.integration.supervised import until
from tests.serving import Reply, Server
from tests.unit.test_cli import penstock

INDEX = ("POST", "/v2/repository/index")
JSON = {"Content-Type": "application/json"}
ROLES = ("predict", "operator", "admin")


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    return {"PENSTOCK_DATA_DIR": str(tmp_path_factory.mktemp("data"))}


@pytest.fixture(scope="module")
def keys(data: Mapping[str, str]) -> dict[str, str]:
    return {role: penstock("keys", "create", role, "--role", role, env=data).stdout.strip() for role in ROLES}


@pytest.fixture(scope="module")
def server(
    data: Mapping[str, str], keys: Mapping[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Server]:
    running = Server.start([], tmp_path_factory.mktemp("server"), data)
    yield running
    running.stop()


@pytest.fixture(scope="module")
def development(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("development")
    running = Server.start(["--development", "--data-dir", str(folder)], folder)
    yield running
    running.stop()


def refusal(reply: Reply) -> tuple[int, str]:
    return reply.status, reply.json()["code"]


def bearer(key: str) -> dict[str, str]:
    return {"Authorization": f"Bearer {key}"}


@pytest.mark.parametrize("header", ["Authorization", "X-API-Key"])
def test_key_in_either_field(server: Server, keys: Mapping[str, str], header: str) -> None:
    value = keys["predict"] if header == "X-API-Key" else f"Bearer {keys['predict']}"
    assert server.request(*INDEX, headers={header: value}).status == 200


def test_without_a_key(server: Server) -> None:
    for method, path in (INDEX, ("POST", "/models"), ("DELETE", "/models/m"), ("PUT", "/models/m/aliases/a")):
        reply = server.request(method, path, "{}")
        assert refusal(reply) == (401, "unauthorized")
        assert reply.headers["www-authenticate"] == "Bearer"
    assert server.request("GET", "/models").status == 200
    assert refusal(server.request("GET", "/keys")) == (401, "unauthorized")


def test_wrong_key(server: Server, keys: Mapping[str, str]) -> None:
    last = keys["admin"][-1]
    for wrong in (keys["admin"][:-1] + ("a" if last != "a" else "b"), keys["admin"][:-1], "psk_", "psk_x_y", "x", ""):
        assert refusal(server.request(*INDEX, headers=bearer(wrong))) == (401, "unauthorized")


def test_role_decides(server: Server, keys: Mapping[str, str]) -> None:
    said = {role: server.request("POST", "/models/m/load", "{}", bearer(keys[role])) for role in ROLES}
    assert refusal(said["predict"]) == (403, "forbidden")
    assert refusal(said["operator"]) == refusal(said["admin"]) == (404, "model_not_found")
    assert refusal(server.request("GET", "/keys", headers=bearer(keys["operator"]))) == (403, "forbidden")
    assert server.request("GET", "/keys", headers=bearer(keys["admin"])).status == 200


@pytest.mark.parametrize("prefix", ["X-Penstock-", "x-penstock-", "X_Penstock_", "X-Penstock_"])
def test_no_client_speaks_for_the_data_plane(server: Server, keys: Mapping[str, str], prefix: str) -> None:
    pretended = {f"{prefix}Principal": "k", f"{prefix}Role": "admin"}
    assert refusal(server.request("POST", "/models/m/load", "{}", pretended)) == (401, "unauthorized")
    both = pretended | bearer(keys["predict"])
    assert refusal(server.request("POST", "/models/m/load", "{}", both)) == (403, "forbidden")


def test_key_made_over_rest_holds_at_once_and_not_after(server: Server, keys: Mapping[str, str]) -> None:
    made = server.request("POST", "/keys", '{"name": "ci", "role": "operator"}', bearer(keys["admin"]))
    assert made.status == 201
    key = made.json()["key"]
    assert refusal(server.request("POST", "/models/m/load", "{}", bearer(key))) == (404, "model_not_found")
    assert server.request("DELETE", f"/keys/{made.json()['id']}", headers=bearer(keys["admin"])).status == 200
    assert refusal(server.request("POST", "/models/m/load", "{}", bearer(key))) == (401, "unauthorized")


def test_key_made_on_the_store_is_followed(server: Server, data: Mapping[str, str]) -> None:
    made = json.loads(penstock("keys", "create", "late", "--role", "predict", "--json", env=data).stdout)
    until(lambda: server.request(*INDEX, headers=bearer(made["key"])).status == 200, "the key is followed")
    penstock("keys", "revoke", made["id"], env=data)
    until(lambda: server.request(*INDEX, headers=bearer(made["key"])).status == 401, "the key is gone")


def test_require_key(data: Mapping[str, str], keys: Mapping[str, str], tmp_path: Path) -> None:
    running = Server.start(["--require-key"], tmp_path, data)
    try:
        for method, path in (("GET", "/models"), ("GET", "/metrics"), ("POST", "/predict"), ("GET", "/")):
            assert refusal(running.request(method, path, "{}" if method == "POST" else None)) == (401, "unauthorized")
        for path in ("/health", "/health/live", "/health/ready", "/ready"):
            assert running.request("GET", path).status == 200
        assert running.request("GET", "/models", headers=bearer(keys["predict"])).status == 200
        asked = running.request("POST", "/predict", '{"model": "m", "inputs": 1}', bearer(keys["predict"]) | JSON)
        assert refusal(asked) == (404, "model_not_found")
    finally:
        running.stop()


def test_development_needs_no_key(development: Server) -> None:
    assert development.request(*INDEX).status == 200
    made = development.request("POST", "/keys", '{"name": "me", "role": "predict"}')
    assert (made.status, made.json()["created_by"]) == (201, "development")


def test_development_holds_keys_to_their_role(development: Server) -> None:
    key = development.request("POST", "/keys", '{"name": "me", "role": "predict"}').json()["key"]
    assert refusal(development.request("POST", "/models/m/load", "{}", bearer(key))) == (403, "forbidden")
    assert refusal(development.request(*INDEX, headers=bearer(f"{key}x"))) == (401, "unauthorized")


@pytest.mark.parametrize(
    "given",
    [
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Origin": "http://localhost:3000"},
        {"Host": "evil.example"},
        {"Host": "evil.example", "Origin": "http://evil.example"},
    ],
)
def test_development_is_closed_to_pages_of_others(development: Server, given: dict[str, str]) -> None:
    assert refusal(development.request("POST", "/models/m/load", "{}", given)) == (403, "forbidden")


def test_development_is_open_to_its_own_pages(development: Server) -> None:
    given = {"Host": f"localhost:{development.port}", "Origin": f"http://localhost:{development.port}"}
    assert development.request(*INDEX, headers=given).status == 200


@pytest.mark.parametrize("host", ["0.0.0.0", "::"])
def test_development_on_a_public_address_is_refused(tmp_path: Path, host: str) -> None:
    result = penstock("serve", "--development", "--host", host, "--port", "0", "--data-dir", str(tmp_path))
    assert result.returncode == 2
    assert "development" in result.stderr


def test_banner_says_development(development: Server, server: Server) -> None:
    assert "development" in development.log.read_text()
    assert "development" not in server.log.read_text()
