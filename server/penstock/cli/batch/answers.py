"""Answers to a chunk as bytes of the output: rows numbered through, and errors where they belong."""

from __future__ import annotations

import csv
import io
import json
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from penstock.cli.batch.columnar import columns_module
from penstock.cli.served import Tensor
from penstock.processing.spelling import long_fields

if TYPE_CHECKING:
    import penstock_client

__all__ = ["CsvText", "JsonText", "Piece", "TableText", "Writer", "codes_of", "end_of"]

_ERROR = b'{"error":'
_CSV_CODES = re.compile(rb',"?row \d+: ([a-z_]+): ')
_CSV_ERROR = re.compile(r"row (\d+): ")
# Of one output, beyond which it is one column of JSON, as the server has it.
_COLUMNS_MAX = 4096


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

    def lines(self, answer: bytes, first: int) -> Piece:
        """Make a piece of the lines that the server answered."""

    def result(self, result: penstock_client.BatchResult, first: int) -> Piece:
        """Make a piece of the columns that the SDK answered."""


class JsonText:
    """NDJSON."""

    def __init__(self, apart: bool) -> None:
        self._apart = apart

    def head(self) -> bytes:
        """Return nothing: there is no header."""
        return b""

    def lines(self, answer: bytes, first: int) -> Piece:
        """Make a piece of lines, as they are where no row failed."""
        rows = answer.count(b"\n")
        if _ERROR not in answer:
            return Piece(answer, b"", rows, 0)
        kept: list[bytes] = []
        errors: list[bytes] = []
        failed = 0
        for number, line in enumerate(answer.splitlines(keepends=True)):
            if not line.startswith(_ERROR):
                kept.append(line)
                continue
            failed += 1
            error = {**json.loads(line)["error"], "row": first + number}
            (errors if self._apart else kept).append(_line(error if self._apart else {"error": error}))
        return Piece(b"".join(kept), b"".join(errors), rows, failed)

    def result(self, result: penstock_client.BatchResult, first: int) -> Piece:
        """Make a piece of columns."""
        kept, errors = [], []
        for row, values in enumerate(_rows(result)):
            if (error := result.errors.get(row)) is None:
                kept.append(_line({"outputs": values}))
            elif self._apart:
                errors.append(_line(fault(error, first + row)))
            else:
                kept.append(_line({"error": fault(error, first + row)}))
        return Piece(b"".join(kept), b"".join(errors), result.rows, len(result.errors))


class CsvText:
    """CSV: the columns of each output, then `error` unless errors have a file of their own."""

    def __init__(self, outputs: Sequence[Tensor], apart: bool) -> None:
        self._outputs = outputs
        self._apart = apart

    def head(self) -> bytes:
        """Return the header."""
        columns = [name for tensor in self._outputs for name in _columns(tensor)]
        return _record(columns if self._apart else [*columns, "error"])

    def lines(self, answer: bytes, first: int) -> Piece:
        """Make a piece of records, as they are where no row failed."""
        body = answer[answer.find(b"\n") + 1 :]
        rows = body.count(b",\n")
        if body.count(b"\n") == rows and not self._apart:
            return Piece(body, b"", rows, 0)
        kept, errors, rows, failed = io.StringIO(), [], 0, 0
        write = csv.writer(kept, lineterminator="\n").writerow
        with long_fields():
            records = list(csv.reader(io.StringIO(body.decode(), newline="")))
        for number, record in enumerate(records):
            rows += 1
            said = record.pop()
            failed += bool(said)
            if said and self._apart:
                errors.append(_line(_read_fault(said, first + number)))
                continue
            if not self._apart:
                record.append(_CSV_ERROR.sub(f"row {first + number}: ", said, count=1))
            write(record)
        return Piece(kept.getvalue().encode(), b"".join(errors), rows, failed)

    def result(self, result: penstock_client.BatchResult, first: int) -> Piece:
        """Make a piece of columns."""
        kept, errors = [], []
        for row, values in enumerate(_rows(result)):
            error = result.errors.get(row)
            if error is not None and self._apart:
                errors.append(_line(fault(error, first + row)))
                continue
            if error is not None:
                known = fault(error, first + row)
                fields = [""] * sum(len(_columns(tensor)) for tensor in self._outputs)
                said = f"row {known['row']}: {known['code']}: {known['detail']}"
            else:
                fields = [field for tensor in self._outputs for field in _fields(tensor, values[tensor.name])]
                said = ""
            kept.append(_record(fields if self._apart else [*fields, said]))
        return Piece(b"".join(kept), b"".join(errors), result.rows, len(result.errors))


