"""Rows whose true outputs are known: read from a file, and made what the model takes."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from penstock.core.errors import ConfigError
from penstock.load.rows import TEXTS, TensorSpec
from penstock.processing.record import Record
from penstock.processing.tables import read_table
from penstock.testing.record_edges import Leaf, leaves_of
from penstock.testing.target import Target

__all__ = ["Labelled", "read_labelled", "rows_of"]

_LINES = (".ndjson", ".jsonl")
_TABLES = (".csv", ".parquet", ".pq")
_BOOLS = {"true": True, "1": True, "false": False, "0": False}


@dataclass(frozen=True, slots=True)
class Labelled:
    """A file's columns, each with a value for each row; None where there is none."""

    file: Path
    columns: Mapping[str, Sequence[Any]]
    rows: int

    def column(self, name: str, what: str) -> Sequence[Any]:
        """Return a column that must be there, with a value in each row; ConfigError otherwise."""
        if name not in self.columns:
            known = ", ".join(list(self.columns)[:20])
            raise ConfigError(f"{self.file}: there is no column {name!r} to be the {what}; there are {known}")
        column = self.columns[name]
        empty = [row for row, value in enumerate(column) if value is None]
        if empty:
            raise ConfigError(f"{self.file}: row {empty[0]} has no {name!r}, which is the {what}")
        return column


def read_labelled(file: Path) -> Labelled:
    """Read .csv, .parquet, .ndjson or .npz; ConfigError says why it cannot be read.

    A line of NDJSON is an object with the row's inputs and its target side by side, or the inputs as a member `inputs`.
    """
    try:
        if file.suffix in _TABLES:
            columns = {name: _plain(column) for name, column in read_table(file, Record((), {})).items()}
        elif file.suffix in _LINES:
            columns = _from_lines(file)
        elif file.suffix == ".npz":
            with np.load(file, allow_pickle=False) as arrays:
                columns = {name: list(arrays[name].tolist()) for name in arrays.files}
        else:
            raise ConfigError(f"{file}: labelled rows are .csv, .parquet, .ndjson or .npz")
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise ConfigError(f"cannot read the labelled rows {file}: {reason}") from error
    except (ValueError, TypeError) as error:
        raise ConfigError(f"{file} holds no labelled rows: {error}") from error
    counts = {len(column) for column in columns.values()}
    if len(counts) != 1 or 0 in counts:
        raise ConfigError(f"{file} holds no labelled rows: its columns have {sorted(counts) or 'no'} rows")
    return Labelled(file, columns, counts.pop())


def _plain(column: Any) -> list[Any]:
    values = column.tolist() if isinstance(column, np.ndarray) else list(column)
    return [None if isinstance(value, float) and math.isnan(value) else value for value in values]


def _from_lines(file: Path) -> dict[str, list[Any]]:
    rows: list[dict[str, Any]] = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(), 1):
        if not line.strip():
            continue
        try:
            members = json.loads(line, parse_constant=_refuse)
        except ValueError as error:
            raise ValueError(f"line {number}: {error}") from error
        if not isinstance(members, dict):
            raise ValueError(f"line {number} is no object")
        inputs = members.pop("inputs", {})
        rows.append({**(_flat(inputs) if isinstance(inputs, dict) else {"": inputs}), **_flat(members)})
    names = dict.fromkeys(name for row in rows for name in row)
    return {name: [row.get(name) for row in rows] for name in names}


def _refuse(name: str) -> NoReturn:
    raise ValueError(f'the bare word {name} is no JSON: write "{name}"')


