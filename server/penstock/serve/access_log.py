"""The access log's file: lines that the data plane made, written by a thread of its own.

Nobody waits for it. While a disk or a pipe takes nothing, lines are lost and counted.
"""

from __future__ import annotations

import logging
import os
import queue
import stat
import threading
from pathlib import Path

from penstock.core.errors import ConfigError

__all__ = ["AccessLog"]

_log = logging.getLogger("penstock.serve.access_log")

_CHUNKS_MAX = 64  # of up to some thousand lines each
_STOP_SECONDS = 2.0
_STDOUT = 1


class AccessLog:
    """Appends chunks of lines to a file or to standard output. put() and reopen() may be called by any thread."""

    def __init__(self, where: str) -> None:
        """Open it; ConfigError when that cannot be. `where`: '-' for standard output, else a path."""
        self._path = None if where == "-" else Path(where).expanduser()
        self._file = self._open() if self._path is not None else _STDOUT
        self._chunks: queue.Queue[tuple[bytes, int] | None] = queue.Queue(_CHUNKS_MAX)
        self._reopen = threading.Event()
        self._torn = False  # the file ends within a line
        self._failing = False
        self._thread = threading.Thread(target=self._run, name="penstock-access-log", daemon=True)
        self.written = 0
        self.dropped = 0

    @property
    def is_file(self) -> bool:
        """Whether it can be rotated."""
        return self._path is not None

    def start(self) -> None:
        """Write from now on."""
        self._thread.start()

    def put(self, lines: bytes, count: int) -> None:
        """Have some whole lines written."""
        try:
            self._chunks.put_nowait((lines, count))
        except queue.Full:
            self.dropped += count

    def reopen(self) -> None:
        """Open the file anew before the next line: it has been renamed."""
        self._reopen.set()

    def stop(self) -> None:
        """Write what is queued and end; what takes nothing is given up after two seconds."""
        try:
            self._chunks.put(None, timeout=_STOP_SECONDS)
        except queue.Full:
            return
        self._thread.join(_STOP_SECONDS)
        if not self._thread.is_alive() and self._path is not None:
            os.close(self._file)

    def _run(self) -> None:
        while (chunk := self._chunks.get()) is not None:
            if self._path is not None and (self._reopen.is_set() or self._has_moved()):
                self._reopen.clear()
                self._replace_file()
            self._write(*chunk)

    def _write(self, lines: bytes, count: int) -> None:
        rest = memoryview(b"\n" + lines if self._torn else lines)
        while rest:
            try:
                done = os.write(self._file, rest)
            except OSError as error:
                lost = bytes(rest).count(b"\n")
                self.dropped += min(lost, count)
                self.written += max(0, count - lost)
                self._fail(error)
                return
            self._torn = rest[done - 1] != ord("\n")
            rest = rest[done:]
        self.written += count
        self._failing = False

    def _has_moved(self) -> bool:
        """Whether the path no longer leads to the open file; asked once a chunk."""
        assert self._path is not None
        try:
            there = os.stat(self._path)
        except OSError:
            return True
        here = os.fstat(self._file)
        return (there.st_dev, there.st_ino) != (here.st_dev, here.st_ino) and stat.S_ISREG(there.st_mode)

    def _replace_file(self) -> None:
        try:
            fresh = self._open()
        except ConfigError as error:  # the old one will do, wherever it is now
            self._fail(error)
            return
        os.close(self._file)
        self._file = fresh
        self._torn = False

    def _open(self) -> int:
        assert self._path is not None
        try:
            return os.open(self._path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o640)
        except OSError as error:
            raise ConfigError(
                f"access_log: cannot write {self._path}: {error.strerror}; its folder must exist and be this user's"
            ) from error

    def _fail(self, error: Exception) -> None:
        if not self._failing:  # once, until it goes again
            _log.warning("the access log cannot be written: lines are lost", extra={"reason": str(error)})
        self._failing = True
