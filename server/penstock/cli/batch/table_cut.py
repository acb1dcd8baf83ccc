"""Columns taken out of tables of Arrow. They are carried with their types; as text where the output has none."""

from __future__ import annotations

import base64
import datetime
from collections.abc import Sequence
from typing import Any

import pyarrow
import pyarrow.compute
import pyarrow.types as kinds

from penstock.cli.batch.carried import Cut, Table
from penstock.cli.batch.choice import Places
from penstock.cli.batch.texts import named

__all__ = ["TableCutter"]


class TableCutter:
    """Sends some columns and carries others."""

    def __init__(self, schema: Any, places: Places) -> None:
        self._sent, self._carried = list(places.sent), list(places.carried)
        self.columns = [(schema.field(place).name, _decoded_type(schema.field(place).type)) for place in self._carried]

    def cut(self, payload: Any) -> Cut:
        """Cut a table."""
        columns = [_decoded(payload.column(place)) for place in self._carried]
        return Cut(
            payload.select(self._sent), _Columns([name for name, _ in self.columns], columns) if columns else None
        )


class _Columns:
    """Columns as they stand in the file."""

    def __init__(self, names: Sequence[str], columns: Sequence[Any]) -> None:
        self._names = names
        self._columns = columns

    def _table(self) -> Table:
        return Table(self._names, [_plain(column) for column in self._columns])

    def members(self) -> Sequence[bytes]:
        """Return members; see Carried."""
        return self._table().members()

    def fields(self) -> Sequence[bytes]:
        """Return fields; see Carried."""
        return self._table().fields()

    def columns(self) -> Sequence[Any]:
        """Return the arrays; see Carried."""
        return self._columns


def _decoded_type(kind: Any) -> Any:
    # A stream that may be cut anywhere has no dictionaries in front.
    return kind.value_type if kinds.is_dictionary(kind) or kinds.is_run_end_encoded(kind) else kind


def _decoded(column: Any) -> Any:
    if kinds.is_run_end_encoded(column.type):
        column = pyarrow.compute.run_end_decode(column)
    elif kinds.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    whole = column.combine_chunks()
    return pyarrow.concat_arrays(whole.chunks) if isinstance(whole, pyarrow.ChunkedArray) else whole


def _plain(column: Any) -> list[Any]:
    """Return plain values of JSON: numbers as they are, what JSON has no form of as text."""
    kind = column.type
    if kinds.is_float16(kind) or kinds.is_float32(kind):
        # As Python's float they have digits that mean nothing.
        texts = column.fill_null(0).to_numpy(zero_copy_only=False).astype(str).tolist()
        missing = column.is_null().to_pylist()
        return [None if gone else named(float(text)) for text, gone in zip(texts, missing, strict=True)]
    if kinds.is_temporal(kind) or kinds.is_decimal(kind):
        try:
            listed: list[Any] = column.cast(pyarrow.utf8()).to_pylist()
        except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError):
            listed = [None if value is None else str(value) for value in column.to_pylist()]
        return listed
    listed = column.to_pylist()
    if kinds.is_integer(kind) or kinds.is_string(kind) or kinds.is_large_string(kind) or kinds.is_boolean(kind):
        return listed
    return [_value(value) for value in listed]


def _value(value: Any) -> Any:
    if isinstance(value, bytes):
        return base64.b64encode(value).decode()
    if isinstance(value, dict):
        return {str(name): _value(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_value(each) for each in value]
    if value is None or isinstance(value, bool | int | str):
        return value
    if isinstance(value, float):
        return named(value)
    if isinstance(value, datetime.date | datetime.time):
        return value.isoformat()
    return str(value)
