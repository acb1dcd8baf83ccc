"""Golden rows through a server: inputs whose outputs are known, and by how much what came is off."""

from __future__ import annotations

import base64
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from penstock.core.errors import ConfigError
from penstock.load.rows import TEXTS, TensorSpec
from penstock.testing.answers import flat, shape_of
from penstock.testing.asking import to_repeat
from penstock.testing.checks import Check, failed, passed
from penstock.testing.target import Target

__all__ = ["GoldenRows", "check_golden", "golden_beside", "read_golden_rows"]

GROUP = "golden"
RTOL, ATOL = 1e-4, 1e-6
_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_MEMBERS = {"inputs", "outputs", "rtol", "atol"}
_LINES = (".ndjson", ".jsonl")


@dataclass(frozen=True, slots=True)
class GoldenRow:
    """A row, the outputs that are known of it, and how far floats may be off: by `atol` + `rtol` times the expected."""

    inputs: Any
    outputs: Mapping[str, Any]
    rtol: float
    atol: float


@dataclass(frozen=True, slots=True)
class GoldenRows:
    """What a file holds."""

    name: str
    rows: Sequence[GoldenRow]


def golden_beside(model: Path) -> Path | None:
    """Return the golden rows that a model's folder or file carries; None when it has none."""
    if model.is_dir():
        places = [model / "golden.json"]
    else:
        places = [model.with_name(f"{model.stem}.golden.json"), model.with_name("golden.json")]
    return next((place for place in places if place.is_file()), None)


def read_golden_rows(path: Path) -> GoldenRows:
    """Read golden rows: as models carry them, or NDJSON with `inputs` and `outputs` of one row in each line.

    ConfigError says what is wrong with the file, and where.
    """
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise ConfigError(f"cannot read the golden rows {path}: {getattr(error, 'strerror', None) or error}") from error
    try:
        rows = _lines(text) if path.suffix in _LINES else _document(json.loads(text, parse_constant=_refuse))
    except (ValueError, RecursionError) as error:
        raise ConfigError(f"{path} holds no golden rows: {error}") from error
    if not rows:
        raise ConfigError(f"{path} holds no golden rows: it is empty")
    return GoldenRows(path.name, rows)


def _refuse(name: str) -> NoReturn:
    raise ValueError(f'the bare word {name} is no JSON: write "{name}"')


def _lines(text: str) -> list[GoldenRow]:
    rows = []
    for number, line in enumerate(text.splitlines(), 1):
        if line.strip():
            try:
                rows.append(_row(json.loads(line, parse_constant=_refuse)))
            except ValueError as error:
                raise ValueError(f"line {number}: {error}") from error
    return rows


def _row(members: Any) -> GoldenRow:
    if not isinstance(members, dict) or not {"inputs", "outputs"} <= members.keys() <= _MEMBERS:
        raise ValueError('each must be {"inputs": ..., "outputs": {...}}, with rtol and atol or not')
    if not isinstance(members["outputs"], dict) or not members["outputs"]:
        raise ValueError("outputs must be an object with a value for each output that is known")
    return GoldenRow(
        members["inputs"], members["outputs"], _tolerance(members, "rtol", RTOL), _tolerance(members, "atol", ATOL)
    )


def _document(members: Any) -> list[GoldenRow]:
    if isinstance(members, list):
        return [_row(each) for each in members]
    if not isinstance(members, dict) or not {"inputs", "outputs"} <= members.keys() <= _MEMBERS:
        raise ValueError('it must be {"inputs": ..., "outputs": {...}}, or a list of such rows')
    outputs = _columns(members["outputs"], "outputs")
    inputs = members["inputs"]
    rows = inputs if isinstance(inputs, list) else _columns(inputs, "inputs")
    if len(rows) != len(outputs):
        raise ValueError(f"there are {len(rows)} rows of inputs and {len(outputs)} of outputs")
    rtol, atol = _tolerance(members, "rtol", RTOL), _tolerance(members, "atol", ATOL)
    return [GoldenRow(row, output, rtol, atol) for row, output in zip(rows, outputs, strict=True)]


def _columns(columns: Any, what: str) -> list[dict[str, Any]]:
    if not isinstance(columns, dict) or not all(isinstance(column, list) for column in columns.values()):
        raise ValueError(f"{what} must be an object with a list of rows for each")
    if len({len(column) for column in columns.values()}) != 1:
        raise ValueError(f"{what} must have as many rows of each")
    return [dict(zip(columns, row, strict=True)) for row in zip(*columns.values(), strict=True)]


def _tolerance(members: Mapping[str, Any], name: str, default: float) -> float:
    value = members.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ValueError(f"{name} must be a number of 0 or more")
    return float(value)


# --- asking and comparing ---------------------------------------------------------------------------------------------


