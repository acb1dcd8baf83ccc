"""A model's files as one archive, for a server that does not see this machine's disk."""

from __future__ import annotations

import io
import json
import os
import tarfile
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import IO

from penstock_client.belonging import files_beside
from penstock_client.errors import ArgumentError

__all__ = ["Archive"]

# Where the server looks for what is said of the model.
_DOCUMENT = "penstock.json"
_PIECE_BYTES = 256 * 1024


class Archive:
    """The files below a path, or a file with what belongs to it, packed; iterating gives its bytes, each time anew."""

    def __init__(self, source: Path, document: Mapping[str, object]) -> None:
        self._file: IO[bytes] = tempfile.TemporaryFile(prefix="penstock-")  # noqa: SIM115 - closed by close()
        try:
            self._pack(source, document)
        except OSError as error:
            self._file.close()
            raise ArgumentError(f"{error.filename or source} cannot be packed: {error.strerror}") from error
        except BaseException:
            self._file.close()
            raise
        self.bytes = self._file.tell()

    def _pack(self, source: Path, document: Mapping[str, object]) -> None:
        members = dict(_members(source))
        if not members:
            raise ArgumentError(f"there is nothing in {source}")
        if _DOCUMENT in members:
            raise ArgumentError(
                f"{source} has a file {_DOCUMENT}, which is what the registration is called in an archive"
            )
        with tarfile.open(fileobj=self._file, mode="w", format=tarfile.PAX_FORMAT, dereference=True) as archive:
            content = json.dumps(document, ensure_ascii=False).encode()
            entry = tarfile.TarInfo(_DOCUMENT)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
            for name, path in sorted(members.items()):
                archive.add(path, name, recursive=False)

    def __iter__(self) -> Iterator[bytes]:
        self._file.seek(0)
        while piece := self._file.read(_PIECE_BYTES):
            yield piece

    def close(self) -> None:
        """Remove it."""
        self._file.close()


def _members(source: Path) -> Iterator[tuple[str, Path]]:
    if source.is_dir():
        for folder, folders, files in os.walk(source):
            folders[:] = [name for name in folders if name != "__pycache__"]
            for name in files:
                path = Path(folder, name)
                if path.is_symlink() and not Path(os.path.realpath(path)).is_relative_to(source.resolve()):
                    raise ArgumentError(f"{path} is a link out of the folder: put the file itself there")
                yield path.relative_to(source).as_posix(), path
        return
    if not source.is_file():
        raise ArgumentError(f"there is no file or folder {source}")
    yield source.name, source
    yield from files_beside(source)
