"""Columns taken out of lines of CSV.

Fields are read as the server reads them, and carried as the bytes that they are.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from operator import itemgetter

from penstock.cli.batch.carried import Cut, RowFault
from penstock.cli.batch.choice import Places
from penstock.cli.batch.texts import json_text
from penstock.core.errors import ConfigError

__all__ = ["CsvCutter", "columns_of_header"]

_BOM = b"\xef\xbb\xbf"
# What begins with a quote ends behind the next one that is not doubled, or never.
_FIELDS = re.compile(rb'("(?:[^"]++|"")*+(?:"[^,\n]*+|\Z)|[^,\n]*+)(,|\n|\Z)')
_QUOTED = re.compile(rb'"((?:[^"]++|"")*+)"')
_Pick = Callable[[Sequence[bytes]], Sequence[bytes]]


def columns_of_header(header: bytes, file: str) -> list[str]:
    """Return the names of columns."""
    try:
        return [_text(field).decode().strip() for field in next(_records(header.removeprefix(_BOM)))]
    except UnicodeDecodeError as error:
        raise ConfigError(f"the header of {file} is no UTF-8: convert the file") from error


class CsvCutter:
    """Sends some columns and carries others. `texts`: what is carried is written as text, which bytes may not be."""

    def __init__(self, header: bytes, places: Places, *, texts: bool) -> None:
        fields = next(_records(header.removeprefix(_BOM)))
        self._header, self._width = header, len(fields)
        self._pick_sent, self._pick_carried = _picker(places.sent), _picker(places.carried)
        self._head = b",".join(self._pick_sent(fields))
        # As many fields as the header has not: of what stands there in its place, the server makes no row.
        self._no_row = b"x" if len(places.sent) > 1 else b","
        self._names = [places.columns[place] for place in places.carried]
        self._texts = texts
        self.columns = [(name, None) for name in self._names]

    def cut(self, payload: bytes) -> Cut:
        """Cut lines behind the header that they begin with."""
        sent: list[bytes] = [self._head]
        carried: list[Sequence[bytes]] = []
        faults: dict[int, RowFault] = {}
        body = payload[len(self._header) :]
        for fields in _records(body):
            if len(fields) == self._width:
                sent.append(b",".join(self._pick_sent(fields)))
            elif len(fields) == 1 and not _text(fields[0]):
                continue
            else:
                detail = f"the record has {len(fields)} fields, the header {self._width}"
                faults[len(carried)] = RowFault("malformed_body", 400, detail)
                sent.append(self._no_row)
                fields = [*fields, *[b""] * self._width]
            carried.append(self._pick_carried(fields))
        if self._texts and not _is_text(body):
            for row, values in enumerate(carried):
                for name, raw in zip(self._names, values, strict=True):
                    if not _is_text(raw):
                        faults[row] = RowFault("malformed_body", 400, f"the kept column {name!r} is no UTF-8")
                        sent[1 + row] = self._no_row
        # With a line's end that takes no carriage return from a field which has become the last.
        end = b"\r\n" if b"\r" in body else b"\n"
        rows = end.join([*sent, b""])
        return Cut(rows, _Fields(self._names, carried) if self._names else None, faults)


class _Fields:
    """Fields as they stand in the file."""

    def __init__(self, names: Sequence[str], rows: Sequence[Sequence[bytes]]) -> None:
        self._names = names
        self._rows = rows

    def members(self) -> Sequence[bytes]:
        """Return members, all of them strings; see Carried."""
        labels = [json_text(name) + ":" for name in self._names]
        return [
            "".join(
                f"{label}{json_text(_text(raw).decode(errors='replace'))},"
                for label, raw in zip(labels, row, strict=True)
            ).encode()
            for row in self._rows
        ]

    def fields(self) -> Sequence[bytes]:
        """Return fields; see Carried."""
        return [b",".join(row) + b"," for row in self._rows]

    def columns(self) -> Sequence[Sequence[str]]:
        """Return columns of text; see Carried."""
        return [[_text(row[place]).decode(errors="replace") for row in self._rows] for place in range(len(self._names))]


def _picker(places: Sequence[int]) -> _Pick:
    if len(places) == 1:
        (place,) = places
        return lambda fields: (fields[place],)
    return itemgetter(*places) if places else lambda fields: ()


def _records(text: bytes) -> Iterator[list[bytes]]:
    """Give the fields of each record, as they are."""
    if b'"' not in text:
        for line in text.removesuffix(b"\n").split(b"\n"):
            yield line.removesuffix(b"\r").split(b",")
        return
    fields: list[bytes] = []
    for field, end in _FIELDS.findall(text):
        fields.append(field)
        if end == b",":
            continue
        if fields == [b""] and not end:
            return  # behind the last line
        fields[-1] = _ended(field)
        yield fields
        fields = []


def _ended(field: bytes) -> bytes:
    """Return the last field of a record without the line's end. One whose quote is never closed is all text."""
    if field.startswith(b'"') and not _QUOTED.match(field):
        return b'"' + field.replace(b'"', b'""') + b'"'
    return field.removesuffix(b"\r")


def _text(field: bytes) -> bytes:
    found = _QUOTED.match(field)
    return field if found is None else found[1].replace(b'""', b'"') + field[found.end() :]


def _is_text(content: bytes) -> bool:
    try:
        content.decode()
    except UnicodeDecodeError:
        return False
    return True
