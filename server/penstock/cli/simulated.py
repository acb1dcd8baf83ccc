"""What `penstock simulate` is told about models: by flags or in TOML, checked."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from penstock.core.errors import ConfigError

__all__ = ["KNOTS", "SimulatedSettings", "checked", "read_curve", "read_models"]

KNOTS = tuple(1 << k for k in range(13))
ARRIVALS = ("poisson", "bursty", "gamma")


@dataclass(frozen=True, slots=True)
class SimulatedSettings:
    """One model: what its batches cost, what comes, and by when it has to be answered."""

    name: str = "model"
    rate: float = 0.0
    slo_ms: float | None = None
    fixed_ms: float | None = None
    per_row_us: float | None = None
    curve: Mapping[int, float] | None = None
    arrivals: str = "poisson"
    max_batch_size: int = 64
    max_queue_delay_us: float = 0.0
    weight: int = 100
    batch_sizes: Sequence[int] = ()


def read_models(path: Path, alone: SimulatedSettings) -> list[SimulatedSettings]:
    """Read the models of a TOML file: a table `[models.NAME]` for each. `alone`: what the flags said of one model."""
    if alone != SimulatedSettings():
        raise ConfigError("--models says all about the models: give no flags about one model beside it")
    try:
        document = tomllib.loads(path.read_text())
    except OSError as error:
        raise ConfigError(f"{path} cannot be read: {error.strerror}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path} is not TOML: {error}") from error
    tables = document.pop("models", None)
    if document or not isinstance(tables, dict) or not tables:
        raise ConfigError(f"{path} must have a table [models.NAME] for each model and nothing else")
    return [_from_table(path, name, table) for name, table in tables.items()]


def read_curve(text: str) -> Mapping[int, float]:
    """Read milliseconds by rows: `1:0.5,64:3.2`, or a JSON file with an object {"1": 0.5, "64": 3.2}."""
    if ":" in text:
        pairs = [point.partition(":")[::2] for point in text.split(",")]
    else:
        try:
            pairs = list(json.loads(Path(text).read_text()).items())
        except OSError as error:
            raise ConfigError(f"the curve {text} cannot be read: {error.strerror}") from error
        except (ValueError, AttributeError) as error:
            raise ConfigError(f'the curve {text} is not a JSON object like {{"1": 0.5, "64": 3.2}}') from error
    return _curve_of(f"the curve {text!r}", pairs)


def _curve_of(place: str, pairs: Iterable[Sequence[Any]]) -> Mapping[int, float]:
    try:
        return {int(rows): float(ms) for rows, ms in pairs}
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{place} is not made of ROWS:MS: whole rows and milliseconds") from error


def _from_table(path: Path, name: str, table: object) -> SimulatedSettings:
    known = {field.name for field in fields(SimulatedSettings)} - {"name"}
    if not isinstance(table, dict) or not known.issuperset(table):
        unknown = ", ".join(sorted(set(table) - known)) if isinstance(table, dict) else "no table"
        raise ConfigError(f"{path}: models.{name}: {unknown}; known are {', '.join(sorted(known))}")
    curve = table.pop("curve", None)
    if isinstance(curve, str):
        curve = read_curve(curve)
    elif isinstance(curve, dict):
        curve = _curve_of(f"{path}: models.{name}.curve", curve.items())
    elif curve is not None:
        raise ConfigError(f"{path}: models.{name}.curve = {curve!r}: expected a table or text")
    numbers = known - {"curve", "arrivals", "batch_sizes"}
    for key in numbers & table.keys():
        if isinstance(table[key], bool) or not isinstance(table[key], int | float):
            raise ConfigError(f"{path}: models.{name}.{key} = {table[key]!r}: expected a number")
    sizes = table.get("batch_sizes", [])
    if not isinstance(sizes, list) or not all(type(size) is int for size in sizes):
        raise ConfigError(f"{path}: models.{name}.batch_sizes = {sizes!r}: expected a list of whole numbers")
    for key in ("max_batch_size", "weight"):
        if type(table.get(key, 1)) is not int or table.get(key, 1) < 1:
            raise ConfigError(f"{path}: models.{name}.{key} = {table[key]!r}: expected a whole number above 0")
    return SimulatedSettings(name=name, curve=curve, **table)


def checked(model: SimulatedSettings) -> SimulatedSettings:
    """Refuse what cannot be simulated, and give the curve at every knot."""
    affine = model.fixed_ms is not None or model.per_row_us is not None
    if affine == (model.curve is not None):
        raise ConfigError(
            f"{model.name}: say what batches cost by fixed_ms and per_row_us, or by a curve, and by one only"
        )
    if (
        (model.fixed_ms or 0) < 0
        or (model.per_row_us or 0) < 0
        or (affine and not (model.fixed_ms or model.per_row_us))
    ):
        raise ConfigError(f"{model.name}: a batch takes time: fixed_ms and per_row_us are not negative and not both 0")
    if not model.rate > 0:
        raise ConfigError(f"{model.name}: the rate must be above 0 rows per second, not {model.rate:g}")
    if model.slo_ms is not None and not model.slo_ms > 0:
        raise ConfigError(f"{model.name}: slo_ms must be above 0, not {model.slo_ms:g}")
    if model.arrivals not in ARRIVALS:
        raise ConfigError(f"{model.name}: arrivals are {', '.join(ARRIVALS)}, not {model.arrivals!r}")
    if model.arrivals == "bursty" and model.slo_ms is None:
        raise ConfigError(f"{model.name}: bursts last for ten limits: give slo_ms too")
    if not 1 <= model.max_batch_size <= KNOTS[-1]:
        raise ConfigError(f"{model.name}: max_batch_size is from 1 to {KNOTS[-1]}, not {model.max_batch_size}")
    sizes = list(model.batch_sizes)
    if sizes != sorted(set(sizes)) or any(not 1 <= size <= model.max_batch_size for size in sizes):
        raise ConfigError(f"{model.name}: batch_sizes ascend from 1 to max_batch_size, {model.max_batch_size}")
    return replace(model, curve=_rising(model))


def _rising(model: SimulatedSettings) -> Mapping[int, float]:
    """Milliseconds at every knot: on the line between the points, or through the nearest two."""
    if model.curve is None:
        return {rows: (model.fixed_ms or 0.0) + (model.per_row_us or 0.0) * rows / 1000 for rows in KNOTS}
    points = sorted(model.curve.items())
    if not points or points[0][0] < 1 or any(not ms > 0 for _, ms in points):
        raise ConfigError(f"{model.name}: a curve has points of at least one row and more than 0 ms")
    if any(later < earlier for (_, earlier), (_, later) in pairwise(points)):
        raise ConfigError(f"{model.name}: a curve does not decrease: more rows take no less time")
    return {rows: _interpolated(points, rows) for rows in KNOTS}


def _interpolated(points: Sequence[tuple[int, float]], rows: int) -> float:
    if len(points) == 1:
        # Half of it fixed, as the engine assumes until it has seen a second size.
        return points[0][1] * (1 + rows / points[0][0]) / 2
    above = next((i for i in range(1, len(points)) if points[i][0] >= rows), len(points) - 1)
    (x0, y0), (x1, y1) = points[above - 1], points[above]
    return max(y0 + (y1 - y0) * (rows - x0) / (x1 - x0), points[0][1] / points[0][0])