def check_golden(target: Target, golden: GoldenRows) -> Iterator[Check]:
    """Ask for all rows, and compare: a check for each output, and one for rows that are refused."""
    pixels = _pixels(target)
    rows = [_as_sent(row.inputs, pixels) for row in golden.rows]
    unknown = {name for row in golden.rows for name in row.outputs} - {spec.name for spec in target.outputs}
    if unknown:
        known = ", ".join(spec.name for spec in target.outputs)
        yield failed(GROUP, golden.name, f"it has outputs {', '.join(sorted(unknown))}, and the model has {known}")
        return
    answers = target.client.predict_batch(target.name, rows, version=target.version, encoding="json")
    if answers.errors:
        first = min(answers.errors)
        text = f"{len(answers.errors)} of {len(rows)} rows are refused; row {first}: {answers.errors[first].detail}"
        yield failed(GROUP, golden.name, f"{text}\n  {to_repeat(target, _named(target, rows[first]))}")
    for spec in target.outputs:
        expected = {at: row for at, row in enumerate(golden.rows) if spec.name in row.outputs}
        if expected:
            got = {at: answers[at][spec.name] for at in expected if at not in answers.errors}
            yield _compared(golden.name, spec, expected, got)


def _named(target: Target, row: Any) -> Mapping[str, Any]:
    return row if isinstance(row, dict) else {target.inputs[0].name: row}


def _compared(name: str, spec: TensorSpec, expected: Mapping[int, GoldenRow], got: Mapping[int, Any]) -> Check:
    title = f"{name}: {spec.name}"
    off: dict[int, tuple[float, str]] = {}
    for at, value in got.items():
        excess, text = _difference(expected[at], expected[at].outputs[spec.name], value, spec)
        if excess > 1:
            off[at] = (excess, text)
    count = len(got)
    if not off and count == len(expected):
        return passed(GROUP, title, f"{count} rows", {"rows": count, "differing": 0})
    if not off:
        return failed(GROUP, title, f"only {count} of {len(expected)} rows could be compared", {"rows": count})
    worst = max(off, key=lambda at: off[at][0])
    text = f"{len(off)} of {count} rows differ; the worst is row {worst}, {off[worst][1]}"
    return failed(GROUP, title, text, {"rows": count, "differing": len(off)})


def _difference(row: GoldenRow, expected: Any, got: Any, spec: TensorSpec) -> tuple[float, str]:
    """Return how far off an output is as a multiple of what is allowed, and in words."""
    shapes = shape_of(expected), shape_of(got)
    if shapes[0] != shapes[1]:
        return math.inf, f"expected the shape {shapes[0]}, got {shapes[1]}"
    items = list(flat(expected)), list(flat(got))
    if not spec.dtype.startswith("float"):
        for at, (one, other) in enumerate(zip(*items, strict=True)):
            if one != other or isinstance(one, bool) != isinstance(other, bool):
                return math.inf, f"{_place(at, shapes[0])}expected {one!r}, got {other!r}"
        return 0.0, ""
    try:
        a, b = (np.array([_SPECIAL.get(item, item) for item in each], np.float64) for each in items)
    except (TypeError, ValueError):
        return math.inf, f"expected {expected!r}, which are no numbers"
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        distance = np.abs(a - b)
        allowed = row.atol + row.rtol * np.abs(a)
        same = (a == b) | (np.isnan(a) & np.isnan(b))
        excess = np.where(same, 0.0, np.where(distance <= allowed, 0.5, distance / allowed))
    excess = np.where(np.isnan(excess), np.inf, excess)
    at = int(np.argmax(excess)) if len(excess) else 0
    if not len(excess) or excess[at] <= 1:
        return 0.0, ""
    words = f"{_place(at, shapes[0])}expected {a[at]:.9g}, got {b[at]:.9g}: off by {distance[at]:.3g}"
    return float(excess[at]), f"{words}, and {allowed[at]:.3g} is allowed"


def _place(at: int, shape: tuple[int, ...] | None) -> str:
    if not shape:
        return ""
    return f"[{', '.join(str(int(index)) for index in np.unravel_index(at, shape))}]: "


def _pixels(target: Target) -> dict[str, str]:
    """Return the fields that are pictures, of which golden rows have the pixels, with their types."""
    if target.record is None:
        return {}
    types = {spec.name: spec.dtype for spec in target.inputs}
    return {
        name: types.get(name, "uint8")
        for name, schema in target.record.get("properties", {}).items()
        if "contentMediaType" in json.dumps(schema)
    }


def _as_sent(row: Any, pixels: Mapping[str, str]) -> Any:
    if not isinstance(row, dict):
        return row
    return {
        name: {"base64": base64.b64encode(np.asarray(value, pixels[name]).tobytes()).decode()}
        if name in pixels and isinstance(value, list) and pixels[name] not in TEXTS
        else value
        for name, value in row.items()
    }
