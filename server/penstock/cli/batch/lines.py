"""A file of lines, NDJSON or CSV, cut into chunks. Where a chunk begins says what is in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import BinaryIO

from penstock.cli.plainly import warn
from penstock.core.errors import PenstockError

__all__ = ["Chunk", "LineChunks"]

CHUNK_ROWS = 1024
# Below what the SDK sends at a time, with the header in front of it.
_CHUNK_BYTES = 256 * 1024
_LINE_BYTES_MAX = 16 << 20


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows as they are sent, and where the next chunk begins: a byte of the input."""

    payload: bytes
    end: int


class LineChunks:
    """Cuts a file. It is only read, from its beginning to its end, but for the header of CSV and one seek."""

    def __init__(self, file: BinaryIO, *, csv: bool, rows_max: int = CHUNK_ROWS) -> None:
        self._file = file
        self._csv = csv
        self._rows_max = rows_max
        self.header = self._header() if csv else b""

    def chunks(self, start: int) -> Iterator[Chunk]:
        """Give the chunks from the byte `start` on; 0 is the beginning, where CSV has its header."""
        header = self.header
        if start == 0 and _is_row(header):
            first = header.decode().strip()
            warn(f"the first line was taken for the header, and it is numbers ({first[:60]}): it is not predicted")
        if start > len(header):
            self._file.seek(start)
        at = max(start, len(header))
        waiting = b""
        while True:
            waiting, ended = self._filled(waiting)
            while waiting and (cut := self._cut(waiting, ended)):
                at += cut
                rows, waiting = waiting[:cut], waiting[cut:]
                if rows.strip():
                    yield Chunk(header + rows, at)
                if not ended and len(waiting) < _CHUNK_BYTES:
                    break
            if ended:
                return
            if len(waiting) > _LINE_BYTES_MAX:
                raise PenstockError(f"the row at byte {at} has more than {_LINE_BYTES_MAX >> 20} MiB")

    def _filled(self, waiting: bytes) -> tuple[bytes, bool]:
        """Return what waits with more behind it, and whether that is all."""
        wanted = max(2 * _CHUNK_BYTES - len(waiting), _CHUNK_BYTES)
        piece = self._file.read(wanted)
        return waiting + piece, len(piece) < wanted

    def _header(self) -> bytes:
        header = b""
        while True:
            line = self._file.readline(_LINE_BYTES_MAX)
            header += line
            if not line or header.count(b'"') % 2 == 0:
                return header if header.endswith(b"\n") or not header else header + b"\n"

    def _cut(self, waiting: bytes, ended: bool) -> int:
        """Return where the chunk at the beginning of `waiting` ends; 0 while its first row is not complete.

        It depends on nothing but the bytes that follow, so that a chunk is the same whenever it is cut.
        """
        cut = at = rows = quotes = 0
        while rows < self._rows_max:
            end = waiting.find(b"\n", at) + 1
            if not end:
                break
            if self._csv:
                quotes += waiting.count(b'"', at, end)
            at = end
            if quotes % 2:
                continue  # a line's end inside a field
            if end > _CHUNK_BYTES and cut:
                break
            cut, rows = end, rows + 1
        else:
            return cut
        if ended and (not cut or len(waiting) <= _CHUNK_BYTES):
            # The last line need not have an end.
            return len(waiting)
        return cut


def _is_row(header: bytes) -> bool:
    """Whether a header is rather a row: numbers, and not those that count columns from 0."""
    cells = header.decode(errors="replace").strip().replace('"', "").split(",")
    try:
        return [float(cell) for cell in cells] != list(range(len(cells)))
    except ValueError:
        return False
