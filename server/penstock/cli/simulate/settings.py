"""What `penstock simulate` is told about models: by flags or in TOML, checked."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from itertools import pairwise
from pathlib import Path

from penstock.cli.simulate.curve import curve_of, interpolated, read_curve
from penstock.core.errors import ConfigError

__all__ = ["KNOTS", "SimulatedSettings", "checked", "read_models"]

KNOTS = tuple(1 << k for k in range(13))
ARRIVALS = ("poisson", "bursty", "gamma")
# The virtual clock counts nanoseconds in 64 bits: beyond these, a run would not fit.
RATE_MIN = 0.01
RATE_MAX = 1e9
TIME_MAX = 1e7


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
    file: str | None = None

    def place(self, key: str) -> str:
        """Say where a setting was given: the flag, or the table of the file."""
        if self.file is None:
            return f"--{key.replace('_', '-')}"
        return f"{self.file}: models.{self.name}.{key}"


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


def _unknown(keys: Iterable[str], known: Iterable[str]) -> str:
    names = ", ".join(repr(key) for key in sorted(keys))
    return f"unknown setting {names}; known are {', '.join(sorted(known))}"


def _from_table(path: Path, name: str, table: object) -> SimulatedSettings:
    known = {field.name for field in fields(SimulatedSettings)} - {"name", "file"}
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: models.{name} = {table!r}: expected a table [models.{name}]")
    if not known.issuperset(table):
        raise ConfigError(f"{path}: models.{name}: {_unknown(set(table) - known, known)}")
    curve = table.pop("curve", None)
    if isinstance(curve, str):
        curve = read_curve(curve)
    elif isinstance(curve, dict):
        curve = curve_of(f"{path}: models.{name}.curve", curve.items())
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
    return SimulatedSettings(name=name, file=str(path), curve=curve, **table)


def checked(model: SimulatedSettings) -> SimulatedSettings:
    """Refuse what cannot be simulated, and give the curve at every knot."""
    _check_cost(model)
    _check_traffic(model)
    place = model.place
    if not 1 <= model.max_batch_size <= KNOTS[-1]:
        raise ConfigError(f"{place('max_batch_size')} is from 1 to {KNOTS[-1]}, not {model.max_batch_size}")
    sizes = list(model.batch_sizes)
    if sizes != sorted(set(sizes)) or any(not 1 <= size <= model.max_batch_size for size in sizes):
        raise ConfigError(f"{place('batch_sizes')} ascend from 1 to max_batch_size, {model.max_batch_size}")
    return replace(model, curve=_rising(model))


def _check_cost(model: SimulatedSettings) -> None:
    place = model.place
    affine = model.fixed_ms is not None or model.per_row_us is not None
    if affine == (model.curve is not None):
        raise ConfigError(
            f"say what batches cost by {place('fixed_ms')} and {place('per_row_us')}, "
            f"or by {place('curve')}, and by one only"
        )
    for key, value in (("fixed_ms", model.fixed_ms), ("per_row_us", model.per_row_us)):
        # Not a number fails every comparison: what is wanted is asked, and not its contrary.
        if value is not None and not 0 <= value <= TIME_MAX:
            raise ConfigError(f"{place(key)} is from 0 to {TIME_MAX:g}, not {value:g}")
    if affine and not (model.fixed_ms or model.per_row_us):
        raise ConfigError(f"a batch takes time: {place('fixed_ms')} and {place('per_row_us')} are not both 0")


def _check_traffic(model: SimulatedSettings) -> None:
    place = model.place
    if model.rate == 0:
        raise ConfigError(f"{place('rate')} is missing or 0: say how many rows arrive per second")
    if not RATE_MIN <= model.rate <= RATE_MAX:
        raise ConfigError(f"{place('rate')} is from {RATE_MIN:g} to {RATE_MAX:g} rows per second, not {model.rate:g}")
    if model.slo_ms is not None and not 0 < model.slo_ms <= TIME_MAX:
        raise ConfigError(f"{place('slo_ms')} is above 0 and at most {TIME_MAX:g}, not {model.slo_ms:g}")
    if not 0 <= model.max_queue_delay_us <= TIME_MAX:
        raise ConfigError(f"{place('max_queue_delay_us')} is from 0 to {TIME_MAX:g}, not {model.max_queue_delay_us:g}")
    if model.arrivals not in ARRIVALS:
        raise ConfigError(f"{place('arrivals')} is one of {', '.join(ARRIVALS)}, not {model.arrivals!r}")
    if model.arrivals == "bursty" and model.slo_ms is None:
        raise ConfigError(f"{place('arrivals')}: bursts last for ten limits: give {place('slo_ms')} too")


def _rising(model: SimulatedSettings) -> Mapping[int, float]:
    """Milliseconds at every knot: on the line between the points, or through the nearest two."""
    if model.curve is None:
        return {rows: (model.fixed_ms or 0.0) + (model.per_row_us or 0.0) * rows / 1000 for rows in KNOTS}
    points = sorted(model.curve.items())
    place = model.place("curve")
    if not points or points[0][0] < 1 or any(not 0 < ms <= TIME_MAX for _, ms in points):
        raise ConfigError(f"{place} has points of at least one row, of more than 0 and at most {TIME_MAX:g} ms")
    if any(later < earlier for (_, earlier), (_, later) in pairwise(points)):
        raise ConfigError(f"{place} does not decrease: more rows take no less time")
    return {rows: interpolated(points, rows) for rows in KNOTS}
