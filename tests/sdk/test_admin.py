"""Administration through both clients, against a real server with a registry."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock_client import ArgumentError, TimedOutError, TransportError
from penstock_client.problems import ConflictError, ModelNotFoundError, UnauthorizedError, VersionNotFoundError
from tests.integration.supervised import until
from tests.sdk.asking import Ask, async_asker, sync_asker
from tests.serving import Server


@pytest.fixture(params=["blocking", "asyncio"])
def admin(request: pytest.FixtureRequest, serve: Callable[..., Server], model_folder: Path) -> Ask:
    """Ask a server that lets everyone administer, started where a client's variables are set."""
    client = {"PENSTOCK_URL": "http://127.0.0.1:1", "PENSTOCK_API_KEY": "psk_of_another_server"}
    server = serve("--development", models={"affine": model_folder / "affine.onnx"}, env=client)
    return (sync_asker if request.param == "blocking" else async_asker)(server.url)


def test_the_life_of_a_model(admin: Ask, model_folder: Path, tmp_path: Path) -> None:
    registered = admin(
        "models.register", "flowers", model_folder / "affine.onnx", description="2 x + 1", tags=["small"], owner="me"
    )
    assert (registered["name"], registered["version"]) == ("flowers", "1.0.0")
    assert registered["registration"]["metadata"]["owner"] == "me"
    assert [file["path"] for file in registered["files"]] == ["affine.onnx"]
    folder = tmp_path / "echo"
    folder.mkdir()
    (folder / "echo.py").write_text((model_folder / "echo.py").read_text())
    (folder / "__pycache__").mkdir()
    (folder / "__pycache__/echo.pyc").write_bytes(b"x")
    with pytest.raises(ConflictError):
        admin("models.register", "flowers", model_folder / "mlp.onnx", version="1.0.0")
    other = admin("models.register", "flowers", model_folder / "affine.onnx", version="1.1.0", upload=False)
    assert other["version"] == "1.1.0"
    assert [file["path"] for file in admin("models.register", "echo", folder)["files"]] == ["echo.py"]

    assert admin("models.load", "flowers", "1.0.0") == {"name": "flowers", "version": "1.0.0", "lazy": False}
    assert admin("models.promote", "flowers", "1.0.0")["version"] == "1.0.0"
    assert admin("predict", "flowers", [1, 2, 3, 4]).version == "1.0.0"
    assert admin("models.promote", "flowers", "1.1.0", reason="it is newer")["version"] == "1.1.0"
    assert admin("predict", "flowers", [1, 2, 3, 4]).version == "1.1.0"
    assert admin("models.rollback", "flowers", reason="it is not better")["version"] == "1.0.0"

    assert admin("models.set_alias", "flowers", "staging", "1.1.0")["previous"] is None
    assert admin("models.alias", "flowers", "staging")["version"] == "1.1.0"
    with pytest.raises(ConflictError):
        admin("models.set_alias", "flowers", "staging", "1.0.0", expected="1.0.0")
    assert admin("models.remove_alias", "flowers", "staging", reason="done", expected="1.1.0")["previous"] == "1.1.0"
    with pytest.raises(VersionNotFoundError):
        admin("models.alias", "flowers", "staging")

    assert {(one["name"], one["version"]) for one in admin("models.list")} >= {
        ("affine", "1"),
        ("echo", "1.0.0"),
        ("flowers", "1.0.0"),
        ("flowers", "1.1.0"),
    }
    assert admin("models.show", "flowers")["aliases"] == {"champion": "1.0.0"}
    assert admin("models.version", "flowers", "1.1.0")["inputs"][0]["shape"] == [4]
    everything = admin("models.history", "flowers")
    assert admin("models.history", "flowers", limit=3) == everything[:3]
    assert {"registered", "alias", "ready"} <= {event["kind"] for event in everything}

    assert admin("models.unload", "flowers") == {"name": "flowers", "version": None}
    assert admin("models.remove", "flowers", "1.1.0")["removed"]
    admin("models.remove_alias", "flowers", "champion")
    assert admin("models.remove", "flowers")["removed"]
    with pytest.raises(ModelNotFoundError):
        admin("models.show", "flowers")


def test_a_version_that_would_break_clients_is_promoted_when_that_is_said(admin: Ask, model_folder: Path) -> None:
    for file, version in (("affine.onnx", "1.0.0"), ("mlp.onnx", "2.0.0")):
        admin("models.register", "leaves", model_folder / file, version=version)
    admin("models.promote", "leaves", "1.0.0")
    with pytest.raises(ConflictError, match="would break clients"):
        admin("models.promote", "leaves", "2.0.0")
    assert admin("models.promote", "leaves", "2.0.0", allow_schema_change=True)["version"] == "2.0.0"
    assert admin("models.rollback", "leaves")["version"] == "1.0.0"
    with pytest.raises(ConflictError, match="would break clients"):
        admin("models.set_alias", "leaves", "champion", "2.0.0")
    changed = admin("models.set_alias", "leaves", "champion", "2.0.0", allow_schema_change=True)
    assert changed["previous"] == "1.0.0"


def test_keys(admin: Ask, monkeypatch: pytest.MonkeyPatch) -> None:
    made = admin("keys.create", "laptop", "operator")
    assert made["key"].startswith("psk_")
    assert [key["name"] for key in admin("keys.list")] == ["laptop"]
    assert admin("models.list", client={"key": made["key"]})
    for variable in ("PENSTOCK_API_KEY", "PENSTOCK_KEY"):
        with monkeypatch.context() as patched:
            patched.setenv(variable, "psk_wrong")
            with pytest.raises(UnauthorizedError):
                admin("models.list")
    assert admin("keys.revoke", made["id"])["revoked_at"]
    with pytest.raises(UnauthorizedError):
        admin("models.list", client={"key": made["key"]})


def test_health(ask: Ask) -> None:
    until(lambda: ask("live"), "it lives")
    until(lambda: ask("ready"), "it is ready")
    assert ask("wait_ready") is None
    assert ask("server")["name"] == "penstock"
    assert "\npenstock_ready 1.0\n" in ask("metrics")
    nobody: dict[str, Any] = {"url": "http://127.0.0.1:1"}
    assert not ask("live", client=nobody)
    assert not ask("ready", client=nobody)
    with pytest.raises(TimedOutError, match=r"not ready within 0\.1 s"):
        ask("wait_ready", 0.1, client=nobody)
    with pytest.raises(TransportError):
        ask("server", client=nobody)


def test_what_cannot_be_packed(ask: Ask, tmp_path: Path) -> None:
    with pytest.raises(ArgumentError, match="no file or folder"):
        ask("models.register", "m", tmp_path / "none")
    with pytest.raises(ArgumentError, match="nothing in"):
        ask("models.register", "m", tmp_path)
    (tmp_path / "penstock.json").write_text(json.dumps({}))
    with pytest.raises(ArgumentError, match="is what the registration is called"):
        ask("models.register", "m", tmp_path)
