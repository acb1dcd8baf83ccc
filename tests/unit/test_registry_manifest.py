"""What an artefact consists of, and what cannot be one."""

import hashlib
import json
import os
import socket
from pathlib import Path

import pytest

from penstock.registry.folder import stage
from penstock.registry.manifest import (
    FILES_MAX,
    ArtefactError,
    canonical,
    digest_of,
    members_of,
    parse_manifest,
)
from penstock.registry.records import ManifestEntry


def paths(source: Path) -> list[str]:
    return [member.path for member in members_of(source)]


def written(path: Path, text: str = "x") -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    return path


def test_a_folder_is_its_files_in_order(tmp_path: Path) -> None:
    for name in ("b/two.bin", "b.txt", "a.onnx", "b/__pycache__/x.pyc", "é"):
        written(tmp_path / name)
    (tmp_path / "empty").mkdir()
    assert paths(tmp_path) == ["a.onnx", "b.txt", "b/two.bin", "é"]


def test_a_file_brings_what_belongs_to_it(tmp_path: Path) -> None:
    model = written(tmp_path / "net.pt")
    assert paths(model) == ["net.pt"]
    written(tmp_path / "schema.json", "shared")
    written(tmp_path / "net.golden.json")
    assert paths(model) == ["golden.json", "net.pt", "schema.json"]
    own = written(tmp_path / "net.schema.json", "own")
    assert [member.source for member in members_of(model) if member.path == "schema.json"] == [own]


@pytest.mark.parametrize("name", ["processing.json", "processing.toml"])
def test_a_file_brings_its_plan(tmp_path: Path, name: str) -> None:
    model = written(tmp_path / "net.onnx")
    written(tmp_path / name, "")
    assert paths(model) == ["net.onnx", name]
    own = written(tmp_path / f"net.{name}", "")
    assert [member.source for member in members_of(model) if member.path == name] == [own]
    written(tmp_path / "other.onnx")
    assert [member.source for member in members_of(tmp_path / "other.onnx")][1:] == [tmp_path / name]


def plan_with(folder: Path, tokens: object) -> Path:
    features = [{"column": "age"}, {"column": "note", "steps": [{"tokens": tokens, "length": 8}]}]
    written(folder / "net.processing.json", json.dumps({"format": 1, "features": features}))
    return written(folder / "net.onnx")


def test_a_plan_brings_its_tokenizer(tmp_path: Path) -> None:
    written(tmp_path / "words" / "tokenizer.json")
    assert paths(plan_with(tmp_path, "words/tokenizer.json")) == ["net.onnx", "processing.json", "words/tokenizer.json"]
    for tokens, said in (
        ("absent.json", "net.processing.json names the file 'absent.json', and there is none: put it beside"),
        ("../secret.json", "must lie in the folder"),
    ):
        folder = tmp_path / "model"
        written(tmp_path / "secret.json")
        with pytest.raises(ArtefactError, match=said):
            members_of(plan_with(folder, tokens))


@pytest.mark.parametrize("plan", ["{", "[]", '{"features": 5}', '{"features": [5, {"steps": [5, {"tokens": 5}]}]}'])
def test_what_is_wrong_with_a_plan_is_left_to_the_worker(tmp_path: Path, plan: str) -> None:
    written(tmp_path / "net.processing.json", plan)
    assert paths(written(tmp_path / "net.onnx")) == ["net.onnx", "processing.json"]


def schema_with(folder: Path, declared: object) -> Path:
    written(folder / "net.schema.json", json.dumps({"inputs": [], "class": declared}))
    return written(folder / "net.pt")


def test_weights_bring_the_file_of_their_class(tmp_path: Path) -> None:
    written(tmp_path / "net.py")
    written(tmp_path / "unrelated.py")
    assert paths(schema_with(tmp_path, "net.py:Net")) == ["net.pt", "net.py", "schema.json"]
    # A plain Python model with a schema beside it is there once.
    assert paths(tmp_path / "net.py") == ["net.py", "schema.json"]
    written(tmp_path / "nets" / "small.py")
    assert paths(schema_with(tmp_path, "./nets/small.py:Net")) == ["net.pt", "nets/small.py", "schema.json"]


@pytest.mark.parametrize(
    ("declared", "said"),
    [
        ("missing.py:Net", "names the class file 'missing.py', and there is none: put it beside net.schema.json"),
        ("../secret.py:Net", "must lie in the folder"),
        ("/etc/secret.py:Net", "must lie in the folder"),
        ("link.py:Net", "must lie in the folder"),
        ("model.py:Net", "would be taken for a plain Python model: give it another name"),
    ],
)
def test_class_files_that_cannot_be_registered_are_told(tmp_path: Path, declared: str, said: str) -> None:
    folder, secret = tmp_path / "model", written(tmp_path / "secret.py")
    written(folder / "model.py")
    (folder / "link.py").symlink_to(secret)
    with pytest.raises(ArtefactError, match=said):
        members_of(schema_with(folder, declared))


