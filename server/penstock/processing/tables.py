"""Tables in files: what plans are learned from, and what goes through them offline."""

from __future__ import annotations

import csv
import math
import re
from array import array
from collections.abc import Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import ConfigError
from penstock.processing.described import takes_empty
from penstock.processing.faults import FAULTS_MAX, Fault, expected_of, faults_of, spelt, told
from penstock.processing.record import Field, FieldKind, Record
from penstock.processing.slots import Table
from penstock.processing.spelling import BLANKS, long_fields, number_in

__all__ = ["read_table", "target_of", "write_table"]

_KEPT_MAX = 1 << 16
_DIGITS = re.compile(r"-?[1-9][0-9]{0,18}")
_SPELT = {"true": True, "false": False, "1": True, "0": False}


def read_table(file: Path, record: Record) -> Table:
    """Read a CSV file with names in its first line, or a Parquet file: values by column, None where one is missing.

    CSV is read as it is online: an empty value of a nullable field is missing, any other is an empty string where the
    field can be one; numbers and booleans are read as the record's field says. ConfigError when the file cannot be
    read, or holds something else.
    """
    if file.suffix in (".parquet", ".pq"):
        return _read_parquet(file)
    if file.suffix != ".csv":
        raise ConfigError(f"{file}: tables are .csv or .parquet")
    fields = {field.name: field for field in record.fields}
    columns: dict[str, list[Any] | array[float]] = {}
    faults: list[Fault] = []
    try:
        # Spreadsheets write a mark of the byte order.
        with long_fields(), file.open(newline="", encoding="utf-8-sig") as lines:
            reader = csv.reader(lines)
            names = [name.strip() for name in next(reader, [])]
            columns = {name: array("d") if _is_number(fields.get(name)) else [] for name in names}
            kept: dict[str, str] = {}
            row = 0
            for values in reader:
                if (not values and len(names) != 1) or len(faults) > FAULTS_MAX:
                    continue
                values = values or [""]
                if len(values) != len(names):
                    raise ConfigError(
                        f"{file}: line {reader.line_num} has {len(values)} values, and the first line {len(names)} "
                        "names"
                    )
                for name, text in zip(names, values, strict=True):
                    field, value = fields.get(name), None
                    try:
                        value = _value(field, text)
                    except (ValueError, KeyError):
                        assert field is not None
                        faults.append(Fault(row, name, f"expected {expected_of(field)}, got {spelt(text)}"))
                    _append(columns[name], value, kept)
                row += 1
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror}") from error
    except (UnicodeDecodeError, csv.Error) as error:
        raise ConfigError(f"{file}: is no CSV in UTF-8: {error}") from error
    if len(columns) != len(names):
        raise ConfigError(f"{file}: its first line has a name twice")
    table = {name: np.array(column) if isinstance(column, array) else column for name, column in columns.items()}
    if faults:
        known = {(fault.row, fault.field) for fault in faults}
        others = [fault for fault in faults_of(record, table) if (fault.row, fault.field) not in known]
        raise ConfigError(told(file, table, sorted([*faults, *others])))
    return table


def _append(column: list[Any] | array[float], value: Any, kept: dict[str, str]) -> None:
    """Append a value; words that come again and again are `kept` once."""
    if isinstance(column, array):
        column.append(math.nan if value is None else value)
    elif isinstance(value, str) and len(kept) < _KEPT_MAX:
        column.append(kept.setdefault(value, value))
    else:
        column.append(value)


def _is_number(field: Field | None) -> bool:
    """Whether a float64 says all of its values; of whole numbers it does not."""
    return field is not None and field.kind is FieldKind.NUMBER


def _value(field: Field | None, text: str) -> Any:
    """Return what a text in CSV is for a field; ValueError, KeyError when it is nothing."""
    if text == "" and (field is None or field.nullable or not takes_empty(field)):
        return None
    if field is None:
        return text
    if field.kind is FieldKind.INTEGER and _DIGITS.fullmatch(text):
        return int(text)  # beyond 2^53 it would be another one as a float
    if field.kind in (FieldKind.NUMBER, FieldKind.INTEGER):
        return _number(text)
    if field.kind is FieldKind.BOOLEAN:
        return _SPELT[text.strip(BLANKS).lower()]
    if field.kind is FieldKind.CATEGORY and not all(isinstance(of, str) for of in field.categories):
        return _category(field, text)
    return text


def _number(text: str) -> float:
    if text.strip(BLANKS).lower() == "nan":
        return math.nan
    number = number_in(text)
    if number is None:
        raise ValueError
    return number


