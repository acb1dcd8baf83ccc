"""Answers as CSV."""

from __future__ import annotations

import csv
import io
import json
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from penstock.cli.batch.answers import Piece, error_line, fault, plain_outputs
from penstock.cli.batch.carried import Carried
from penstock.cli.batch.texts import record, records_of
from penstock.cli.served import Tensor
from penstock.processing.spelling import long_fields

if TYPE_CHECKING:
    import penstock_client

__all__ = ["CsvText", "csv_columns"]

_ERROR = re.compile(r"row (\d+): ")
# Of one output, beyond which it is one column of JSON, as the server has it.
_COLUMNS_MAX = 4096


class CsvText:
    """CSV: what is carried, the columns of each output, then `error` unless errors have a file of their own."""

    def __init__(self, outputs: Sequence[Tensor], apart: bool, carried: Sequence[str] = ()) -> None:
        self._outputs = outputs
        self._apart = apart
        self._carried = carried

    def head(self) -> bytes:
        """Return the header."""
        columns = [*self._carried, *(name for tensor in self._outputs for name in csv_columns(tensor))]
        return record(columns if self._apart else [*columns, "error"])

    def lines(self, answer: bytes, first: int, carried: Carried | None = None) -> Piece:
        """Make a piece of records, as they are where no row failed."""
        body = answer[answer.find(b"\n") + 1 :]
        records = records_of(body)
        before = [b""] * len(records) if carried is None else carried.fields()
        # Nothing but an empty field ends so: no row has an error.
        if not self._apart and all(each.endswith(b",") for each in records):
            if carried is not None:
                body = b"".join([b"%b%b\n" % pair for pair in zip(before, records, strict=True)])
            return Piece(body, b"", len(records), 0)
        kept, errors, failed = [], [], 0
        with long_fields():
            fields = list(csv.reader(io.StringIO(body.decode(), newline="")))
        members = _members(carried, len(records), self._apart and any(row[-1] for row in fields))
        for number, (row, start) in enumerate(zip(fields, before, strict=True)):
            said = row.pop()
            failed += bool(said)
            if said and self._apart:
                errors.append(error_line(_read_fault(said, first + number), members[number]))
                continue
            if not self._apart:
                row.append(_ERROR.sub(f"row {first + number}: ", said, count=1))
            kept.append(start + record(row))
        return Piece(b"".join(kept), b"".join(errors), len(records), failed)

    def result(self, result: penstock_client.BatchResult, first: int, carried: Carried | None = None) -> Piece:
        """Make a piece of columns."""
        kept, errors = [], []
        before = [b""] * result.rows if carried is None else carried.fields()
        members = _members(carried, result.rows, self._apart and bool(result.errors))
        for row, (values, start) in enumerate(zip(plain_outputs(result), before, strict=True)):
            error = result.errors.get(row)
            if error is not None and self._apart:
                errors.append(error_line(fault(error, first + row), members[row]))
                continue
            if error is not None:
                known = fault(error, first + row)
                fields = [""] * sum(len(csv_columns(tensor)) for tensor in self._outputs)
                said = f"row {known['row']}: {known['code']}: {known['detail']}"
            else:
                fields = [field for tensor in self._outputs for field in _fields(tensor, values[tensor.name])]
                said = ""
            kept.append(start + record(fields if self._apart else [*fields, said]))
        return Piece(b"".join(kept), b"".join(errors), result.rows, len(result.errors))


def _members(carried: Carried | None, rows: int, wanted: bool) -> Sequence[bytes]:
    return [b""] * rows if carried is None or not wanted else carried.members()


def _read_fault(said: str, row: int) -> dict[str, Any]:
    code, _, detail = _ERROR.sub("", said, count=1).partition(": ")
    return {"row": row, "code": code, "detail": detail}


def csv_columns(tensor: Tensor) -> list[str]:
    """Return the names of an output's columns."""
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
