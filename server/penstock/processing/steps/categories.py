"""Steps for categories and hashed strings."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from penstock.core.errors import ModelLoadError
from penstock.core.written_file import WrittenFile, shown
from penstock.processing.record import Category, place_of
from penstock.processing.steps.step import Column, Steps, UnlearnedError, given, number_of

__all__ = ["Encode", "Hash"]


@dataclass(frozen=True, slots=True)
class Encode:
    """A number for each category, or a column.

    The number is its place ("ordinal"), how often it came ("frequency"), the mean of the target with it ("target"), or
    the place of its column among `width` of them ("one-hot"; -1 means none). `missing` and `unknown` are the numbers of
    what is missing and of what is in no list.
    """

    KINDS: ClassVar = ("one-hot", "ordinal", "frequency", "target")

    kind: str
    numbers: tuple[tuple[Category, float], ...] = ()
    missing: float | None = None
    unknown: float | None = None
    width: int = 0

    @classmethod
    def read(cls, reading: WrittenFile, members: Mapping[str, Any], where: str) -> Encode:
        allowed = ("numbers", "missing", "unknown", "width")
        reading.members(members, where, needed=("encode",), allowed=allowed)
        kind = reading.choice(members["encode"], f"{where}.encode", cls.KINDS)
        numbers: list[tuple[Category, float]] = []
        pairs = reading.items(members.get("numbers", []), f"{where}.numbers", "pairs of a category and its number")
        for place, pair in enumerate(pairs):
            at = f"{where}.numbers[{place}]"
            items = reading.items(pair, at, "a category and its number")
            if len(items) != 2 or not isinstance(items[0], str | bool | int | float):
                raise reading.error(at, "must be two: a string, a number or a bool, and its number")
            if place_of([category for category, _ in numbers], items[0]) is not None:
                raise reading.error(at, f"has the category {shown(items[0])} for the second time")
            numbers.append((items[0], reading.number(items[1], at)))
        width = reading.whole(members.get("width", 0), f"{where}.width")
        missing, unknown = (number_of(reading, members, name, where) for name in ("missing", "unknown"))
        if kind == "one-hot" and numbers:
            _check_places(reading, [*(number for _, number in numbers), missing, unknown], width, where)
        return cls(kind, tuple(numbers), missing, unknown, width)

    def members(self) -> dict[str, Any]:
        members: dict[str, Any] = {"encode": self.kind, "numbers": [list(pair) for pair in self.numbers]}
        return given(
            members | {"missing": self.missing, "unknown": self.unknown, "width": self.width or None},
        )

    def emit(self, steps: Steps, column: Column) -> list[Column]:
        if not self.numbers:
            raise UnlearnedError(
                f"encode of {column.name!r} has no 'numbers': learn them with penstock fit, or give them"
            )
        nowhere = -1.0 if self.kind == "one-hot" else math.nan
        missing = nowhere if self.missing is None else self.missing
        unknown = nowhere if self.unknown is None else self.unknown
        codes = column
        if column.categories is None:
            codes = _places(steps, column, self.numbers)
        # 1 and true are equal in Python, and two categories.
        assert codes.categories is not None
        for category, _ in self.numbers:
            if place_of(codes.categories, category) is None:
                some = _some(codes.categories)
                raise ModelLoadError(f"encode of {column.name!r}: {category!r} is none of its categories, {some}")
        known = {(isinstance(category, bool), category): number for category, number in self.numbers}
        table = [known.get((isinstance(category, bool), category), unknown) for category in codes.categories]
        encoded = steps.make(codes, "lookup", table=[*table, missing, unknown])
        if self.kind != "one-hot":
            return [replace(encoded, name=column.name)]
        return [replace(encoded, name=column.name, width=self.width, labels=self._labels(column.name))]

    def with_missing(self) -> Encode:
        """Return a one-hot encoding with a column for what is missing, behind the others, unless it has one."""
        if self.kind != "one-hot" or self.missing is not None:
            return self
        return replace(self, missing=float(self.width), width=self.width + 1)

    def _labels(self, name: str) -> tuple[str, ...]:
        """Name the columns by the categories that go into them."""
        labels: list[list[str]] = [[] for _ in range(self.width)]
        for category, place in self.numbers:
            if 0 <= place < self.width:
                labels[int(place)].append(str(category))
        if self.missing is not None and 0 <= self.missing < self.width:
            labels[int(self.missing)].append("missing")
        return tuple(f"{name}={'|'.join(of) or 'other'}" for of in labels)


def _check_places(reading: WrittenFile, places: Sequence[float | None], width: int, where: str) -> None:
    if not width:
        raise reading.error(where, "has no member 'width', the number of columns")
    for place in places:
        if place is not None and (place != math.floor(place) or not -1 <= place < width):
            raise reading.error(
                where, f"has the column {place:g}: they are from 0 to {width - 1}, as width says, or -1 for none"
            )


def _some(categories: Sequence[Category]) -> str:
    names = [repr(category) for category in categories[:10]]
    return ", ".join(names) + (" ..." if len(categories) > len(names) else "")


def _places(steps: Steps, column: Column, numbers: Sequence[tuple[Category, float]]) -> Column:
    """Turn numbers that are categories into places in their list."""
    values = sorted(float(value) for value, _ in numbers if not isinstance(value, str))
    if len(values) != len(numbers):
        raise ModelLoadError(f"encode of {column.name!r}: it is a number, and its categories are not")
    return replace(steps.make(column, "place", table=values), categories=tuple(values))


@dataclass(frozen=True, slots=True)
class Hash:
    """A bucket of `buckets` for a hashed string, one column for each with `one_hot`."""

    buckets: int
    one_hot: bool = False

    @classmethod
    def read(cls, reading: WrittenFile, members: Mapping[str, Any], where: str) -> Hash:
        reading.members(members, where, needed=("hash",), allowed=("one-hot",))
        one_hot = reading.flag(members.get("one-hot", False), f"{where}.one-hot")
        return cls(reading.whole(members["hash"], f"{where}.hash", least=1), one_hot)

    def members(self) -> dict[str, Any]:
        return given({"hash": self.buckets, "one-hot": self.one_hot})

    def emit(self, steps: Steps, column: Column) -> list[Column]:
        bucket = steps.make(column, "modulo", float(self.buckets))
        if not self.one_hot:
            return [bucket]
        labels = tuple(f"{column.name}#{place}" for place in range(self.buckets))
        return [replace(bucket, width=self.buckets, labels=labels)]