@pytest.mark.parametrize("declared", [None, 5, "", "net.txt:Net", "net.py"])
def test_what_else_is_wrong_with_a_schema_is_left_to_the_worker(tmp_path: Path, declared: object) -> None:
    written(tmp_path / "net.txt")
    assert paths(schema_with(tmp_path, declared)) == ["net.pt", "schema.json"]
    written(tmp_path / "net.schema.json", "{")
    assert paths(tmp_path / "net.pt") == ["net.pt", "schema.json"]


def test_links_are_followed_within_the_folder_alone(tmp_path: Path) -> None:
    folder, outside = tmp_path / "model", written(tmp_path / "secret")
    written(folder / "sub" / "real.bin")
    (folder / "link.bin").symlink_to("sub/real.bin")
    assert paths(folder) == ["link.bin", "sub/real.bin"]
    for target in (outside, "../secret", "sub", "nothing", "loop"):
        link = folder / "loop"
        link.symlink_to(target)
        with pytest.raises(ArtefactError, match="'loop' is a link"):
            members_of(folder)
        link.unlink()


def test_what_is_no_file_is_refused(tmp_path: Path) -> None:
    written(tmp_path / "model.onnx")
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(ArtefactError, match="'pipe' is neither a file nor a folder"):
        members_of(tmp_path)
    (tmp_path / "pipe").unlink()
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind(str(tmp_path / "socket"))
        with pytest.raises(ArtefactError, match="'socket' is neither"):
            members_of(tmp_path)
    with pytest.raises(ArtefactError, match="neither a file nor a folder"):
        members_of(Path("/dev/null"))


@pytest.mark.parametrize("name", [b"new\nline", b"back\\slash", b"\xff.onnx", b"\x1b[2J"])
def test_names_that_cannot_be_shown_are_refused(tmp_path: Path, name: bytes) -> None:
    Path(os.fsdecode(bytes(tmp_path) + b"/" + name)).write_text("x")
    with pytest.raises(ArtefactError, match="rename the file"):
        members_of(tmp_path)


def test_nothing_is_refused(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    with pytest.raises(ArtefactError, match="is empty"):
        members_of(tmp_path)
    with pytest.raises(ArtefactError, match="there is no file or folder"):
        members_of(tmp_path / "missing")


def test_too_many_files_are_refused(tmp_path: Path) -> None:
    for number in range(FILES_MAX):
        (tmp_path / str(number)).touch()
    assert len(members_of(tmp_path)) == FILES_MAX
    (tmp_path / "more").touch()
    with pytest.raises(ArtefactError, match=f"more than {FILES_MAX} files"):
        members_of(tmp_path)


def test_the_digest_is_that_of_the_manifest_whatever_its_order() -> None:
    entries = (ManifestEntry("b", 1, "1" * 64), ManifestEntry("a/ä", 2, "2" * 64))
    text = canonical(entries)
    assert text == canonical(entries[::-1])
    assert text.decode() == (
        '{"files":[{"bytes":2,"path":"a/ä","sha256":"'
        + "2" * 64
        + '"},{"bytes":1,"path":"b","sha256":"'
        + "1" * 64
        + '"}]}'
    )
    assert digest_of(entries) == hashlib.sha256(text).hexdigest()
    assert sorted(parse_manifest(text), key=lambda entry: entry.path) == [entries[1], entries[0]]
    assert json.loads(text)["files"][0]["path"] == "a/ä"


def test_staging_describes_what_it_wrote(tmp_path: Path) -> None:
    source = tmp_path / "model"
    large = os.urandom(3 << 20)
    written(source / "small.json", "{}")
    (source / "deep" / "er").mkdir(parents=True)
    (source / "deep" / "er" / "large.bin").write_bytes(large)
    target = tmp_path / "staged"
    target.mkdir()
    staged = stage(target, members_of(source))
    assert [(entry.path, entry.bytes, entry.sha256) for entry in staged.manifest] == [
        ("deep/er/large.bin", len(large), hashlib.sha256(large).hexdigest()),
        ("small.json", 2, hashlib.sha256(b"{}").hexdigest()),
    ]
    assert (target / "deep/er/large.bin").read_bytes() == large
    assert staged.bytes == len(large) + 2
    assert {path.stat().st_mode & 0o777 for path in target.rglob("*") if path.is_file()} == {0o444}
