"""Models are registered over REST by sending an archive."""

import io
import json
import tarfile
from pathlib import Path
from typing import Any

import pytest

from tests.integration.control_plane import assert_problem
from tests.integration.registered_client import ADMIN, Client, register
from tests.integration.registered_control import Registered


def archive(**files: bytes) -> bytes:
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        for name, data in files.items():
            member = tarfile.TarInfo(name.replace("__", "/").replace("_py", ".py").replace("_json", ".json"))
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))
    return content.getvalue()


def send(running: Registered, content: bytes, target: str = "/models") -> tuple[Any, Any]:
    return running.control.request("POST", target, {**ADMIN, "Content-Type": "application/x-tar"}, content)


def test_archive_is_the_same_version_as_the_file(client: Client, running: Registered, model: Path) -> None:
    by_path = register(client, model)
    content = archive(model_py=model.read_bytes())
    response, body = send(running, content, "/models?name=letters&version=1.0.0")
    assert response.status == 200, body
    assert json.loads(body)["registration"]["digest"] == by_path["registration"]["digest"]
    assert not list((running.folder / "uploads").iterdir())


def test_archive_with_a_folder(client: Client, running: Registered) -> None:
    content = archive(letters__model_py=b"class Model: ...", letters__words_json=b"[]")
    response, body = send(
        running, content, "/models?name=letters&metrics=%7B%22accuracy%22%3A0.5%7D&tags=%5B%22a%22%5D"
    )
    assert response.status == 201, body
    answer = json.loads(body)
    assert [file["path"] for file in answer["files"]] == ["model.py", "words.json"]
    assert answer["registration"]["metadata"]["metrics"] == {"accuracy": 0.5}
    assert answer["registration"]["metadata"]["tags"] == ["a"]


def test_archive_that_says_what_it_is(running: Registered) -> None:
    said = json.dumps({"name": "letters", "card": "# " + "long " * 5000}).encode()
    response, body = send(running, archive(penstock_json=said, model_py=b"class Model: ..."))
    assert response.status == 201, body
    answer = json.loads(body)
    assert [file["path"] for file in answer["files"]] == ["model.py"]
    assert len(answer["card"]) > 20_000


@pytest.mark.parametrize(
    ("content", "target", "status", "code", "reason"),
    [
        (archive(model_py=b"x"), "/models", 422, "invalid_input", "name is missing"),
        (archive(penstock_json=b"[]", model_py=b"x"), "/models", 422, "invalid_input", "penstock.json: expected"),
        (archive(penstock_json=b"{", model_py=b"x"), "/models", 400, "malformed_body", "not valid JSON"),
        (archive(penstock_json=b'{"nam": 1}'), "/models", 422, "invalid_input", "penstock.json: name"),
        (archive(), "/models?name=a", 422, "invalid_input", "empty"),
        (b"no archive", "/models?name=a", 400, "malformed_body", "not a tar archive"),
        (archive(a=b"x"), "/models?name=a&path=%2Fetc", 422, "invalid_input", "path: no such member"),
        (archive(a=b"x"), "/models?name=a&name=b", 422, "invalid_input", "given 2 times"),
        (archive(a=b"x"), "/models?name=a&metrics=high", 422, "invalid_input", "metrics: not valid JSON"),
        (archive(**{"..__a": b"x"}), "/models?name=a", 422, "invalid_input", "outside its folder"),
    ],
)
def test_wrong_archive(running: Registered, content: bytes, target: str, status: int, code: str, reason: str) -> None:
    problem = assert_problem(*send(running, content, target), status, code)
    assert reason in problem["detail"]
    assert str(running.folder) not in problem["detail"]
    uploads = running.folder / "uploads"
    assert not uploads.exists() or not list(uploads.iterdir())
