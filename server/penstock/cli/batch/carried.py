"""Rows as they are sent, and beside them the values that are carried past the model into the output."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from penstock.cli.batch.texts import json_text, quoted, records_of

__all__ = ["Carried", "Cut", "Cutter", "RowFault", "Table", "with_faults"]


class Carried(Protocol):
    """The values that are carried past the model, for the rows of a chunk, in each way that they are written."""

    def members(self) -> Sequence[bytes]:
        """Return for each row the first members of an object of JSON, a comma behind each."""

    def fields(self) -> Sequence[bytes]:
        """Return for each row the first fields of a record of CSV, a comma behind each."""

    def columns(self) -> Sequence[Any]:
        """Return for each column an array of Arrow, or a list of texts with None for what is missing."""


@dataclass(frozen=True, slots=True)
class RowFault:
    """Why a row is not run, though a line was sent in its place."""

    code: str
    status: int
    detail: str


@dataclass(frozen=True, slots=True)
class Cut:
    """What is sent of a chunk, what is carried, and the rows of it that are refused before the server sees them."""

    payload: Any
    carried: Carried | None = None
    faults: Mapping[int, RowFault] = field(default_factory=dict)


class Cutter(Protocol):
    """Takes from chunks what is not sent. It may be called by several threads."""

    @property
    def columns(self) -> Sequence[tuple[str, Any]]:
        """The names of what is carried, with their types in Arrow; None for text."""

    def cut(self, payload: Any) -> Cut:
        """Cut a chunk."""


def with_faults(answer: bytes, faults: Mapping[int, RowFault], form: str) -> bytes:
    """Return what the server answered, lines, with other errors in the place of those of some rows."""
    if not faults:
        return answer
    if form == "csv":
        header, _, body = answer.partition(b"\n")
        rows = records_of(body)
        blank = b"," * (len(next(csv.reader(io.StringIO(header.decode())))) - 1)
        for row, why in faults.items():
            rows[row] = blank + quoted(f"row {row}: {why.code}: {why.detail}").encode()
        return b"\n".join([header, *rows, b""])
    rows = answer.split(b"\n")
    for row, why in faults.items():
        error = {"row": row, "code": why.code, "status": why.status, "detail": why.detail}
        rows[row] = json_text({"error": error}).encode()
    return b"\n".join(rows)


class Table:
    """Carried values that are columns of plain values. `None` is what is missing."""

    def __init__(self, names: Sequence[str], columns: Sequence[Sequence[Any]]) -> None:
        self._names = names
        self._columns = columns

    def members(self) -> Sequence[bytes]:
        """Return members; see Carried."""
        labels = [json_text(name) + ":" for name in self._names]
        return [
            "".join(f"{a}{json_text(v)}," for a, v in zip(labels, row, strict=True)).encode() for row in self._rows()
        ]

    def fields(self) -> Sequence[bytes]:
        """Return fields; see Carried."""
        return ["".join(f"{_field(value)}," for value in row).encode() for row in self._rows()]

    def _rows(self) -> zip[tuple[Any, ...]]:
        return zip(*self._columns, strict=True)


def _field(value: Any) -> str:
    if value is None:
        return ""
    return quoted(value if isinstance(value, str) else json_text(value))
