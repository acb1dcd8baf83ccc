"""Steps for numbers."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from penstock.core.errors import ModelLoadError
from penstock.core.written_file import WrittenFile
from penstock.processing.record import Category, place_of
from penstock.processing.steps.step import Column, Steps, UnlearnedError, given, needed, number_of, numbers_of

__all__ = ["Bin", "Clip", "Impute", "Log", "Missing", "Power", "Scale"]


@dataclass(frozen=True, slots=True)
class Impute:
    """Put a value where one is missing. With `indicator` another column says where: 1, else 0."""

    STRATEGIES: ClassVar = ("mean", "median", "most-frequent", "constant")

    strategy: str
    value: Category | None = None
    indicator: bool = False

    @classmethod
    def read(cls, reading: WrittenFile, members: Mapping[str, Any], where: str) -> Impute:
        reading.members(members, where, needed=("impute",), allowed=("value", "indicator"))
        strategy = reading.choice(members["impute"], f"{where}.impute", cls.STRATEGIES)
        value = members.get("value")
        if value is not None and not isinstance(value, str | bool):
            value = reading.number(value, f"{where}.value")
        if strategy == "constant" and value is None:
            raise reading.error(where, "has no member 'value', the constant")
        return cls(strategy, value, reading.flag(members.get("indicator", False), f"{where}.indicator"))

    def members(self) -> dict[str, Any]:
        # A value may be false, which is not the same as none.
        value = {} if self.value is None else {"value": self.value}
        return {"impute": self.strategy, **value} | ({"indicator": True} if self.indicator else {})

    def emit(self, steps: Steps, column: Column) -> list[Column]:
        value = self.value
        if value is None:
            raise UnlearnedError(f"impute of {column.name!r} has no 'value': learn it with penstock fit, or give it")
        if column.categories is not None:
            place = place_of(column.categories, value)
            if place is None:
                raise ModelLoadError(f"impute of {column.name!r}: {value!r} is none of its categories")
            value = place
        elif isinstance(value, str | bool):
            raise ModelLoadError(f"impute of {column.name!r}: {value!r} is no number")
        # What it fills keeps its codes.
        filled = replace(column, x=steps.add("fill", column.x, a=float(value)))
        if not self.indicator:
            return [filled]
        missing = Column(steps.add("is_missing", column.x), f"{column.name} missing")
        return [filled, missing]


@dataclass(frozen=True, slots=True)
class Missing:
    """1 where a value is missing, else 0."""

    @classmethod
    def read(cls, reading: WrittenFile, members: Mapping[str, Any], where: str) -> Missing:
        reading.members(members, where, needed=("missing",))
        if not reading.flag(members["missing"], f"{where}.missing"):
            raise reading.error(f"{where}.missing", "is false: leave the step out")
        return cls()

    def members(self) -> dict[str, Any]:
        return {"missing": True}

    def emit(self, steps: Steps, column: Column) -> list[Column]:
        return [steps.make(column, "is_missing")]


@dataclass(frozen=True, slots=True)
class Scale:
    """Subtract the center and divide by the width.

    They are mean and standard deviation ("standard"), median and distance of quartiles ("robust"), 0 and the largest
    absolute value ("max-abs"). "min-max" multiplies with the factor and adds the offset, which brings the least value
    to 0 and the greatest to 1.
    """

    KINDS: ClassVar = ("standard", "robust", "max-abs", "min-max")

    kind: str
    center: float | None = None
    width: float | None = None

    @classmethod
    def read(cls, reading: WrittenFile, members: Mapping[str, Any], where: str) -> Scale:
        kind = reading.choice(members["scale"], f"{where}.scale", cls.KINDS)
        first, second = cls._names(kind)
        reading.members(members, where, needed=("scale",), allowed=(first, second))
        center, width = number_of(reading, members, first, where), number_of(reading, members, second, where)
        if kind != "min-max" and width == 0:
            raise reading.error(f"{where}.{second}", "is 0: nothing can be divided by it")
        return cls(kind, center, width)

    @staticmethod
    def _names(kind: str) -> tuple[str, str]:
        return ("factor", "offset") if kind == "min-max" else ("center", "width")

    def members(self) -> dict[str, Any]:
        first, second = self._names(self.kind)
        return given({"scale": self.kind, first: self.center, second: self.width})

    def emit(self, steps: Steps, column: Column) -> list[Column]:
        first, second = self._names(self.kind)
        kind = "scale" if self.kind == "min-max" else "standardize"
        a = needed(self.center, f"scale of {column.name!r}", first)
        return [steps.make(column, kind, a, needed(self.width, f"scale of {column.name!r}", second))]


@dataclass(frozen=True, slots=True)
class Clip:
    """Keep a number within bounds, given or learned as quantiles."""

    low: float | None = None
    high: float | None = None
    quantiles: tuple[float, ...] = ()

    @classmethod
    def read(cls, reading: WrittenFile, members: Mapping[str, Any], where: str) -> Clip:
        reading.members(members, where, needed=("clip",), allowed=("low", "high"))
        kind = reading.choice(members["clip"], f"{where}.clip", ("bounds", "quantiles"))
        low, high = number_of(reading, members, "low", where), number_of(reading, members, "high", where)
        if low is not None and high is not None and low > high:
            raise reading.error(where, f"has low {low}, which is above high {high}")
        if kind == "bounds" and low is None and high is None:
            raise reading.error(where, "has neither 'low' nor 'high'")
        return cls(low, high, (0.01, 0.99) if kind == "quantiles" else ())

    def members(self) -> dict[str, Any]:
        return given({"clip": "quantiles" if self.quantiles else "bounds", "low": self.low, "high": self.high})

    def emit(self, steps: Steps, column: Column) -> list[Column]:
        if self.quantiles:
            needed(self.low, f"clip of {column.name!r}", "low")
        low = -math.inf if self.low is None else self.low
        return [steps.make(column, "clip", low, math.inf if self.high is None else self.high)]


@dataclass(frozen=True, slots=True)
class Log:
    """The natural logarithm of the number and an offset."""

    offset: float = 0.0

    @classmethod
    def read(cls, reading: WrittenFile, members: Mapping[str, Any], where: str) -> Log:
        reading.members(members, where, needed=("log",))
        return cls(reading.number(members["log"], f"{where}.log"))

    def members(self) -> dict[str, Any]:
        return {"log": self.offset}

    def emit(self, steps: Steps, column: Column) -> list[Column]:
        return [steps.make(column, "log", self.offset)]


@dataclass(frozen=True, slots=True)
class Power:
    """The power transforms of Yeo and Johnson, and of Box and Cox."""

    KINDS: ClassVar = ("yeo-johnson", "box-cox")

    kind: str
    exponent: float | None = None

    @classmethod
    def read(cls, reading: WrittenFile, members: Mapping[str, Any], where: str) -> Power:
        reading.members(members, where, needed=("power",), allowed=("lambda",))
        kind = reading.choice(members["power"], f"{where}.power", cls.KINDS)
        return cls(kind, number_of(reading, members, "lambda", where))

    def members(self) -> dict[str, Any]:
        return given({"power": self.kind, "lambda": self.exponent})

    def emit(self, steps: Steps, column: Column) -> list[Column]:
        exponent = needed(self.exponent, f"power of {column.name!r}", "lambda")
        return [steps.make(column, self.kind.replace("-", "_"), exponent)]


@dataclass(frozen=True, slots=True)
class Bin:
    """The number of the bin that a number is in. `edges` are those between bins; a number on one is above it."""

    KINDS: ClassVar = ("edges", "uniform", "quantile")

    kind: str
    bins: int = 0
    edges: tuple[float, ...] = ()

    @classmethod
    def read(cls, reading: WrittenFile, members: Mapping[str, Any], where: str) -> Bin:
        reading.members(members, where, needed=("bin",), allowed=("bins", "edges"))
        kind = reading.choice(members["bin"], f"{where}.bin", cls.KINDS)
        edges = numbers_of(reading, members.get("edges", []), f"{where}.edges")
        # scikit-learn has bins without a width where numbers are as good as constant: nothing is in them.
        if list(edges) != sorted(edges):
            raise reading.error(f"{where}.edges", "must ascend")
        bins = reading.whole(members.get("bins", len(edges) + 1), f"{where}.bins", least=1)
        if kind == "edges" and not edges:
            raise reading.error(where, "has no member 'edges'")
        if kind != "edges" and "bins" not in members:
            raise reading.error(where, "has no member 'bins', their number")
        return cls(kind, bins, edges)

    def members(self) -> dict[str, Any]:
        bins = None if self.kind == "edges" else self.bins
        return given({"bin": self.kind, "bins": bins, "edges": list(self.edges)})

    def emit(self, steps: Steps, column: Column) -> list[Column]:
        if not self.edges and self.bins > 1:
            raise UnlearnedError(f"bin of {column.name!r} has no 'edges': learn them with penstock fit, or give them")
        binned = steps.make(column, "bin", table=self.edges)
        return [replace(binned, categories=tuple(float(place) for place in range(len(self.edges) + 1)))]
