"""The files that a batch writes. They have their names when they are whole; until then they are NAME.partial."""

from __future__ import annotations

import contextlib
import os
import sys
import time
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import IO, Any, Protocol

from penstock.cli.batch.answers import Piece
from penstock.cli.batch.columnar import columns_module
from penstock.cli.batch.journal import Journal, Mark, sync_folder
from penstock.core.errors import ConfigError, PenstockError

__all__ = ["FileOutput", "Output", "PipeOutput"]

# How much is run again after a crash at most, against what a sync of the disk costs.
_SYNC_S = 0.5
_SYNC_BYTES = 32 << 20


class Output(Protocol):
    """Where pieces go."""

    mark: Mark

    def write(self, piece: Piece, at: int) -> None:
        """Take a piece; behind it, the input is read from `at` on."""

    def finish(self) -> None:
        """All pieces have come."""

    def close(self) -> None:
        """Keep what has come: the batch may go on later."""

    def drop(self) -> None:
        """Leave nothing: no row has come, and another file may be the next one's input."""


class PipeOutput:
    """Standard output, which cannot go on."""

    def __init__(self, head: bytes, tail: bytes) -> None:
        self.mark = Mark()
        # It comes with the first piece: of a batch that is refused there is nothing.
        self._head, self._tail = head, tail

    def _put(self, text: bytes) -> None:
        sys.stdout.buffer.write(self._head + text)
        self._head = b""
        sys.stdout.buffer.flush()

    def write(self, piece: Piece, at: int) -> None:
        """Print a piece."""
        self._put(piece.output)
        self.mark = Mark(at, self.mark.rows + piece.rows, self.mark.failed + piece.failed)

    def finish(self) -> None:
        """Print what stands at the end."""
        self._put(self._tail)
        self.mark = replace(self.mark, done=True)

    def close(self) -> None:
        """Do nothing."""

    def drop(self) -> None:
        """Do nothing."""


class FileOutput:
    """A file, with a journal beside it and perhaps a file of errors."""

    def __init__(self, path: Path, errors: Path | None, form: str) -> None:
        self.path = path
        self._errors_path = errors
        self._form = form
        self._partial = _beside(path, "partial")
        self._files: list[IO[bytes]] = []
        if not path.parent.is_dir():
            raise ConfigError(f"there is no folder {path.parent}")
        self.journal = Journal(_beside(path, "journal"))
        self.mark = self.journal.mark
        self._synced = time.monotonic()
        self._full_told = False

    def begin(self, job: Mapping[str, Any], head: bytes) -> None:
        """Begin anew."""
        before = (self.journal.job or {}).get("errors")
        if before is not None:
            _beside(Path(before), "partial").unlink(missing_ok=True)
        self.journal.begin(job)
        self._open(Mark())
        self._put(0, head)
        self.mark = Mark(output=len(head))
        self._sync()

    def go_on(self) -> None:
        """Go on where the journal says; PenstockError when the files are not what it speaks of."""
        if not self.mark.done:
            self._open(self.mark)

    def _open(self, mark: Mark) -> None:
        places = [(self._partial, mark.output)]
        if self._errors_path is not None:
            places.append((_beside(self._errors_path, "partial"), mark.errors))
        for path, size in places:
            try:
                file = open(os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o666), "wb")  # noqa: SIM115
                self._files.append(file)
                there = os.fstat(file.fileno()).st_size
                if there < size:
                    raise PenstockError(f"{path} has lost {size - there} bytes: begin anew with --restart")
                file.truncate(size)
                file.seek(size)
            except OSError as error:
                raise PenstockError(f"cannot write {path}: {error.strerror}") from error

    def _put(self, number: int, text: bytes) -> None:
        try:
            self._files[number].write(text)
        except OSError as error:
            raise self._full(error) from error

    def write(self, piece: Piece, at: int) -> None:
        """Write a piece, and every now and then note how far it has come."""
        self._put(0, piece.output)
        if piece.errors:
            self._put(1, piece.errors)
        mark = self.mark
        self.mark = Mark(
            at,
            mark.rows + piece.rows,
            mark.failed + piece.failed,
            mark.output + len(piece.output),
            mark.errors + len(piece.errors),
        )
        unsynced = self.mark.output - self.journal.mark.output
        if time.monotonic() - self._synced >= _SYNC_S or unsynced >= _SYNC_BYTES:
            self._sync()

    def _sync(self) -> None:
        try:
            for file in self._files:
                file.flush()
            try:
                for file in self._files:
                    os.fsync(file.fileno())
            except OSError as error:
                # What could not be synced is gone, and is said to be once: a second sync would succeed.
                raise self._full(error, keep=False) from error
            self.journal.note(self.mark)
        except OSError as error:
            raise self._full(error) from error
        self._synced = time.monotonic()

    def _full(self, error: OSError, *, keep: bool = True) -> PenstockError:
        self._full_told = True
        if keep:
            with contextlib.suppress(OSError):
                self._keep()
        kept = f"{self.journal.mark.rows:,} rows are kept, and the same command goes on behind them"
        return PenstockError(f"cannot write {self._partial}: {error.strerror}; {kept}")

    def _keep(self) -> None:
        """Note the pieces that are whole on a disk that is full, without what came of the next one."""
        ends = list(zip(self._files, (self.mark.output, self.mark.errors), strict=False))
        if any(os.fstat(file.fileno()).st_size < end for file, end in ends):
            return
        for file, end in ends:
            os.ftruncate(file.fileno(), end)
            os.fsync(file.fileno())
        if ends and self.mark != self.journal.mark:
            self.journal.note(self.mark)

    def finish(self) -> None:
        """Give the files their names. What has been noted as done is done again without harm."""
        if not self.mark.done:
            self.mark = replace(self.mark, done=True)
            self._sync()
        self._close_files()
        try:
            self._name_output()
            if self._errors_path is not None:
                _rename(_beside(self._errors_path, "partial"), self._errors_path)
        except OSError as error:
            raise self._full(error) from error
        self.journal.remove()

    def _name_output(self) -> None:
        if self._form in ("csv", "ndjson"):
            _rename(self._partial, self.path)
            return
        if self._partial.exists():
            whole = _beside(self.path, "whole")
            columns_module().whole_file(self._partial, whole, self._form)
            _rename(whole, self.path)
            self._partial.unlink()

    def close(self) -> None:
        """Note how far it has come, as well as that can be done."""
        try:
            if self._files and self.mark != self.journal.mark and not self._full_told:
                self._sync()
        finally:
            self._close_files()
            if not self.mark.done:
                self.journal.close()

    def drop(self) -> None:
        """Take all files away, the journal last."""
        self._close_files()
        self._partial.unlink(missing_ok=True)
        if self._errors_path is not None:
            _beside(self._errors_path, "partial").unlink(missing_ok=True)
        self.journal.remove()

    def _close_files(self) -> None:
        for file in self._files:
            # What cannot be written was told when it was written.
            with contextlib.suppress(OSError):
                file.close()
        self._files = []


def _beside(path: Path, what: str) -> Path:
    return path.with_name(f"{path.name}.{what}")


def _rename(partial: Path, path: Path) -> None:
    if partial.exists():
        os.replace(partial, path)
        sync_folder(path)