def _flat(members: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return members of objects by their paths; a picture's {"base64": ...} stays what it is."""
    found: dict[str, Any] = {}
    for name, value in members.items():
        if isinstance(value, dict) and "base64" not in value:
            found |= _flat(value, f"{prefix}{name}.")
        else:
            found[f"{prefix}{name}"] = value
    return found


# --- as the model takes them ------------------------------------------------------------------------------------------


def rows_of(target: Target, labelled: Labelled, others: Sequence[str]) -> list[dict[str, Any]]:
    """Return the rows that are sent. `others` are columns that are no inputs unless an input has their name.

    ConfigError when an input has no column, or a value is nothing of its type.
    """
    if target.record is not None:
        made = _records(leaves_of(target.record), labelled)
    else:
        made = _tensors(target.inputs, labelled, others)
    return [
        {name: column[row] for name, column in made.items() if column[row] is not _ABSENT}
        for row in range(labelled.rows)
    ]


_ABSENT = object()


def _records(leaves: Sequence[Leaf], labelled: Labelled) -> dict[str, list[Any]]:
    made: dict[str, list[Any]] = {}
    for leaf in leaves:
        if leaf.path in labelled.columns:
            kind = str(leaf.schema.get("type", ""))
            numeric = kind in ("number", "integer", "boolean") or not all(
                isinstance(choice, str) for choice in leaf.schema.get("enum", ())
            )
            convert = _convert(kind if numeric else "string", labelled, leaf.path)
            without: Any = None if leaf.nullable else "" if leaf.needed else _ABSENT
            made[leaf.path] = [without if value is None else convert(value) for value in labelled.columns[leaf.path]]
        elif leaf.needed:
            raise ConfigError(f"{labelled.file}: there is no column {leaf.path!r}, which the model needs")
    return made


def _tensors(inputs: Sequence[TensorSpec], labelled: Labelled, others: Sequence[str]) -> dict[str, list[Any]]:
    made: dict[str, list[Any]] = {}
    for spec in inputs:
        count = math.prod(spec.shape)
        side_by_side = [f"{spec.name}.{place}" for place in range(count)] if spec.shape else []
        bare = [""] if len(inputs) == 1 and "" in labelled.columns else []
        left = [name for name in labelled.columns if name not in others]
        if spec.name in labelled.columns or bare:
            name = spec.name if spec.name in labelled.columns else ""
            made[spec.name] = [_item(value, spec, labelled) for value in labelled.columns[name]]
        elif side_by_side and all(name in labelled.columns for name in side_by_side):
            made[spec.name] = _stacked(side_by_side, spec, labelled)
        elif len(inputs) == 1 and len(left) == count:
            made[spec.name] = _stacked(left, spec, labelled)
        else:
            shown = f"a column {spec.name!r}" + (f", nor {count} that are its elements" if spec.shape else "")
            raise ConfigError(f"{labelled.file}: there is not {shown}; there are {', '.join(list(left)[:20])}")
    return made


def _stacked(names: Sequence[str], spec: TensorSpec, labelled: Labelled) -> list[Any]:
    columns = [[_item(value, spec, labelled) for value in labelled.columns[name]] for name in names]
    if len(spec.shape) == 1:
        return [list(row) for row in zip(*columns, strict=True)]
    return [np.array(row, object).reshape(spec.shape).tolist() for row in zip(*columns, strict=True)]


def _item(value: Any, spec: TensorSpec, labelled: Labelled) -> Any:
    kind = {"b": "boolean", "f": "number"}.get(spec.dtype[:1], "integer")
    convert = _convert("string" if spec.dtype in TEXTS else kind, labelled, spec.name)
    if value is None:
        # Of a table nothing is an empty string, or NaN.
        return "" if spec.dtype in TEXTS else math.nan if kind == "number" else value
    return convert(value)


def _convert(kind: str, labelled: Labelled, name: str) -> Callable[[Any], Any]:
    """Return what makes a value of a CSV file, which is text, one of the schema's type."""

    def convert(value: Any) -> Any:
        if isinstance(value, list):
            return [convert(item) for item in value]
        try:
            if kind == "string":
                return value if isinstance(value, str | dict) else str(value)
            if isinstance(value, str) and value not in ("NaN", "Infinity", "-Infinity"):
                return _BOOLS[value.strip().lower()] if kind == "boolean" else _number(value, kind)
            whole = kind == "integer" and isinstance(value, float) and value.is_integer()
            return int(value) if whole else value
        except (ValueError, KeyError):
            raise ConfigError(f"{labelled.file}: {name}: {value!r} is no {kind}") from None

    return convert


def _number(text: str, kind: str) -> Any:
    number = float(text)
    if kind == "integer" and number.is_integer():
        return int(text) if text.strip().lstrip("+-").isdigit() else int(number)
    return number
