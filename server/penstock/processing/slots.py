"""Columns of a table as the slots of records: what the data plane makes of rows, for whole columns and offline."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from datetime import UTC, date, datetime
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import RequestError
from penstock.native._kernels import hash_text
from penstock.processing.record import WHOLE_MAX, Category, Field, FieldKind, Record

__all__ = ["Slots", "Table", "Values", "slot_of", "slots_of", "texts_of"]

Slots: TypeAlias = NDArray[np.float64]
# Values by column; None, and NaN among numbers, are missing.
Values: TypeAlias = Sequence[Any] | NDArray[Any]
Table: TypeAlias = Mapping[str, Values]


def slots_of(record: Record, table: Table) -> Slots:
    """Return the slots of all rows, shape (rows, slots); RequestError (invalid_input) names the first fault."""
    rows = len(next(iter(table.values()))) if table else 0
    slots = np.empty((rows, len(record.slots)))
    for place, field in enumerate(record.slots):
        if field.name in table:
            slots[:, place] = slot_of(field, table[field.name])
        else:
            if field.required:
                raise RequestError("invalid_input", f"{field.name}: the table has no such column, and it is required")
            slots[:, place] = slot_of(field, [field.default])[0] if field.default is not None else math.nan
    return slots


def texts_of(record: Record, table: Table) -> dict[str, list[str]]:
    """Return the rows of each field of text; RequestError (invalid_input) names the first that has none."""
    texts: dict[str, list[str]] = {}
    for field in record.tensors:
        if field.name not in table:
            raise RequestError("invalid_input", f"{field.name}: the table has no such column")
        texts[field.name] = []
        for row, given in enumerate(table[field.name]):
            value = field.default if given is None else given
            if not isinstance(value, str) or not field.minimum <= len(value) <= field.maximum:
                raise RequestError("invalid_input", f"row {row}: {field.name}: expected text, got {value!r:.60}")
            texts[field.name].append(value)
    return texts


def slot_of(field: Field, values: Values) -> Slots:
    """Return the slot of every value of a column, float64 of shape (rows,); RequestError names the first fault."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiu" and field.kind in _NUMBERS:
        column = values.astype(np.float64)
    else:
        column = np.array([_slot(field, value, row) for row, value in enumerate(values)], np.float64)
    _check(field, column)
    return column


_NUMBERS = (FieldKind.NUMBER, FieldKind.INTEGER)


def _slot(field: Field, value: Any, row: int) -> float:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return math.nan
    if isinstance(value, np.generic):
        value = value.item()
    made = _READ[field.kind](field, value)
    if made is None:
        raise RequestError("invalid_input", f"row {row}: {field.name}: expected {field.kind.value}, got {value!r}")
    return made


def _number(field: Field, value: Any) -> float | None:
    if isinstance(value, str) and field.coerce:
        try:
            return float(value)
        except ValueError:
            return None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    return float(value)


def _boolean(field: Field, value: Any) -> float | None:
    if field.coerce and value in _SPELT:
        return _SPELT[value]
    return float(value) if isinstance(value, bool) else None


_SPELT: Mapping[Any, float] = {0: 0.0, 1: 1.0, "0": 0.0, "1": 1.0, "false": 0.0, "true": 1.0}


def _category(field: Field, value: Any) -> float | None:
    place = _place(field.categories, value)
    if place is None and field.coerce and not isinstance(value, str):
        place = _place(field.categories, _spelt(value))
    if place is None:
        return -1.0 if field.open else None
    return float(place)


def _place(categories: Sequence[Category], value: Any) -> int | None:
    # 1, 1.0 and True are equal in Python and two things in JSON.
    for place, category in enumerate(categories):
        if category == value and isinstance(category, bool) == isinstance(value, bool):
            return place
    return None


def _spelt(value: Any) -> str:
    """Return what the data plane takes a value for that stands where a string should: the shortest decimals."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return str(int(value)) if float(value).is_integer() and abs(value) <= WHOLE_MAX else repr(float(value))


def _date(field: Field, value: Any) -> float | None:
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value)
        except ValueError:
            return None
    if isinstance(value, date) and not isinstance(value, datetime):
        value = datetime(value.year, value.month, value.day, tzinfo=UTC)
    if not isinstance(value, datetime):
        return None
    moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
    return moment.timestamp()


def _hash(field: Field, value: Any) -> float | None:
    return float(hash_text(value)) if isinstance(value, str) else None


_READ = {
    FieldKind.NUMBER: _number,
    FieldKind.INTEGER: _number,
    FieldKind.BOOLEAN: _boolean,
    FieldKind.CATEGORY: _category,
    FieldKind.DATE: _date,
    FieldKind.HASH: _hash,
}


def _check(field: Field, column: Slots) -> None:
    missing = np.isnan(column)
    if field.default is not None and missing.any() and not field.nullable:
        column[missing] = _slot(field, field.default, 0)
        missing[:] = False
    if missing.any() and not field.nullable and field.required:
        _refuse(field, missing, column, "a value")
    if field.kind is FieldKind.INTEGER:
        _refuse(
            field, ~missing & ((column != np.floor(column)) | (np.abs(column) > WHOLE_MAX)), column, "a whole number"
        )
    if field.kind in _NUMBERS:
        low, high = field.minimum, field.maximum
        below = column <= low if field.exclusive_minimum else column < low
        above = column >= high if field.exclusive_maximum else column > high
        _refuse(field, ~missing & (below | above), column, _bounds(field))


def _bounds(field: Field) -> str:
    low = f"above {field.minimum:g}" if field.exclusive_minimum else f"at least {field.minimum:g}"
    high = f"below {field.maximum:g}" if field.exclusive_maximum else f"at most {field.maximum:g}"
    return " and ".join(text for text, bound in ((low, field.minimum), (high, field.maximum)) if math.isfinite(bound))


def _refuse(field: Field, wrong: NDArray[np.bool_], column: Slots, expected: str) -> None:
    if wrong.any():
        row = int(np.argmax(wrong))
        raise RequestError("invalid_input", f"row {row}: {field.name}: expected {expected}, got {column[row]:g}")