class TableText:
    """An Arrow stream, of which the finished file is made."""

    def __init__(self, outputs: Sequence[Tensor], apart: bool) -> None:
        self._apart = apart
        self._writer = columns_module().ColumnWriter(outputs, not apart)

    def head(self) -> bytes:
        """Return the schema."""
        head: bytes = self._writer.head()
        return head

    def lines(self, answer: bytes, first: int) -> Piece:
        """Make a piece of lines of JSON."""
        answers = [json.loads(line) for line in answer.splitlines()]
        errors = []
        for number, each in enumerate(answers):
            if "error" in each:
                each["error"]["row"] = first + number
                errors.append(each["error"])
        said = b"".join(map(_line, errors)) if self._apart else b""
        return Piece(self._writer.rows(answers), said, len(answers), len(errors))

    def result(self, result: penstock_client.BatchResult, first: int) -> Piece:
        """Make a piece of columns."""
        errors = {row: fault(error, first + row) for row, error in sorted(result.errors.items())}
        said = b"".join(map(_line, errors.values())) if self._apart else b""
        return Piece(self._writer.arrays(result.rows, result.outputs, errors), said, result.rows, len(errors))


def fault(error: penstock_client.PenstockError, row: int) -> dict[str, Any]:
    """Return what is said of a row that failed, as the server writes it."""
    code, status = getattr(error, "code", "") or "internal_error", getattr(error, "status", 500)
    known: dict[str, Any] = {"row": row, "code": code, "status": status, "detail": error.detail}
    fields = getattr(error, "fields", ())
    return {**known, "errors": list(fields)} if fields else known


def _read_fault(said: str, row: int) -> dict[str, Any]:
    code, _, detail = _CSV_ERROR.sub("", said, count=1).partition(": ")
    return {"row": row, "code": code, "detail": detail}


def _line(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def _rows(result: penstock_client.BatchResult) -> list[dict[str, Any]]:
    """Return the outputs of each row as plain values, floats as short as their type lets them be."""
    columns = {name: _plain(column) for name, column in result.outputs.items()}
    return [{name: column[row] for name, column in columns.items()} for row in range(result.rows)]


def _plain(column: Any) -> list[Any]:
    if isinstance(column, list):
        return [_named(value) for value in column]
    if column.dtype.kind != "f":
        plain: list[Any] = column.tolist()
        return plain
    # float32 as Python's float has digits that mean nothing.
    texts = column.astype(str).tolist()
    return [_number(text) for text in texts]


def _number(text: Any) -> Any:
    if isinstance(text, list):
        return [_number(each) for each in text]
    return _named(float(text))


def _named(value: Any) -> Any:
    if isinstance(value, list):
        return [_named(each) for each in value]
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def _columns(tensor: Tensor) -> list[str]:
    width = _width(tensor)
    return [tensor.name] if width == 0 else [f"{tensor.name}.{index}" for index in range(width)]


def _width(tensor: Tensor) -> int:
    """Return how many columns an output has side by side; 0 for one column."""
    fixed = len(tensor.shape) == 1 and tensor.shape[0] is not None and 2 <= tensor.shape[0] <= _COLUMNS_MAX
    return tensor.shape[0] or 0 if fixed else 0


def _fields(tensor: Tensor, value: Any) -> list[str]:
    if _width(tensor):
        return [_field(each) for each in value]
    if len(tensor.shape) == 1 and tensor.shape[0] == 1:
        return [_field(value[0])]
    return [json.dumps(value, ensure_ascii=False) if tensor.shape else _field(value)]


def _field(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value)


def _record(fields: Sequence[str]) -> bytes:
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(fields)
    return text.getvalue().encode()
