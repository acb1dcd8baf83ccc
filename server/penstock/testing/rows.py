"""Rows to try a model with: made from its schema, those that it must answer and those that must be refused."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Protocol, TypeAlias

from penstock.load.records import random_records
from penstock.load.rows import random_rows
from penstock.testing.record_edges import RecordEdges
from penstock.testing.target import Target
from penstock.testing.tensor_edges import TensorEdges

__all__ = ["Example", "Kind", "PlainRow", "examples_of"]

# A row as plain values, which is what JSON has.
PlainRow: TypeAlias = dict[str, Any]

# Beyond so many numbers in all rows together fewer are made: they are sent as text.
_ELEMENTS_MAX = 2_000_000


class Kind(StrEnum):
    """What is expected of a row."""

    VALID = "valid"  # answered, with finite numbers
    EXTREME = "extreme"  # allowed by the types, and nothing in the schema forbids it: answered with anything
    INVALID = "invalid"  # refused as 4xx


@dataclass(frozen=True, slots=True)
class Example:
    """A row, what is expected of it, and what is special about it."""

    number: int
    kind: Kind
    row: PlainRow
    about: str


class Edges(Protocol):
    """What is special in rows of a model: each a change to an ordinary row."""

    def of(self, kind: Kind) -> Sequence[tuple[str, str, Any]]:
        """Return changes: the name of an input or field, what is special about it, its value; ABSENT takes it away."""


def examples_of(target: Target, count: int, seed: int) -> list[Example]:
    """Make about `count` rows of each kind, the same for the same seed.

    A row has one thing that is special about it; of valid ones some have several, and some nothing. If there are more
    special things than rows, chance decides which are tried.
    """
    generator = random.Random(seed)
    ordinary = _ordinary(target, count, seed)
    edges: Edges = TensorEdges(target.inputs, seed) if target.record is None else RecordEdges(target.record)
    found: list[Example] = []
    for kind in Kind:
        changes = list(edges.of(kind))
        chosen = changes if len(changes) <= count else generator.sample(changes, count)
        for place, (name, about, value) in enumerate(chosen):
            row = _changed(ordinary[place % len(ordinary)], name, value)
            found.append(Example(len(found), kind, row, about))
        if kind is Kind.VALID:
            for row in ordinary[: max(1, count - len(chosen))]:
                several = row
                for name, _, value in generator.sample(changes, min(len(changes), 3)):
                    several = _changed(several, name, value)
                if len(found) % 2:
                    found.append(Example(len(found), kind, several, "several at once"))
                else:
                    found.append(Example(len(found), kind, row, "an ordinary row"))
    return found


def _ordinary(target: Target, count: int, seed: int) -> list[PlainRow]:
    if target.record is not None:
        drawn = random_records(target.record, max(1, count), seed)
    else:
        elements = sum(max(1, _size(spec.shape)) for spec in target.inputs)
        drawn = random_rows(target.inputs, max(1, min(count, _ELEMENTS_MAX // elements)), seed)
    return [{name: array.tolist() for name, array in row.items()} for row in drawn]


def _size(shape: tuple[int, ...]) -> int:
    size = 1
    for extent in shape:
        size *= extent
    return size


def _changed(row: PlainRow, name: str, value: Any) -> PlainRow:
    """Return the row with a value in place of what it has; a function makes it of that."""
    from penstock.testing.edges import ABSENT

    made = value(row.get(name)) if callable(value) else value
    if made is ABSENT:
        # By its path or as an object: of "address" go all of its fields.
        return {each: item for each, item in row.items() if each != name and not each.startswith(f"{name}.")}
    return {**row, name: made}
