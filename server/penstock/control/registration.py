"""What a registration says, and where its artefact is: at a path of the server, or in an archive that came along."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flask import request

from penstock.control import uploads
from penstock.control.reading import Members, body, parse_json, query
from penstock.core.config import BackendName
from penstock.core.errors import RequestError
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
        wanted, source = _registration(members), _source(members)
        members.done()
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


def _source(members: Members) -> Path:
    path = Path(members.text("path"))
    if not path.is_absolute():
        raise RequestError(
            "invalid_input",
            f"path: expected an absolute path of the server's file system, got {str(path)[:200]!r}; "
            f"to send files from elsewhere, pack them: --data-binary @model.tar with 'Content-Type: {ARCHIVE}'",
        )
    return path


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
