"""A model's files and what is said of them as one archive to send."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

from penstock.core.errors import PenstockError
from penstock.registry.manifest import ArtefactError, members_of

__all__ = ["packed"]

# Where the server looks for what is registered (penstock.control.registration).
_DOCUMENT = "penstock.json"


@contextmanager
def packed(source: Path, document: Mapping[str, object]) -> Iterator[IO[bytes]]:
    """Give an archive with the files that would be registered from `source`, and the registration; a file to read."""
    try:
        members = members_of(source)
    except ArtefactError as error:
        raise PenstockError(str(error)) from error
    if any(member.path == _DOCUMENT for member in members):
        raise PenstockError(
            f"{source} has a file {_DOCUMENT}, which is what the registration is called when files are sent"
        )
    with tempfile.TemporaryFile(prefix="penstock-") as file:
        try:
            with tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT, dereference=True) as archive:
                content = json.dumps(document, ensure_ascii=False).encode()
                entry = tarfile.TarInfo(_DOCUMENT)
                entry.size = len(content)
                archive.addfile(entry, io.BytesIO(content))
                for member in members:
                    archive.add(member.source, member.path, recursive=False)
        except OSError as error:
            raise PenstockError(f"{error.filename or source} cannot be packed: {error.strerror}") from error
        file.seek(0)
        yield file
