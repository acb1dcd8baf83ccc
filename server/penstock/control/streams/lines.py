"""Formats of lines: how they are read and written. Native code handles the bytes, a whole piece at once."""

from __future__ import annotations

import json
import math
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Protocol

from penstock.core.errors import RequestError
from penstock.core.events import EVENT_STREAM, end_of, events_of
from penstock.core.status import Tensor
from penstock.native import _dataplane

__all__ = ["CsvRows", "CsvWriter", "EventWriter", "Fault", "JsonRows", "JsonWriter", "LineReader", "LineWriter", "Rows"]

# Row of the batch, code, status, detail.
Fault = tuple[int, str, int, str]
_TEXTS = ("str", "bytes")
# Of one output, beyond which it is one column of JSON.
_COLUMNS_MAX = 4096


@dataclass(frozen=True, slots=True)
class Rows:
    """Rows as the inside of a JSON list, and where each ends. What was no row is null there, and a fault."""

    text: bytes
    ends: memoryview
    faults: list[Fault]

    def __len__(self) -> int:
        return len(self.ends)


class LineReader(Protocol):
    """Makes rows of pieces of a stream."""

    def read(self, text: bytes, *, last: bool, rows_max: int) -> tuple[Rows, int]:
        """Return the rows that are complete and how many bytes they were; `last`: nothing comes behind the text."""


class LineWriter(Protocol):
    """Makes an answer's lines."""

    media_type: str

    def head(self) -> bytes:
        """Return what stands before the first row."""

    def write(self, reply: bytes, rows: int, first: int, faults: list[Fault]) -> bytes:
        """Return the lines of a reply to so many rows, of which the first has the number `first`."""

    def end(self, rows: int) -> bytes:
        """Return what stands behind the last of so many rows."""


class JsonRows:
    """NDJSON: a row a line, as it is or as {"inputs": row}."""

    def read(self, text: bytes, *, last: bool, rows_max: int) -> tuple[Rows, int]:
        """Read lines; see LineReader."""
        return _rows(_dataplane.json_rows(text, last, rows_max))


class CsvRows:
    """CSV with a header: its columns are the model's inputs, or the elements of its only one."""

    def __init__(
        self,
        inputs: Sequence[Tensor],
        *,
        optional: Collection[str] = (),
        nullable: Collection[str] = (),
        texts: Collection[str] = (),
        is_record: bool = False,
    ) -> None:
        """Columns of `optional` inputs may be missing.

        An empty field is null where it is `nullable`, else an empty string where it is one of `texts`, else absent
        where it is `optional`.
        """
        self._inputs = inputs
        self._optional = optional
        self._nullable = nullable
        self._texts = texts
        self._form_of = _named_form if is_record else _form_of  # fields have names, also where there is but one
        self._form: tuple[list[str], str, list[str], list[str]] | None = None

    def read(self, text: bytes, *, last: bool, rows_max: int) -> tuple[Rows, int]:
        """Read records behind the header; see LineReader. RequestError (`invalid_input`) for another header."""
        start = 0
        if self._form is None:
            record = _dataplane.csv_record(text, last)
            if record is None or (not text and not last):
                return _rows((b"", b"", 0, []))
            header, start = record
            if header:
                header[0] = header[0].removeprefix("\ufeff")
            columns = [name.strip() for name in header]
            blanks = [self._blank_of(name) for name in columns]
            self._form = (*self._form_of(columns, self._inputs, self._optional), blanks)
        rows, consumed = _rows(_dataplane.csv_rows(text[start:], last, rows_max, *self._form))
        return rows, start + consumed

    def _blank_of(self, column: str) -> str:
        if column in self._nullable:
            return "null"
        return "absent" if column in self._optional and column not in self._texts else "kept"


class JsonWriter:
    """NDJSON: {"outputs": ...} or {"error": ...} for each row."""

    media_type = "application/x-ndjson"

    def head(self) -> bytes:
        """Return nothing: there is no header."""
        return b""

    def write(self, reply: bytes, rows: int, first: int, faults: list[Fault]) -> bytes:
        """Write lines; see LineWriter."""
        return _dataplane.json_answers(reply, rows, first, faults)

    def end(self, rows: int) -> bytes:
        """Return nothing: the answer's end is that of its rows."""
        return b""


class EventWriter:
    """Server-sent events: each line of NDJSON is the data of one, and one of the type `end` says that it was all."""

    media_type = EVENT_STREAM

    def head(self) -> bytes:
        """Return nothing: the first row begins it."""
        return b""

    def write(self, reply: bytes, rows: int, first: int, faults: list[Fault]) -> bytes:
        """Write events; see LineWriter."""
        return events_of(_dataplane.json_answers(reply, rows, first, faults))

    def end(self, rows: int) -> bytes:
        """Return the last event."""
        return end_of(rows)


