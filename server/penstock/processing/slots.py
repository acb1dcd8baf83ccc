"""Columns of a table as the slots of records: what the data plane makes of rows, for whole columns and offline."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import RequestError
from penstock.native._kernels import hash_text
from penstock.processing.record import WHOLE_MAX, Category, Field, FieldKind, Record
from penstock.processing.spelling import BLANKS, number_in, seconds_in

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
    rows = len(next(iter(table.values()))) if table else 0
    texts: dict[str, list[str]] = {}
    for field in record.tensors:
        if field.name not in table and field.required:
            raise RequestError("invalid_input", f"{field.name}: the table has no such column, and it is required")
        texts[field.name] = []
        for row, given in enumerate(table.get(field.name, [None] * rows)):
            value = field.default if given is None else given
            if not isinstance(value, str) or not field.minimum <= len(value) <= field.maximum:
                raise RequestError("invalid_input", f"row {row}: {field.name}: expected text, got {value!r:.60}")
            texts[field.name].append(value)
    return texts


def slot_of(field: Field, values: Values) -> Slots:
    """Return the slot of every value of a column, float64 of shape (rows,); RequestError names the first fault."""
    if isinstance(values, np.ndarray) and values.dtype.kind in "fiu" and field.kind in _NUMBERS:
        column = values.astype(np.float64)
        if field.kind is FieldKind.INTEGER and values.dtype.kind in "iu":
            # Before they are rounded.
            _refuse(field, (values > WHOLE_MAX) | (values < -WHOLE_MAX), column, "a whole number of at most 2^53")
        _refuse(field, np.isinf(column), column, "a number")
    elif isinstance(values, np.ndarray) and values.dtype.kind == "M" and field.kind is FieldKind.DATE:
        column = _moments(values)
    else:
        read = _READ[field.kind](field)
        column = np.array([_slot(field, read, value, row) for row, value in enumerate(values)], np.float64)
    _check(field, column)
    return column


_NUMBERS = (FieldKind.NUMBER, FieldKind.INTEGER)
# What a value is in its slot; None: it is refused. Made once for a column.
_Read: TypeAlias = Callable[[Any], float | None]


def _slot(field: Field, read: _Read, value: Any, row: int) -> float:
    if value is None or (isinstance(value, float) and math.isnan(value)):
        return math.nan
    if isinstance(value, np.generic):
        value = value.item()
    made = read(value)
    if made is None:
        raise RequestError("invalid_input", f"row {row}: {field.name}: expected {field.kind.value}, got {value!r:.60}")
    return made


def _number(field: Field) -> _Read:
    def read(value: Any) -> float | None:
        if isinstance(value, str | Decimal) and field.coerce:
            return number_in(str(value))
        if isinstance(value, bool) or not isinstance(value, int | float) or math.isinf(value):
            return None
        if field.kind is FieldKind.INTEGER and abs(value) > WHOLE_MAX:
            return None
        return float(value)

    return read


def _boolean(field: Field) -> _Read:
    def read(value: Any) -> float | None:
        if isinstance(value, bool):
            return float(value)
        if not field.coerce:
            return None
        if isinstance(value, str):
            spelt = value.strip(BLANKS).lower()
            value = {"true": 1, "false": 0}.get(spelt, number_in(spelt))
        return float(bool(value)) if isinstance(value, int | float) and value in (0, 1) else None

    return read


def _category(field: Field) -> _Read:
    # 1, 1.0 and True are equal in Python and two things in JSON.
    places = {(_type(category), category): float(place) for place, category in enumerate(field.categories)}
    types = {type for type, _ in places}

    def read(value: Any) -> float | None:
        type = _type(value)
        if type is None:
            return None
        place = places.get((type, value))
        if place is None and field.coerce:
            place = next((places[other] for other in _spelt(value) if other in places), None)
        if place is None and field.open and (field.coerce or type in types):
            return -1.0
        return place

    return read


def _type(value: Any) -> str | None:
    """Return which of three things in JSON it is, if one."""
    if isinstance(value, bool):
        return "bool"
    return "text" if isinstance(value, str) else "number" if isinstance(value, int | float) else None


def _spelt(value: str | float) -> Iterator[tuple[str, Category]]:
    """Yield what the data plane takes a value for that stands where another type should."""
    if isinstance(value, bool):
        yield "text", "true" if value else "false"
    elif isinstance(value, str):
        trimmed = value.strip(BLANKS)
        number = number_in(trimmed)
        if number is not None:
            yield "number", number
        if trimmed in ("true", "false"):
            yield "bool", trimmed == "true"
    else:
        # The shortest decimals, and whole numbers without a fraction.
        is_whole = float(value).is_integer() and abs(value) <= WHOLE_MAX
        yield "text", str(int(value)) if is_whole else repr(float(value))


def _date(field: Field) -> _Read:
    def read(value: Any) -> float | None:
        if isinstance(value, str):
            return seconds_in(value)
        if isinstance(value, datetime):
            moment = value if value.tzinfo is not None else value.replace(tzinfo=UTC)
            whole, rest = divmod(moment - _EPOCH, timedelta(seconds=1))
            return whole + rest.microseconds / 1e6
        if isinstance(value, date):
            return float((value - _EPOCH.date()).days * 86400)
        return None

    return read


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def _moments(values: NDArray[Any]) -> Slots:
    """Return the seconds of datetime64: whole ones and a fraction, as they are when they are read from text."""
    whole = values.astype("datetime64[s]")
    rest = values - whole
    whole = np.where(rest < np.timedelta64(0), whole - np.timedelta64(1, "s"), whole)
    column: Slots = whole.astype(np.int64).astype(np.float64) + (values - whole) / np.timedelta64(1, "s")
    column[np.isnat(values)] = math.nan
    return column


def _hash(field: Field) -> _Read:
    def read(value: Any) -> float | None:
        if not isinstance(value, str) or not field.minimum <= len(value) <= field.maximum:
            return None
        return float(hash_text(value))

    return read


_READ: Mapping[FieldKind, Callable[[Field], _Read]] = {
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
        column[missing] = _slot(field, _READ[field.kind](field), field.default, 0)
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