def _category(field: Field, text: str) -> Any:
    """Return a category that is no string, as CSV spells it."""
    if text in field.categories:
        return text
    trimmed = text.strip(BLANKS)
    if trimmed.lower() in ("true", "false") and any(isinstance(of, bool) for of in field.categories):
        return _SPELT[trimmed.lower()]
    if trimmed in ("1", "0") and all(isinstance(of, bool) for of in field.categories):
        return _SPELT[trimmed]
    number = number_in(trimmed)
    # Where they are open, any text is one that was not seen.
    return text if number is None and any(isinstance(of, str) for of in field.categories) else _number(trimmed)


def _read_parquet(file: Path) -> Table:
    try:
        from pyarrow import ArrowException, parquet
    except ImportError as error:
        raise ConfigError("Parquet needs pyarrow: run pip install 'penstock[arrow]'") from error
    try:
        table = parquet.read_table(file)
        # Structs become columns with dots in their names, as nested fields have.
        while any(str(kind).startswith("struct") for kind in table.schema.types):
            table = table.flatten()
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error}") from error
    except ArrowException as error:
        raise ConfigError(f"{file}: is no Parquet: {error}") from error
    if len(set(table.column_names)) != len(table.column_names):
        raise ConfigError(f"{file}: has a column twice")
    columns = {}
    for name in table.column_names:
        try:
            columns[name] = _plain(table.column(name))
        except (ValueError, OverflowError) as error:
            # Values that Arrow has and Python has not, such as dates of another aeon.
            raise ConfigError(f"{file}: {name}: holds a value that cannot be read: {error}") from error
    return columns


def _plain(column: Any) -> Any:
    """Return a column of numbers or moments as an array, any other as Python's objects."""
    if str(column.type).startswith("timestamp"):
        return column.to_numpy()
    if str(column.type) in ("float", "double") or (
        str(column.type).startswith(("int", "uint")) and not column.null_count
    ):
        return column.to_numpy()
    return column.to_pylist()


def target_of(file: Path, table: Table, name: str) -> NDArray[np.float64]:
    """Return the column of the target as numbers, shape (rows,): two categories are 0 and 1 in their order."""
    if name not in table:
        raise ConfigError(f"{file}: there is no column {name!r} to be the target")
    values = list(table[name])
    try:
        numbers = np.array([float(value) for value in values])
        if not np.isfinite(numbers).all():
            row = int(np.flatnonzero(~np.isfinite(numbers))[0])
            raise ConfigError(f"{file}: row {row} of the target {name!r} is missing or not finite")
        return numbers
    except (TypeError, ValueError):
        found = sorted({str(value) for value in values})
        if len(found) != 2 or None in values:
            raise ConfigError(
                f"{file}: the target {name!r} must be numbers, or one of two words, and never missing"
            ) from None
        return np.array([float(str(value) == found[1]) for value in values])


def write_table(file: Path, matrices: Mapping[str, tuple[Sequence[str], NDArray[Any]]]) -> None:
    """Write matrices, (names of the columns, values) by the name of the input.

    .npy for one and .npz for any number have the bytes that the model gets; .csv and .parquet have their columns, and a
    number behind a name that comes twice.
    """
    try:
        _write(file, matrices)
    except OSError as error:
        raise ConfigError(f"{file}: cannot be written: {error.strerror or error}") from error


def _write(file: Path, matrices: Mapping[str, tuple[Sequence[str], NDArray[Any]]]) -> None:
    if file.suffix == ".npz":
        np.savez(file, allow_pickle=False, **{name: values for name, (_, values) in matrices.items()})
        return
    if len(matrices) != 1 and file.suffix == ".npy":
        raise ConfigError(f"{file}: there are {len(matrices)} matrices: write them to a .npz file")
    if file.suffix == ".npy":
        np.save(file, next(iter(matrices.values()))[1], allow_pickle=False)
        return
    columns: dict[str, NDArray[Any]] = {}
    for labels, values in matrices.values():
        for at, label in enumerate(labels):
            columns[_unused(label, columns)] = values[:, at]
    if file.suffix == ".csv":
        with file.open("w", newline="", encoding="utf-8") as lines:
            writer = csv.writer(lines)
            writer.writerow(columns)
            writer.writerows(zip(*(column.tolist() for column in columns.values()), strict=True))
        return
    if file.suffix not in (".parquet", ".pq"):
        raise ConfigError(f"{file}: features are written as .npy, .npz, .csv or .parquet")
    try:
        import pyarrow
        from pyarrow import parquet
    except ImportError as error:
        raise ConfigError("Parquet needs pyarrow: run pip install 'penstock[arrow]'") from error
    parquet.write_table(pyarrow.table(columns), file)


def _unused(label: str, columns: Mapping[str, object]) -> str:
    """Return the label, or one with a number: a category may be called like what is said of missing ones."""
    if label not in columns:
        return label
    return next(name for name in (f"{label} {number}" for number in count(2)) if name not in columns)
