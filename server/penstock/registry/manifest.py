"""What an artefact consists of: its files, and one digest over all of them."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from penstock.core.errors import ModelLoadError
from penstock.processing.plan_files import files_of, find_plan
from penstock.registry.records import ManifestEntry

__all__ = [
    "FILES_MAX",
    "ArtefactError",
    "Member",
    "canonical",
    "copy_and_hash",
    "digest_of",
    "hash_file",
    "members_of",
    "parse_manifest",
]

FILES_MAX = 10_000
_CHUNK = 1 << 20
# Made by running what lies beside them, and different each time.
_LEFT_OUT = {"__pycache__"}
# What may lie beside a single file and belong to it, and how it is called in the artefact's folder.
_SCHEMA = "schema.json"
_BESIDE = (_SCHEMA, "golden.json")
# As the worker has it, which refuses more.
_SCHEMA_BYTES_MAX = 16 << 20
# What makes a folder a plain Python model, whatever else is in it.
_PYTHON_MODELS = ("__init__.py", "model.py")


class ArtefactError(ValueError):
    """The artefact cannot be registered; the text says which file of it is in the way."""


@dataclass(frozen=True, slots=True)
class Member:
    """A file of an artefact that is to be: its path in the artefact, and where it is now."""

    path: str
    source: Path


def members_of(source: Path) -> list[Member]:
    """List the files of an artefact, ordered by their paths; ArtefactError for what cannot be registered.

    A single file brings its `STEM.schema.json` and `STEM.golden.json`, or else those without a stem, under the names
    that they have in a folder, the Python file whose class the schema names, and its plan with the tokenizers that it
    names. `__pycache__` is left out.
    """
    if not source.is_absolute():
        source = Path.cwd() / source
    try:
        found = list(_folder_members(source)) if source.is_dir() else list(_file_members(source))
    except OSError as error:
        raise ArtefactError(f"{error.filename or source} cannot be read: {error.strerror}") from error
    if not found:
        raise ArtefactError("the folder is empty: register the folder that the model's files are in")
    return sorted(found, key=lambda member: member.path.encode())


def _file_members(file: Path) -> Iterator[Member]:
    if not file.exists():
        raise ArtefactError(f"there is no file or folder {file}: check the path")
    yield _member(file.name, file)
    for name in _BESIDE:
        beside = (file.parent / f"{file.stem}.{name}", file.parent / name)
        present = next((path for path in beside if path.is_file() and path != file), None)
        if present is not None and file.name not in _BESIDE:
            yield _member(name, present)
            if name == _SCHEMA:
                yield from _class_member(file, present)
    try:
        plan = find_plan(file)
    except ModelLoadError as error:
        raise ArtefactError(str(error)) from error
    if plan is not None and plan != file:
        yield _member(f"processing{plan.suffix}", plan)
        for name in files_of(plan):
            yield _named_member(name, f"{plan.name} names the file {name!r}", plan)


def _class_member(file: Path, schema: Path) -> Iterator[Member]:
    """Give the Python file that declares the class of weights, if the schema names one.

    What is wrong with the schema in any other way is said by the worker that reads it.
    """
    try:
        declared = json.loads(schema.read_bytes())["class"] if schema.stat().st_size <= _SCHEMA_BYTES_MAX else ""
    except (ValueError, RecursionError, KeyError, TypeError):
        return
    path = PurePosixPath(declared.rpartition(":")[0] if isinstance(declared, str) else "")
    if path.suffix != ".py" or path == PurePosixPath(file.name):
        return
    where = f"{schema.name} names the class file {str(path)!r}"
    if str(path) in _PYTHON_MODELS:
        raise ArtefactError(f"{where}, which would be taken for a plain Python model: give it another name")
    yield _named_member(str(path), where, schema)


def _named_member(name: str, where: str, document: Path) -> Member:
    """Return a file that a document beside the model names, `where` as errors have it."""
    path, folder = PurePosixPath(name), document.parent.resolve()
    found = (folder / path).resolve()
    if path.is_absolute() or ".." in path.parts or not found.is_relative_to(folder):
        raise ArtefactError(f"{where}: it must lie in the folder of {document.name}")
    if not found.is_file():
        raise ArtefactError(f"{where}, and there is none: put it beside {document.name}")
    return _member(str(path), found)


def _folder_members(folder: Path) -> Iterator[Member]:
    root, count = folder.resolve(), 0
    for parent, folders, files in os.walk(root, onerror=_raise):
        folders[:] = sorted(name for name in folders if name not in _LEFT_OUT)
        for name in (*folders, *files):
            path = Path(parent, name)
            relative = path.relative_to(root).as_posix()
            if path.is_symlink():
                _check_link(path, relative, root)
            elif name in folders:
                continue
            count += 1
            if count > FILES_MAX:
                raise ArtefactError(f"the folder has more than {FILES_MAX} files: register only the model's own")
            yield _member(relative, path)


def _raise(error: OSError) -> None:
    raise error


def _check_link(path: Path, relative: str, root: Path) -> None:
    # Path.resolve() raises for a loop, in some versions of Python.
    target = Path(os.path.realpath(path))
    if not target.is_relative_to(root):
        raise ArtefactError(f"{relative!r} is a link out of the folder: put the file itself there")
    if not target.is_file():
        raise ArtefactError(f"{relative!r} is a link to no file: only links to files in the folder are followed")


def _member(relative: str, path: Path) -> Member:
    try:
        relative.encode()
    except UnicodeEncodeError:
        raise ArtefactError(f"{relative!r}: the name is not UTF-8: rename the file") from None
    if not relative.isprintable() or "\\" in relative:
        raise ArtefactError(f"{relative!r}: the name has a character that cannot be shown, or a '\\': rename the file")
    if not stat.S_ISREG(path.stat().st_mode):
        raise ArtefactError(f"{relative!r} is neither a file nor a folder: take it away")
    return Member(relative, path)


def canonical(manifest: Sequence[ManifestEntry]) -> bytes:
    """Write a manifest as the bytes that its digest is taken of: JSON with sorted keys, without blanks, in UTF-8."""
    files = [
        {"path": entry.path, "bytes": entry.bytes, "sha256": entry.sha256}
        for entry in sorted(manifest, key=lambda entry: entry.path.encode())
    ]
    return json.dumps({"files": files}, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


def parse_manifest(text: str | bytes) -> tuple[ManifestEntry, ...]:
    """Read what canonical() wrote."""
    return tuple(ManifestEntry(**entry) for entry in json.loads(text)["files"])


def digest_of(manifest: Sequence[ManifestEntry]) -> str:
    """Return the SHA-256 of a manifest, in hexadecimal: the name of the content."""
    return hashlib.sha256(canonical(manifest)).hexdigest()


def copy_and_hash(source: BinaryIO, target: BinaryIO) -> tuple[int, str]:
    """Copy a stream; return its bytes and their SHA-256, of what was written and not of what is there afterwards."""
    size, digest = 0, hashlib.sha256()
    while chunk := source.read(_CHUNK):
        digest.update(chunk)
        target.write(chunk)
        size += len(chunk)
    return size, digest.hexdigest()


def hash_file(path: Path) -> tuple[int, str]:
    """Return the bytes of a file and their SHA-256."""
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256")
        return file.tell(), digest.hexdigest()
