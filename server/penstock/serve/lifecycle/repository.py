"""A folder that is watched for models: NAME/VERSION/ with a model's file or files in it."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Found", "RepositoryFolder"]

_log = logging.getLogger("penstock.lifecycle")

# Of a folder's content: path, bytes and time of change of each file.
_Fingerprint = tuple[tuple[str, int, int], ...]


@dataclass(frozen=True, slots=True)
class Found:
    """A version in the folder."""

    model: str
    version: str
    path: Path


class RepositoryFolder:
    """Tells which versions are new. Used by one thread at a time.

    A version is taken when it has not changed between two looks: whoever copies a large file may not be done yet.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: dict[Path, _Fingerprint] = {}
        self._taken: dict[Path, _Fingerprint] = {}

    def settled(self) -> list[Found]:
        """Return the versions that have not changed since the last call and that no call has returned yet."""
        found = []
        seen: dict[Path, _Fingerprint] = {}
        for path in self._versions():
            fingerprint = _fingerprint(path)
            seen[path] = fingerprint
            if fingerprint and self._seen.get(path) == fingerprint != self._taken.get(path):
                self._taken[path] = fingerprint
                found.append(Found(path.parent.name, path.name, path))
        self._seen = seen
        return found

    def _versions(self) -> list[Path]:
        try:
            return sorted(path for path in self._folder.glob("*/*") if path.is_dir() and not _hidden(path))
        except OSError as error:
            _log.warning("the repository folder cannot be read", extra={"reason": error.strerror})
            return []


def _hidden(path: Path) -> bool:
    return path.name.startswith(".") or path.parent.name.startswith(".")


def _fingerprint(folder: Path) -> _Fingerprint:
    files = []
    for path in sorted(folder.rglob("*")):
        try:
            about = path.lstat()
        except OSError:
            continue  # it was there a moment ago: the next look sees what became of it
        if not path.is_dir():
            files.append((str(path.relative_to(folder)), about.st_size, about.st_mtime_ns))
    return tuple(files)
