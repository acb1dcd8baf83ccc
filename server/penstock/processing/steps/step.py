"""What a step of a feature is, and the columns and native steps that it works with."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Protocol, TypeAlias

from penstock.core.errors import ModelLoadError
from penstock.core.written_file import WrittenFile
from penstock.processing.record import Category

if TYPE_CHECKING:
    from penstock.processing.steps.texts import Words

__all__ = [
    "RESERVED",
    "Column",
    "NativeStep",
    "Step",
    "Steps",
    "UnlearnedError",
    "given",
    "needed",
    "number_of",
    "numbers_of",
]

# kind, x, y, a, b, table: see kernels/steps.hpp.
NativeStep: TypeAlias = tuple[str, int, int, float, float, list[float]]


# In place of a column: somebody else than the program fills these.
RESERVED = 0xFFFFFFFF


class UnlearnedError(ModelLoadError):
    """A number of a step is missing that its data would tell."""


@dataclass(frozen=True, slots=True)
class Column:
    """A column of a program: its number there and what it is called.

    `categories`, when they are known, are what its codes stand for. With a width it is a place that is spread over so
    many columns, `labels` their names. A text has the number of its source instead of a column, and once its words are
    counted `words` says how: then RESERVED columns are theirs.
    """

    x: int
    name: str
    categories: tuple[Category, ...] | None = None
    width: int = 0
    labels: tuple[str, ...] = ()
    source: int | None = None
    words: Words | None = None


class Steps:
    """The native steps of a program in the making, behind so many elements of its sources."""

    def __init__(self, elements: int) -> None:
        self._elements = elements
        self.native: list[NativeStep] = []

    def add(self, kind: str, x: int, y: int = 0, a: float = 0.0, b: float = 0.0, table: Sequence[float] = ()) -> int:
        """Add one; the number of the column it makes."""
        self.native.append((kind, x, y, a, b, list(table)))
        return self._elements + len(self.native) - 1

    def make(self, column: Column, kind: str, a: float = 0.0, b: float = 0.0, table: Sequence[float] = ()) -> Column:
        """Add one to a column; the number it makes is no code any more."""
        return replace(column, x=self.add(kind, column.x, 0, a, b, table), categories=None)


class Step(Protocol):
    """One step of a feature."""

    @classmethod
    def read(cls, reading: WrittenFile, members: Mapping[str, Any], where: str) -> Step:
        """Read its members; ModelLoadError."""

    def members(self) -> dict[str, Any]:
        """Return what read() takes."""

    def emit(self, steps: Steps, column: Column) -> list[Column]:
        """Add what it does to a column and return what became of it; UnlearnedError when a number is missing."""


def needed(value: float | None, step: str, name: str) -> float:
    """Return a number that a step cannot do without; UnlearnedError when there is none."""
    if value is None:
        raise UnlearnedError(f"{step} has no {name!r}: learn it with penstock fit, or give it")
    return value


def given(members: dict[str, Any]) -> dict[str, Any]:
    """Leave out what is not there, empty or false."""
    return {name: value for name, value in members.items() if value is not None and value != [] and value is not False}


def number_of(reading: WrittenFile, members: Mapping[str, Any], name: str, where: str) -> float | None:
    """Return a member that is a number, or None without it."""
    return reading.number(members[name], f"{where}.{name}") if name in members else None


def numbers_of(reading: WrittenFile, value: object, where: str) -> tuple[float, ...]:
    """Return a list of numbers."""
    items = reading.items(value, where, "numbers")
    return tuple(reading.number(item, f"{where}[{place}]") for place, item in enumerate(items))
