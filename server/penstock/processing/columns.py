"""Features as columns of a program: from the fields of a record through their steps."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from penstock.core.errors import ModelLoadError
from penstock.processing.plan import Feature
from penstock.processing.record import FieldKind, Record
from penstock.processing.steps.step import Column, Steps
from penstock.processing.steps.texts import Words

__all__ = ["count_elements", "given_columns", "steps_of"]

_OPERATIONS = {"ratio": "divide", "difference": "subtract", "product": "multiply", "sum": "add"}


def steps_of(
    file: Path, features: Sequence[Feature], given: Mapping[str, list[Column]], steps: Steps
) -> dict[str, list[Column]]:
    """Add the steps of features and return the columns of each, by name; ModelLoadError, UnlearnedError."""
    made: dict[str, list[Column]] = {}
    for feature in features:
        if feature.name in given and (feature.combination or feature.sources[0] != feature.name):
            raise ModelLoadError(f"{file}: feature {feature.name!r} has the name of a field: give it another name")
        # A feature may have the name of the field it is made of. Who asks for that name means the field.
        made[feature.name] = _columns_of(file, feature, {**made, **given}, steps)
    return made


def count_elements(record: Record) -> int:
    """Return how many columns a record has before any step."""
    tensors = (field for field in record.tensors if field.kind is FieldKind.TENSOR)
    return len(record.slots) + sum(math.prod(field.shape) for field in tensors)


def given_columns(record: Record) -> dict[str, list[Column]]:
    """Return the columns that a record has before any step, by the name of the field."""
    columns = {}
    for slot, field in enumerate(record.slots):
        categories = field.categories if field.kind is FieldKind.CATEGORY else None
        if field.kind is FieldKind.BOOLEAN:
            categories = (False, True)
        columns[field.name] = [Column(slot, field.name, categories)]
    first = len(record.slots)
    for number, field in enumerate(record.tensors, start=1 if record.slots else 0):
        if field.kind is FieldKind.TEXT:
            columns[field.name] = [Column(0, field.name, source=number)]
        if field.kind is not FieldKind.TENSOR:
            continue
        size = math.prod(field.shape)
        columns[field.name] = [Column(first + place, f"{field.name}[{place}]") for place in range(size)]
        first += size
    return columns


def _columns_of(file: Path, feature: Feature, known: Mapping[str, list[Column]], steps: Steps) -> list[Column]:
    for name in feature.sources:
        if name not in known:
            raise ModelLoadError(
                f"{file}: feature {feature.name!r} is made of {name!r}, which is no field with a number or category, "
                f"and no feature before it: {', '.join([*known][:40])}"
            )
    if feature.combination:
        left, right = (known[name] for name in feature.sources)
        columns = [_combined(file, feature, left, right, steps)]
    else:
        columns = [
            replace(column, name=feature.name) if len(known[feature.sources[0]]) == 1 else column
            for column in known[feature.sources[0]]
        ]
    for step in feature.steps:
        for column in columns:
            if column.width:
                raise ModelLoadError(
                    f"{file}: feature {feature.name!r}: one-hot columns and words can be no step's input"
                )
            if isinstance(step, Words) is (column.source is None):
                raise ModelLoadError(f"{file}: feature {feature.name!r}: words, and nothing else, is a step for text")
        columns = [result for column in columns for result in step.emit(steps, column)]
    return columns


def _combined(file: Path, feature: Feature, left: list[Column], right: list[Column], steps: Steps) -> Column:
    if any(len(side) != 1 or side[0].width or side[0].source is not None for side in (left, right)):
        raise ModelLoadError(
            f"{file}: feature {feature.name!r} combines columns, one and one: {feature.sources} are more"
        )
    return Column(steps.add(_OPERATIONS[feature.combination], left[0].x, right[0].x), feature.name)
