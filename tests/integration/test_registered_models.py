"""Registered models over REST, with a real registry. What servers make of it is in the tests of the lifecycle."""

import io
import json
import sqlite3
import tarfile
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import fsspec
import pytest
from jsonschema import Draft202012Validator

from penstock.core.config import ModelConfig
from penstock.core.errors import RegistryUnavailableError, RequestError
from penstock.core.models import Mirror
from penstock.core.status import ModelState, ModelStatus, Origin
from penstock.registry.records import UNSET, EventKind
from tests.integration.control_plane import BROKEN, DIGITS, Control, assert_problem, control_plane
from tests.integration.registered_control import Registered, registered_control_plane

ADMIN = {"X-Penstock-Principal": "k1", "X-Penstock-Role": "admin", "Content-Type": "application/json"}


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Registered]:
    with registered_control_plane(tmp_path) as running:
        yield running


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.py"
    path.write_text("class Model: ...\n")
    return path


class Client:
    """Asks as an administrator, and holds every answer to its schema."""

    def __init__(self, control: Control) -> None:
        self.control = control
        self.document = control.get("/openapi.json")

    def ask(self, method: str, target: str, document: object = None, status: int = 200) -> Any:
        body = None if document is None else json.dumps(document).encode()
        response, answer = self.control.request(method, target, ADMIN, body)
        assert response.status == status, answer
        if not answer:
            return None
        found = json.loads(answer)
        self.validate(self.operation(method, target), str(status), found)
        return found

    def refused(self, method: str, target: str, status: int, code: str, document: object = None) -> str:
        body = None if document is None else json.dumps(document).encode()
        response, answer = self.control.request(method, target, ADMIN, body)
        assert (
            code
            in self.operation(method, target)["responses"][str(status)]["content"]["application/problem+json"][
                "examples"
            ]
        )
        return str(assert_problem(response, answer, status, code)["detail"])

    def operation(self, method: str, target: str) -> dict[str, Any]:
        parts = target.partition("?")[0].split("/")
        for path, item in self.document["paths"].items():
            wanted = path.split("/")
            if len(wanted) == len(parts) and all(
                each.startswith("{") or each == part for each, part in zip(wanted, parts, strict=True)
            ):
                return dict(item[method.lower()])
        raise AssertionError(f"{target} is not described")

    def validate(self, operation: dict[str, Any], status: str, answer: Any) -> None:
        schema = operation["responses"][status]["content"]["application/json"]["schema"]
        Draft202012Validator(schema | {"components": self.document["components"]}).validate(answer)
        described = self.document["components"]["schemas"][schema["$ref"].rpartition("/")[2]]
        if "properties" in described:
            assert set(answer) <= set(described["properties"])


@pytest.fixture
def client(running: Registered) -> Client:
    return Client(running.control)


def register(client: Client, path: Path, **more: Any) -> Any:
    return client.ask("POST", "/models", {"name": "letters", "path": str(path), **more}, status=201)


def versions(client: Client, path: Path, count: int) -> None:
    """Register letters 1.0.0, 1.1.0, ..."""
    for number in range(count):
        path.write_text(f"class Model: number = {number}\n")
        assert register(client, path)["version"] == f"1.{number}.0"


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


# --- archives


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


# --- lists


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


def loaded(name: str, version: str, state: ModelState, *, latest: bool = True) -> ModelStatus:
    config = ModelConfig(name=name, path=Path("artefact"), version=version)
    return ModelStatus(config=config, state=state, latest=latest, origin=Origin.REGISTRY, digest="0" * 64)


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


# --- what is asked of the lifecycle


def test_lifecycle_is_asked_in_the_name_of_the_key(client: Client, running: Registered, model: Path) -> None:
    versions(client, model, 2)
    mirror = {"share": 0.5, "rows": 10, "rtol": 0.1, "atol": 0.2, "timeout_s": 3}
    client.ask("POST", "/models/letters/load", {"version": "1.0.0", "lazy": True})
    client.ask("POST", "/models/letters/load")
    client.ask("POST", "/models/letters/promote", {"version": "1.0.0"})
    client.ask("POST", "/models/letters/promote", {"version": "1.1.0", "reason": "better", "mirror": mirror})
    client.ask("POST", "/models/letters/rollback", {"reason": "worse"})
    client.ask("POST", "/models/letters/unload", {"version": "1.1.0"})
    client.ask("POST", "/models/letters/unload")
    assert running.lifecycle.calls == [
        ("load", "letters", "1.0.0", True, "k1"),
        ("load", "letters", None, False, "k1"),
        ("promote", "letters", "1.0.0", "k1", "", None),
        ("promote", "letters", "1.1.0", "k1", "better", Mirror(0.5, 10, 0.1, 0.2, 3)),
        ("rollback", "letters", "k1", "worse"),
        ("unload", "letters", "1.1.0", "k1"),
        ("unload", "letters", None, "k1"),
    ]


def test_mirror_has_usual_values(client: Client, running: Registered, model: Path) -> None:
    versions(client, model, 1)
    client.ask("POST", "/models/letters/promote", {"version": "1.0.0", "mirror": {}})
    assert running.lifecycle.calls[-1][-1] == Mirror()
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
    assert asked[0][1:] == ("letters", "staging", "1.0.0", "k1", "to try", None)
    assert asked[-1][1:] == ("letters", "staging", None, "k1", "done", "1.1.0")


def test_expected_is_left_open_when_nothing_is_said(client: Client, running: Registered, model: Path) -> None:
    versions(client, model, 1)
    client.ask("PUT", "/models/letters/aliases/staging", {"version": "1.0.0"})
    assert running.lifecycle.calls[-1][-1] is UNSET


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


# --- history


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


# --- keys


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


# --- the model repository extension


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


# --- without a registry


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
