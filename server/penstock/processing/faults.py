"""What is wrong with a table that does not fit a record: many faults at once, each with its place in the file."""

from __future__ import annotations

import csv
import json
import math
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np

from penstock.core.errors import RequestError
from penstock.processing.record import SLOT_KINDS, WHOLE_MAX, Field, FieldKind, Record
from penstock.processing.slots import Table, Values, slot_of, texts_of
from penstock.processing.spelling import long_fields

__all__ = ["FAULTS_MAX", "Fault", "expected_of", "faults_of", "place_of_row", "spelt", "told"]

FAULTS_MAX = 20
_CATEGORIES_MAX = 20
_CHARACTERS_MAX = 60
_NO_ROW = -1
_SEPARATORS = (";", "\t", "|")


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """A value, by its row and field, that the record does not take; without a row it is the whole column."""

    row: int
    field: str
    text: str


def faults_of(record: Record, table: Table) -> list[Fault]:
    """Return the faults of a table, by row; of each column one more than FAULTS_MAX at most."""
    faults: list[Fault] = []
    for field in record.fields:
        if field.name in table:
            faults += islice(_search(field, table[field.name], 0), FAULTS_MAX + 1)
        elif field.required:
            faults.append(Fault(_NO_ROW, field.name, "the table has no such column, and it is required"))
    return sorted(faults)


def _search(field: Field, values: Values, first: int) -> Iterator[Fault]:
    """Yield the faults of a column: halves that are right are looked at no further."""
    if _fits(field, values):
        return
    if len(values) == 1:
        yield Fault(first, field.name, f"expected {expected_of(field, values[0])}, got {spelt(values[0])}")
        return
    half = len(values) // 2
    yield from _search(field, values[:half], first)
    yield from _search(field, values[half:], first + half)


def _fits(field: Field, values: Values) -> bool:
    try:
        if field.kind in SLOT_KINDS:
            slot_of(field, values)
        else:
            texts_of(Record((field,), {}), {field.name: values})
    except RequestError:
        return False
    return True


def expected_of(field: Field, value: object = None) -> str:
    """Say what a field takes, as the data plane does; of whole numbers also how large they are, if that is it."""
    match field.kind:
        case FieldKind.NUMBER | FieldKind.INTEGER:
            kind = "a number" if field.kind is FieldKind.NUMBER else "a whole number"
            large = isinstance(value, int | float) and abs(value) > WHOLE_MAX
            text = kind + _bounds(field) + (" of at most 2^53" if field.kind is FieldKind.INTEGER and large else "")
        case FieldKind.BOOLEAN:
            text = "true or false"
        case FieldKind.CATEGORY:
            text = _categories(field)
        case FieldKind.DATE:
            text = "a date-time such as 2026-01-31T12:00:00Z, or a date"
        case _:
            text = "a string" + _lengths(field)
    return f"{text}, or null" if field.nullable else text


def _categories(field: Field) -> str:
    if not field.open:
        listed = ", ".join(json.dumps(of, ensure_ascii=False) for of in field.categories[:_CATEGORIES_MAX])
        return f"one of {listed}{', ...' if len(field.categories) > _CATEGORIES_MAX else ''}"
    types = {"a string": str, "a boolean": bool, "a number": int | float}
    # A bool is an int in Python.
    kinds = [next(name for name, kind in types.items() if isinstance(of, kind)) for of in field.categories]
    return f"a category, which is {' or '.join(name for name in types if name in kinds)}"


def _bounds(field: Field) -> str:
    low = f" {'above' if field.exclusive_minimum else 'from'} {_figures(field.minimum)}"
    high = f" {'below' if field.exclusive_maximum else 'up to'} {_figures(field.maximum)}"
    return "".join(text for text, bound in ((low, field.minimum), (high, field.maximum)) if math.isfinite(bound))


def _figures(number: float) -> str:
    return str(int(number)) if math.isfinite(number) and number == int(number) else repr(number)


def _lengths(field: Field) -> str:
    least = _figures(field.minimum) if field.minimum > 0 else ""
    if math.isinf(field.maximum):
        return f" of at least {least} characters" if least else ""
    return (
        f" of {least} to {_figures(field.maximum)} characters"
        if least
        else f" of up to {_figures(field.maximum)} characters"
    )


def spelt(value: Any) -> str:
    """Return a value as it stands in a file, as near as can be known."""
    plain = value.item() if isinstance(value, np.generic) else value
    if plain is None or (isinstance(plain, float) and math.isnan(plain)):
        return "nothing"
    if isinstance(plain, float) and plain.is_integer() and abs(plain) <= WHOLE_MAX:
        plain = int(plain)
    text = json.dumps(plain, ensure_ascii=False, default=str)
    return text if len(text) <= _CHARACTERS_MAX else f"{text[: _CHARACTERS_MAX - 3]}..."


def told(file: Path, table: Table, faults: Sequence[Fault]) -> str:
    """Return faults as a sentence, or a line for each of several; `table` is what was read of the file."""
    shown = faults[:FAULTS_MAX]
    places = _places(file, [fault.row for fault in shown if fault.row != _NO_ROW])
    lines = [f"{f'{places[of.row]}: ' if of.row in places else ''}{of.field}: {of.text}" for of in shown]
    if len(faults) > len(shown):
        lines.append("and more")
    if any(fault.row == _NO_ROW for fault in shown):
        lines.append(_columns(table))
    return f"{file}: {lines[0]}" if len(lines) == 1 else "\n  ".join([f"{file} does not fit the record:", *lines])


def _columns(table: Table) -> str:
    text = f"its columns are {', '.join(table) or 'none'}"
    separators = [of for of in _SEPARATORS if len(table) == 1 and of in next(iter(table))]
    return f"{text}: separate them by commas, not by {separators[0]!r}" if separators else text


def place_of_row(file: Path, row: int) -> str:
    """Say where a row is: its line in CSV, or else its number from 0."""
    return _places(file, [row])[row]


def _places(file: Path, rows: Iterable[int]) -> Mapping[int, str]:
    wanted = set(rows)
    if file.suffix != ".csv" or not wanted:
        return {row: f"row {row}" for row in wanted}
    places = {}
    # Where a row is in the file is of interest in an error only: then the file is read once more.
    with long_fields(), file.open(newline="", encoding="utf-8-sig") as lines:
        reader = csv.reader(lines)
        names = next(reader, [])
        row = 0
        for values in reader:
            if values or len(names) == 1:
                if row in wanted:
                    places[row] = f"line {reader.line_num}"
                row += 1
    return places
