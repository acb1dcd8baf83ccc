"""What a registration says, and where its artefact is: at a path of the server, at a URL, or in an archive with it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import request

from penstock.control import uploads
from penstock.control.reading import Members, body, parse_json, query
from penstock.core.config import BackendName
from penstock.core.errors import ConfigError, RequestError
from penstock.registry.records import Metadata

__all__ = ["Registration", "received"]

ARCHIVE = "application/x-tar"
# A model card is too long for a query. It, and everything else, may be said in this file at the archive's top.
DOCUMENT = "penstock.json"
_CARD_BYTES_MAX = 1 << 20

_Call = Callable[[Coroutine[Any, Any, Any]], Any]


@dataclass(frozen=True, slots=True)
class Registration:
    """A version as it shall be registered; the registry gives it a number where it has none."""

    name: str
    version: str | None
    backend: str
    metadata: Metadata
    settings: dict[str, object]


@contextmanager
def received(folder: Path | None, call: _Call) -> Iterator[tuple[Registration, Path]]:
    """Read the request: what to register, and the file or folder to register, which may be gone after the block.

    `folder` is where archives are unpacked; `call` runs a coroutine and waits for it.
    """
    if request.mimetype != ARCHIVE:
        members = body()
        wanted, path, url = _registration(members), members.text_or_none("path"), members.text_or_none("url")
        members.done()
        if (path is None) == (url is None):
            raise RequestError("invalid_input", "path or url: one of them says where the model is, and not both")
        with _fetched(url, folder, call) if url is not None else nullcontext(_local(path or "")) as source:
            yield wanted, source
        return
    # Before the body is read: what is wrong with the query need not wait for it.
    asked = _whole_registration(query()) if request.args else None
    with uploads.receive(request.stream, folder) as (archive, unpacked):
        call(asyncio.to_thread(uploads.unpack, archive, unpacked))
        if asked is None:
            yield _whole_registration(_document(unpacked)), unpacked
        else:
            yield asked, uploads.artefact_of(unpacked)


def _local(text: str) -> Path:
    path = Path(text)
    if not path.is_absolute():
        raise RequestError(
            "invalid_input",
            f"path: expected an absolute path of the server's file system, got {text[:200]!r}; "
            f"to send files from elsewhere, pack them: --data-binary @model.tar with 'Content-Type: {ARCHIVE}'",
        )
    return path


@contextmanager
def _fetched(url: str, folder: Path | None, call: _Call) -> Iterator[Path]:
    """Copy what is at a URL, for the time of the block."""
    try:
        # fsspec is an extra, and takes a tenth of a second to import.
        from penstock.registry.remote import download
    except ConfigError:
        raise RequestError(
            "invalid_input",
            "url: this server has no fsspec to read it with; pip install 'penstock[s3]', or give a path",
        ) from None
    with uploads.place(folder) as here:
        yield call(asyncio.to_thread(download, url, here))


def _document(unpacked: Path) -> Members:
    file = unpacked / DOCUMENT
    if not file.is_file():
        raise RequestError(
            "invalid_input",
            f"name is missing: say what to register in the query (?name=NAME&version=VERSION) or in a file {DOCUMENT} "
            "at the top of the archive",
        )
    document = parse_json(file.read_bytes())
    file.unlink()
    if not isinstance(document, dict):
        raise RequestError("invalid_input", f"{DOCUMENT}: expected a JSON object, got {type(document).__name__}")
    return Members(document, f"{DOCUMENT}: ")


def _whole_registration(members: Members) -> Registration:
    wanted = _registration(members)
    members.done()
    return wanted


def _registration(members: Members) -> Registration:
    return Registration(
        name=members.name("name"),
        version=members.name_or_none("version"),
        backend=members.one_of("backend", BackendName, BackendName.AUTO),
        metadata=Metadata(
            description=members.text("description", ""),
            owner=members.text("owner", ""),
            tags=members.texts("tags"),
            framework=members.text("framework", ""),
            training_data=members.text("training_data", ""),
            metrics=members.number_table("metrics"),
            lineage=members.text_table("lineage"),
            environment=members.text_table("environment"),
            card=members.text("card", "", bytes_max=_CARD_BYTES_MAX),
        ),
        settings=members.table("settings"),
    )
