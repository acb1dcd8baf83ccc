"""How far a batch has come, in a file beside its output: what it says is on the disk, whatever happens next.

The first line says what the batch is, each further one how far it has come. A line counts when it is whole; the bytes
of the output that it speaks of were brought to the disk before it was written.
"""

from __future__ import annotations

import fcntl
import json
import os
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from penstock.core.errors import PenstockError

__all__ = ["Journal", "Mark", "sync_folder"]

_FORMAT = 1


@dataclass(frozen=True, slots=True)
class Mark:
    """How far a batch has come.

    Attributes:
        at: Where the next chunk of the input begins.
        rows: Rows that are answered.
        failed: Those of them that failed.
        output: Bytes of the output.
        errors: Bytes of the file of errors.
        done: Whether that is all.
    """

    at: int = 0
    rows: int = 0
    failed: int = 0
    output: int = 0
    errors: int = 0
    done: bool = False


class Journal:
    """The journal of one output. Only one process has it open."""

    def __init__(self, path: Path) -> None:
        self._path = path
        try:
            self._file = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o666)
        except OSError as error:
            raise PenstockError(f"cannot write {path}: {error.strerror}") from error
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(self._file)
            raise PenstockError(f"another penstock batch is writing there: it has {path}") from None
        self.job: Mapping[str, Any] | None = None
        self.mark = Mark()
        self._read()

    def _read(self) -> None:
        content = b""
        while piece := os.pread(self._file, 1 << 20, len(content)):
            content += piece
        whole = content[: content.rfind(b"\n") + 1]
        for number, line in enumerate(whole.splitlines()):
            try:
                document = json.loads(line)
                if number == 0:
                    if document["penstock_batch"] != _FORMAT:
                        raise ValueError("another format")
                    self.job = document["job"]
                else:
                    self.mark = Mark(**document)
            except (ValueError, TypeError, KeyError):
                raise PenstockError(
                    f"{self._path} is no journal of this release: take it away, or begin anew with --restart"
                ) from None
        if len(whole) < len(content):
            # Its last line was being written when the machine went down.
            os.ftruncate(self._file, len(whole))

    def begin(self, job: Mapping[str, Any]) -> None:
        """Begin anew, whatever it says."""
        os.ftruncate(self._file, 0)
        self.job, self.mark = job, Mark()
        self._append({"penstock_batch": _FORMAT, "job": job})
        sync_folder(self._path)

    def note(self, mark: Mark) -> None:
        """Note how far it has come; what was written must be on the disk."""
        self._append(asdict(mark))
        self.mark = mark

    def _append(self, document: Mapping[str, Any]) -> None:
        line = json.dumps(document).encode() + b"\n"
        before = os.fstat(self._file).st_size
        try:
            while line:
                line = line[os.write(self._file, line) :]
            os.fsync(self._file)
        except OSError:
            # The disk is full. What comes later must not stand behind half a line.
            os.ftruncate(self._file, before)
            raise

    def remove(self) -> None:
        """Take it away: the batch is done."""
        self._path.unlink(missing_ok=True)
        self.close()

    def close(self) -> None:
        """Let others have it."""
        os.close(self._file)


def sync_folder(file: Path) -> None:
    """Have the names in a file's folder on the disk."""
    folder = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
