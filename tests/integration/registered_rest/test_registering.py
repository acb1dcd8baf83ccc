"""Models are registered over REST, by a path or a URL, and never change."""

import json
from pathlib import Path

import fsspec
import pytest

from tests.integration.control_plane import DIGITS, assert_problem
from tests.integration.registered_client import ADMIN, Client, register
from tests.integration.registered_control import Registered


def test_registering_keeps_what_is_said(client: Client, model: Path) -> None:
    said = {
        "description": "reads letters",
        "owner": "vision",
        "tags": ["small", "latin"],
        "framework": "numpy",
        "training_data": "s3://letters/2026",
        "metrics": {"accuracy": 0.97, "classes": 26},
        "lineage": {"base": "digits 3.0.0"},
        "environment": {"numpy": "2.1.0"},
    }
    answer = register(
        client, model, version="2.0.0", backend="python", card="# Letters\n", settings={"max_batch_size": 8}, **said
    )
    assert (answer["name"], answer["version"], answer["card"]) == ("letters", "2.0.0", "# Letters\n")
    assert [(file["path"], file["bytes"]) for file in answer["files"]] == [("model.py", 17)]
    registration = answer["registration"]
    assert registration["metadata"] == said
    assert registration["settings"] == {"max_batch_size": 8}
    assert (registration["registered_by"], registration["backend"], registration["bytes"]) == ("k1", "python", 17)
    shown = client.ask("GET", "/models/letters/versions/2.0.0")
    assert shown["registration"] == registration
    assert (shown["state"], shown["latest"], shown["files"], shown["card"]) == (
        "registered",
        True,
        answer["files"],
        "# Letters\n",
    )


def test_the_same_again_makes_no_version(client: Client, running: Registered, model: Path) -> None:
    first = register(client, model)
    response, _ = running.control.request(
        "POST", "/models", ADMIN, json.dumps({"name": "letters", "path": str(model)}).encode()
    )
    assert response.status == 200
    assert response.headers["Location"] == "/models/letters/versions/1.0.0"
    assert first["version"] == "1.0.0"


def test_url_is_the_same_version_as_the_path(client: Client, running: Registered, tmp_path: Path) -> None:
    folder = tmp_path / "letters"
    (folder / "words").mkdir(parents=True)
    (folder / "model.py").write_text("class Model: ...\n")
    (folder / "words/list.json").write_text("[]")
    by_path = register(client, folder)
    fsspec.filesystem("memory").put(str(folder), "/shelf/letters", recursive=True)
    answer = client.ask("POST", "/models", {"name": "letters", "version": "1.0.0", "url": "memory://shelf/letters"})
    assert answer["registration"]["digest"] == by_path["registration"]["digest"]
    one = client.ask("POST", "/models", {"name": "one", "url": "memory://shelf/letters/model.py"}, status=201)
    assert [file["path"] for file in one["files"]] == ["model.py"]
    assert not list((running.folder / "uploads").iterdir())


def test_other_content_under_a_version_is_a_conflict(client: Client, model: Path) -> None:
    register(client, model, version="1.0.0")
    model.write_text("class Model: changed = True\n")
    wish = {"name": "letters", "version": "1.0.0", "path": str(model)}
    assert "never changes" in client.refused("POST", "/models", 409, "conflict", wish)


@pytest.mark.parametrize(
    ("wish", "reason"),
    [
        ({}, "name: expected a string, got nothing"),
        ({"name": "a/b", "path": "/x"}, "name: expected 1 to 64 letters"),
        ({"name": "letters"}, "path or url: one of them"),
        ({"name": "letters", "path": "/x", "url": "file:///x"}, "path or url: one of them"),
        ({"name": "letters", "url": "memory://no/such/model"}, "url: there is nothing at memory://no/such/model"),
        ({"name": "letters", "url": "gopher://a:b@x/model"}, "url: gopher://x/model cannot be read"),
        ({"name": "letters", "path": "model.py"}, "path: expected an absolute path"),
        ({"name": "letters", "path": "/no/such/model.py"}, "there is no file or folder"),
        ({"name": "letters", "path": "/x", "vesion": "1"}, "vesion: no such member; did you mean 'version'?"),
        ({"name": "letters", "path": "/x", "version": "one"}, "is no version"),
        ({"name": "letters", "path": "/x", "backend": "caffe"}, "backend: expected one of 'auto'"),
        ({"name": "letters", "path": "/x", "metrics": {"accuracy": "high"}}, "metrics: expected an object"),
        ({"name": "letters", "path": "/x", "tags": "small"}, "tags: expected a list of strings"),
        ({"name": "letters", "path": "/x", "settings": {"max_batch_size": 0}}, "max_batch_size"),
        ({"name": "letters", "path": "/x", "settings": {"max_batch_siez": 1}}, "max_batch_size"),
        ([], "expected a JSON object"),
    ],
)
def test_wrong_registration_is_told_by_its_member(client: Client, wish: object, reason: str) -> None:
    assert reason in client.refused("POST", "/models", 422, "invalid_input", wish)


def test_body_of_another_kind(running: Registered) -> None:
    form = {**ADMIN, "Content-Type": "application/x-www-form-urlencoded"}
    response, body = running.control.request("POST", "/models", form, b"name=letters")
    assert_problem(response, body, 415, "unsupported_media_type")
    response, body = running.control.request("POST", "/models", ADMIN, b'{"name": ')
    assert_problem(response, body, 400, "malformed_body")


def test_configured_model_is_not_the_registrys(client: Client, running: Registered, model: Path) -> None:
    running.control.source.statuses = (DIGITS,)
    wish = {"name": "digits", "path": str(model)}
    assert "configuration" in client.refused("POST", "/models", 409, "conflict", wish)
    for method, target, document in (
        ("DELETE", "/models/digits", None),
        ("DELETE", "/models/digits/versions/1", None),
        ("POST", "/models/digits/load", {}),
        ("POST", "/models/digits/unload", {}),
        ("PUT", "/models/digits/aliases/a", {"version": "1"}),
        ("POST", "/models/digits/promote", {"version": "1"}),
        ("POST", "/models/digits/rollback", {}),
    ):
        client.refused(method, target, 409, "conflict", document)
    assert running.lifecycle.calls == []
    assert client.ask("GET", "/models/digits/versions/1")["registration"] is None
    assert client.ask("GET", "/models/digits/versions/latest")["version"] == "1"
    client.refused("GET", "/models/digits/versions/2", 404, "version_not_found")
