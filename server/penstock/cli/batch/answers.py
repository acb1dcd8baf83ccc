"""Answers to a chunk as bytes of the output: rows numbered through, and errors where they belong."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from penstock.cli.batch.carried import Carried
from penstock.cli.batch.columnar import columns_module
from penstock.cli.batch.texts import json_text, named
from penstock.cli.served import Tensor

if TYPE_CHECKING:
    import penstock_client

__all__ = [
    "JsonText",
    "Piece",
    "TableText",
    "Writer",
    "codes_of",
    "end_of",
    "error_line",
    "fault",
    "plain_outputs",
]

_ERROR = b'{"error":'
_CSV_CODES = re.compile(rb',"?row \d+: ([a-z_]+): ')


@dataclass(frozen=True, slots=True)
class Piece:
    """What is to be written for a chunk, and how many rows it is for."""

    output: bytes
    errors: bytes
    rows: int
    failed: int


def codes_of(answer: bytes, form: str) -> list[str]:
    """Return the codes of the rows that failed, in lines that the server answered."""
    if form == "csv":
        return [code.decode() for code in _CSV_CODES.findall(answer)]
    if _ERROR not in answer:
        return []
    return [json.loads(line)["error"]["code"] for line in answer.splitlines() if line.startswith(_ERROR)]


def end_of(form: str) -> bytes:
    """Return what stands behind the last piece in standard output."""
    return b"\xff\xff\xff\xff\x00\x00\x00\x00" if form == "arrow-stream" else b""


class Writer(Protocol):
    """Makes pieces. `first` is the number of the chunk's first row; `apart`: errors go into a file of their own."""

    def head(self) -> bytes:
        """Return what stands before the first piece."""

    def lines(self, answer: bytes, first: int, carried: Carried | None = None) -> Piece:
        """Make a piece of the lines that the server answered, behind what is carried."""

    def result(self, result: penstock_client.BatchResult, first: int, carried: Carried | None = None) -> Piece:
        """Make a piece of the columns that the SDK answered, behind what is carried."""


class JsonText:
    """NDJSON."""

    def __init__(self, apart: bool) -> None:
        self._apart = apart

    def head(self) -> bytes:
        """Return nothing: there is no header."""
        return b""

    def lines(self, answer: bytes, first: int, carried: Carried | None = None) -> Piece:
        """Make a piece of lines, as they are where no row failed."""
        lines = answer.splitlines(keepends=True)
        if _ERROR not in answer:
            if carried is not None:
                answer = b"".join([_behind(*pair) for pair in zip(carried.members(), lines, strict=True)])
            return Piece(answer, b"", len(lines), 0)
        before = [b""] * len(lines) if carried is None else carried.members()
        kept: list[bytes] = []
        errors: list[bytes] = []
        for number, (line, start) in enumerate(zip(lines, before, strict=True)):
            if not line.startswith(_ERROR):
                kept.append(_behind(start, line))
                continue
            error = {**json.loads(line)["error"], "row": first + number}
            if self._apart:
                errors.append(error_line(error, start))
            else:
                kept.append(_behind(start, _line({"error": error})))
        failed = sum(line.startswith(_ERROR) for line in lines)
        return Piece(b"".join(kept), b"".join(errors), len(lines), failed)

    def result(self, result: penstock_client.BatchResult, first: int, carried: Carried | None = None) -> Piece:
        """Make a piece of columns."""
        before = [b""] * result.rows if carried is None else carried.members()
        kept, errors = [], []
        for row, (values, start) in enumerate(zip(plain_outputs(result), before, strict=True)):
            if (error := result.errors.get(row)) is None:
                kept.append(_behind(start, _line({"outputs": values})))
            elif self._apart:
                errors.append(error_line(fault(error, first + row), start))
            else:
                kept.append(_behind(start, _line({"error": fault(error, first + row)})))
        return Piece(b"".join(kept), b"".join(errors), result.rows, len(result.errors))


class TableText:
    """An Arrow stream, of which the finished file is made."""

    def __init__(self, outputs: Sequence[Tensor], apart: bool, form: str, carried: Sequence[tuple[str, Any]]) -> None:
        self._apart = apart
        self._writer = columns_module().ColumnWriter(outputs, not apart, form, carried)

    def head(self) -> bytes:
        """Return the schema."""
        head: bytes = self._writer.head()
        return head

    def lines(self, answer: bytes, first: int, carried: Carried | None = None) -> Piece:
        """Make a piece of lines of JSON."""
        answers = [json.loads(line) for line in answer.splitlines()]
        errors: dict[int, dict[str, Any]] = {}
        for number, each in enumerate(answers):
            if "error" in each:
                each["error"]["row"] = first + number
                errors[number] = each["error"]
        return Piece(self._writer.rows(answers, carried), self._said(errors, carried), len(answers), len(errors))

    def result(self, result: penstock_client.BatchResult, first: int, carried: Carried | None = None) -> Piece:
        """Make a piece of columns."""
        errors = {row: fault(error, first + row) for row, error in sorted(result.errors.items())}
        output = self._writer.arrays(result.rows, result.outputs, errors, carried)
        return Piece(output, self._said(errors, carried), result.rows, len(errors))

    def _said(self, errors: Mapping[int, Mapping[str, Any]], carried: Carried | None) -> bytes:
        if not self._apart or not errors:
            return b""
        before = carried.members() if carried is not None else dict.fromkeys(errors, b"")
        return b"".join(error_line(error, before[row]) for row, error in errors.items())


def fault(error: penstock_client.PenstockError, row: int) -> dict[str, Any]:
    """Return what is said of a row that failed, as the server writes it."""
    code, status = getattr(error, "code", "") or "internal_error", getattr(error, "status", 500)
    known: dict[str, Any] = {"row": row, "code": code, "status": status, "detail": error.detail}
    fields = getattr(error, "fields", ())
    return {**known, "errors": list(fields)} if fields else known


def error_line(error: Mapping[str, Any], members: bytes) -> bytes:
    """Return a line for the file of errors, behind the members that are carried."""
    return _behind(members, _line(error))


def _behind(members: bytes, line: bytes) -> bytes:
    return b"{%b%b" % (members, line[1:])


def _line(document: Mapping[str, Any]) -> bytes:
    return json_text(document).encode() + b"\n"


def plain_outputs(result: penstock_client.BatchResult) -> list[dict[str, Any]]:
    """Return the outputs of each row as plain values, floats as short as their type lets them be."""
    columns = {name: _plain(column) for name, column in result.outputs.items()}
    return [{name: column[row] for name, column in columns.items()} for row in range(result.rows)]


def _plain(column: Any) -> list[Any]:
    if isinstance(column, list):
        return [named(value) for value in column]
    if column.dtype.kind != "f":
        plain: list[Any] = column.tolist()
        return plain
    # float32 as Python's float has digits that mean nothing.
    texts = column.astype(str).tolist()
    return [_number(text) for text in texts]


def _number(text: Any) -> Any:
    if isinstance(text, list):
        return [_number(each) for each in text]
    return named(float(text))
