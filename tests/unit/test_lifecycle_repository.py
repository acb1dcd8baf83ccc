"""A watched folder: what is taken from it, and when."""

import os
from pathlib import Path

from penstock.serve.lifecycle.repository import RepositoryFolder


def place(folder: Path, name: str, content: bytes = b"model") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def found(repository: RepositoryFolder) -> list[tuple[str, str]]:
    return [(each.model, each.version) for each in repository.settled()]


def test_a_version_is_taken_when_it_has_not_changed_between_two_looks(tmp_path: Path) -> None:
    repository = RepositoryFolder(tmp_path)
    place(tmp_path, "digits/1/model.onnx")
    assert found(repository) == []
    place(tmp_path, "digits/1/model.onnx", b"longer model")
    assert found(repository) == []
    assert found(repository) == [("digits", "1")]
    assert found(repository) == []


def test_a_version_that_changes_later_is_taken_again(tmp_path: Path) -> None:
    repository = RepositoryFolder(tmp_path)
    path = place(tmp_path, "digits/1/model.onnx")
    found(repository)
    assert found(repository) == [("digits", "1")]
    os.utime(path, ns=(1, 1))
    assert found(repository) == []
    assert found(repository) == [("digits", "1")]


def test_hidden_folders_files_and_empty_folders_are_no_versions(tmp_path: Path) -> None:
    repository = RepositoryFolder(tmp_path)
    place(tmp_path, ".git/1/model.onnx")
    place(tmp_path, "digits/.tmp/model.onnx")
    place(tmp_path, "digits/readme.txt")
    (tmp_path / "digits" / "2").mkdir()
    found(repository)
    assert found(repository) == []


def test_a_folder_that_is_not_there_is_empty(tmp_path: Path) -> None:
    assert found(RepositoryFolder(tmp_path / "absent")) == []
