"""What the SDK sends of a model is what the server takes of it from the same path."""

import io
import json
import tarfile
from pathlib import Path

import pytest

from penstock.registry.manifest import ArtefactError, members_of
from penstock_client import ArgumentError
from penstock_client.packing import Archive

PLAN = 'format = 1\nfeatures = [{column = "text", steps = [{tokens = "words/own.json"}]}]\n'


def sent(source: Path) -> dict[str, bytes]:
    archive = Archive(source, {"name": "m"})
    with tarfile.open(fileobj=io.BytesIO(b"".join(archive))) as packed:
        found = {name: packed.extractfile(name) for name in packed.getnames()}
        content = {name: file.read() for name, file in found.items() if file is not None}
    archive.close()
    assert json.loads(content.pop("penstock.json")) == {"name": "m"}
    return content


@pytest.mark.parametrize(
    "files",
    [
        {"net.onnx": "x"},
        {"net.onnx": "x", "net.golden.json": "1", "golden.json": "2", "schema.json": "{}"},
        {"net.onnx": "x", "schema.json": '{"class": "nets/small.py:Small"}', "nets/small.py": "y", "other.py": "z"},
        {"net.onnx": "x", "schema.json": '{"class": 7}'},
        {"net.onnx": "x", "schema.json": "no json"},
        {"net.onnx": "x", "net.processing.toml": PLAN, "words/own.json": "w"},
        {"net.onnx": "x", "net.processing.toml": PLAN, "processing.json": "{}", "words/own.json": "w"},
        {"net.onnx": "x", "processing.json": '{"features": [{"steps": [{"tokens": "t.json"}]}]}', "t.json": "t"},
        {"net.onnx": "x", "processing.json": "no json"},
        {"golden.json": "x", "schema.json": "{}"},
    ],
    ids=str,
)
def test_a_file_brings_the_same(files: dict[str, str], tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(text)
    source = tmp_path / next(iter(files))
    assert sent(source) == {member.path: member.source.read_bytes() for member in members_of(source)}


def test_a_folder_brings_the_same(tmp_path: Path) -> None:
    for name in ("model.py", "deep/word.txt", "__pycache__/model.pyc", "processing.toml"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(name)
    (tmp_path / "link.txt").symlink_to("deep/word.txt")
    assert sent(tmp_path) == {member.path: member.source.read_bytes() for member in members_of(tmp_path)}


@pytest.mark.parametrize(
    ("files", "said"),
    [
        ({"net.onnx": "x", "schema.json": '{"class": "none.py:Net"}'}, "none.py"),
        ({"net.onnx": "x", "schema.json": '{"class": "../up.py:Net"}'}, "must lie in the folder"),
        ({"net.onnx": "x", "schema.json": '{"class": "model.py:Net"}'}, "plain Python model"),
        ({"net.onnx": "x", "processing.toml": "", "processing.json": "{}"}, "two plans of one model"),
        ({"net.onnx": "x", "processing.toml": PLAN}, "words/own.json"),
    ],
    ids=str,
)
def test_what_neither_takes(files: dict[str, str], said: str, tmp_path: Path) -> None:
    for name, text in files.items():
        (tmp_path / name).write_text(text)
    with pytest.raises(ArgumentError, match=said):
        Archive(tmp_path / "net.onnx", {})
    with pytest.raises(ArtefactError, match=said):
        members_of(tmp_path / "net.onnx")


def test_a_link_out_of_the_folder(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("s")
    (tmp_path / "model").mkdir()
    (tmp_path / "model/net.onnx").symlink_to("../secret")
    with pytest.raises(ArgumentError, match="a link out of the folder"):
        Archive(tmp_path / "model", {})
