"""Where a batch reads from and writes to, and whether the input is still what it was."""

from __future__ import annotations

import hashlib
import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from penstock.core.errors import ConfigError, PenstockError

__all__ = ["FORMATS", "Input", "format_of", "opened"]

FORMATS = ("ndjson", "csv", "arrow", "arrow-stream", "parquet")
_SUFFIXES = {
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".csv": "csv",
    ".parquet": "parquet",
    ".arrow": "arrow",
    ".feather": "arrow",
    ".arrows": "arrow-stream",
}
# Of each end of the input. What changes between them changes the time of the file, too.
_LOOKED_AT_BYTES = 1 << 20


def format_of(option: str, given: str | None, name: str, otherwise: str | None) -> str:
    """Return the format that was asked for, or that the name tells."""
    if given is not None:
        if given not in FORMATS:
            raise ConfigError(f"{option} {given!r}: expected one of {', '.join(FORMATS)}")
        return given
    found = otherwise if name == "-" else _SUFFIXES.get(Path(name).suffix.lower())
    if found is None:
        called = "standard input" if name == "-" and option == "--from" else repr(name)
        raise ConfigError(f"{option} is needed: {called} does not tell its format, one of {', '.join(FORMATS)}")
    return found


def opened(name: str) -> IO[bytes]:
    """Open the input."""
    if name == "-":
        return sys.stdin.buffer
    try:
        file = open(name, "rb")  # noqa: SIM115 - it is read until the command ends
    except OSError as error:
        raise ConfigError(f"cannot read {name}: {error.strerror}") from error
    return file


@dataclass(frozen=True, slots=True)
class Input:
    """What a file was when the batch began."""

    path: str
    size: int
    mtime_ns: int
    sha256: str

    @classmethod
    def of(cls, file: IO[bytes], name: str) -> Input:
        """Look at a file that is open."""
        try:
            known = os.fstat(file.fileno())
            digest = hashlib.sha256(os.pread(file.fileno(), _LOOKED_AT_BYTES, 0))
            digest.update(os.pread(file.fileno(), _LOOKED_AT_BYTES, max(known.st_size - _LOOKED_AT_BYTES, 0)))
        except OSError as error:
            raise PenstockError(f"cannot read {name}: {error.strerror}; a pipe is read as -") from error
        return cls(os.path.abspath(name), known.st_size, known.st_mtime_ns, digest.hexdigest())

    def document(self) -> dict[str, Any]:
        """Return it for the journal."""
        return {"path": self.path, "size": self.size, "mtime_ns": self.mtime_ns, "sha256": self.sha256}