class CsvWriter:
    """CSV: the columns of each output, then `error`."""

    media_type = "text/csv"

    def __init__(self, outputs: Sequence[Tensor]) -> None:
        self._outputs = [(name, _width(shape)) for name, _, shape in outputs]

    def head(self) -> bytes:
        """Return the header."""
        columns = [
            f"{name}.{index}" if width > 1 else name for name, width in self._outputs for index in range(max(width, 1))
        ]
        return (",".join(_quoted(column) for column in [*columns, "error"]) + "\n").encode()

    def write(self, reply: bytes, rows: int, first: int, faults: list[Fault]) -> bytes:
        """Write records; see LineWriter."""
        return _dataplane.csv_answers(reply, rows, first, faults, self._outputs)

    def end(self, rows: int) -> bytes:
        """Return nothing, as with NDJSON."""
        return b""


def _rows(read: tuple[bytes, bytes, int, list[tuple[int, str]]]) -> tuple[Rows, int]:
    text, ends, consumed, faults = read
    refused: list[Fault] = [(row, "malformed_body", 400, detail) for row, detail in faults]
    return Rows(text, memoryview(ends).cast("I"), refused), consumed


def _width(shape: Sequence[int | None]) -> int:
    """Return how many columns an output has; 0 for one of JSON."""
    if not shape:
        return 1
    fixed = len(shape) == 1 and shape[0] is not None and 1 <= shape[0] <= _COLUMNS_MAX
    return shape[0] or 0 if fixed else 0


def _form_of(
    header: list[str], inputs: Sequence[Tensor], optional: Collection[str]
) -> tuple[list[str], str, list[str]]:
    """Return what stands before each field and behind the last, and the kind of each."""
    if len(inputs) == 1 and not _names_inputs(header, inputs):
        name, dtype, shape = inputs[0]
        extents = _extents(shape, len(header))
        if math.prod(extents) != len(header):
            raise RequestError(
                "invalid_input",
                f"the header has {len(header)} columns, the input {name!r} {math.prod(extents)} elements: "
                "one column is needed for each",
            )
        prefixes, suffix = _brackets(extents)
        return prefixes, suffix, [_kind(dtype)] * len(header)
    return _named_form(header, inputs, optional)


def _named_form(
    header: list[str], inputs: Sequence[Tensor], optional: Collection[str]
) -> tuple[list[str], str, list[str]]:
    prefixes: list[str] = []
    kinds: list[str] = []
    behind = "{"
    waiting = {name: (dtype, _extents(shape, 1)) for name, dtype, shape in inputs}
    while len(prefixes) < len(header):
        column = header[len(prefixes)]
        name = column if column in waiting else column.removesuffix(".0")
        if name not in waiting:
            known = ", ".join(_columns_of(tensor) for tensor in inputs)
            raise RequestError("invalid_input", f"the header's column {column[:100]!r} is no input; expected {known}")
        dtype, extents = waiting.pop(name)
        own, suffix = _brackets(extents)
        group = header[len(prefixes) : len(prefixes) + len(own)]
        if group != ([name] if not extents else [f"{name}.{index}" for index in range(len(own))]):
            raise RequestError(
                "invalid_input", f"the header: the columns {name}.0 to {name}.{len(own) - 1} stand side by side"
            )
        prefixes += [f"{behind}{json.dumps(name)}:{own[0]}", *own[1:]]
        kinds += [_kind(dtype)] * len(own)
        behind = f"{suffix},"
    missing = [name for name in waiting if name not in optional]
    if missing:
        raise RequestError("invalid_input", f"the header has no column for {', '.join(missing)}")
    return prefixes, behind[:-1] + "}", kinds


def _kind(dtype: str) -> str:
    return "text" if dtype in _TEXTS else "bool" if dtype == "bool" else "number"


def _names_inputs(header: list[str], inputs: Sequence[Tensor]) -> bool:
    name, _, shape = inputs[0]
    return not shape and header == [name]


def _columns_of(tensor: Tensor) -> str:
    name, _, shape = tensor
    count = math.prod(_extents(shape, 1))
    return name if not shape else f"{name}.0 to {name}.{count - 1}"


def _extents(shape: Sequence[int | None], columns: int) -> list[int]:
    """Return the shape with the length that so many columns give a first extent that varies."""
    rest = math.prod(extent for extent in shape if extent is not None)
    return [max(columns // max(rest, 1), 1) if extent is None else extent for extent in shape]


def _brackets(extents: list[int]) -> tuple[list[str], str]:
    """Return what stands before each element of a nested JSON list, and behind the last."""
    count = math.prod(extents)
    strides = [math.prod(extents[depth:]) for depth in range(1, len(extents))]
    prefixes = ["[" * len(extents)]
    for index in range(1, count):
        turns = sum(index % stride == 0 for stride in strides)
        prefixes.append("]" * turns + "," + "[" * turns)
    return prefixes, "]" * len(extents)


def _quoted(text: str) -> str:
    return '"' + text.replace('"', '""') + '"' if any(mark in text for mark in ',"\r\n') else text
