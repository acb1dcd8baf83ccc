"""From a plan to a native program that makes a model's inputs of records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeAlias

from penstock.core.errors import ModelLoadError
from penstock.processing.plan import Feature, Plan
from penstock.processing.record import FieldKind, Record
from penstock.processing.step import Column, NativeStep, Steps
from penstock.processing.text_steps import Words

__all__ = ["RECORD", "ModelInput", "Wiring", "given_columns", "sources_of", "steps_of", "wire"]

# The tensor of a record's slots in the ring. Other fields are tensors of their own name.
RECORD = "$record"

# name, dtype and shape of a row.
ModelInput: TypeAlias = tuple[str, str, tuple[int, ...]]
# dtype, columns, and where each column goes: x, at, width. See kernels/steps.hpp.
NativeMatrix: TypeAlias = tuple[str, int, list[tuple[int, int, int]]]

_MATRIX_DTYPES = ("float32", "float64", "int32", "int64")
_OPERATIONS = {"ratio": "divide", "difference": "subtract", "product": "multiply", "sum": "add"}


@dataclass(frozen=True, slots=True)
class CountedWords:
    """Columns of a matrix, from `at` on, that are the words of a source of strings."""

    matrix: int
    at: int
    source: int
    words: Words


@dataclass(frozen=True, slots=True)
class Wiring:
    """A model's inputs, each a matrix of the program or one of the record's tensors as it came.

    `inputs[i]` is (True, number of the matrix) or (False, number of the source) for input i of the model. `columns`
    names the columns of each matrix.
    """

    sources: tuple[ModelInput, ...]
    steps: tuple[NativeStep, ...]
    matrices: tuple[NativeMatrix, ...]
    inputs: tuple[tuple[bool, int], ...]
    columns: tuple[tuple[str, ...], ...]
    words: tuple[CountedWords, ...] = ()

    @property
    def numbers(self) -> tuple[tuple[str, int], ...]:
        """The sources of the program: dtype and elements. Strings are none."""
        return tuple((dtype, math.prod(shape)) for _, dtype, shape in self.sources if dtype != "bytes")


def sources_of(record: Record) -> tuple[ModelInput, ...]:
    """Return the tensors that a record is in the ring: its slots, then what is a tensor or a string by itself."""
    slots = ((RECORD, "float64", (len(record.slots),)),) if record.slots else ()
    return (*slots, *((field.name, field.dtype, field.shape) for field in record.tensors))


def wire(plan: Plan, model: Sequence[ModelInput]) -> Wiring:
    """Compile the record and features of a plan for a model with these inputs.

    ModelLoadError when something of it does not fit, UnlearnedError when a number is still to be learned.
    """
    record = plan.record
    assert record is not None
    sources = sources_of(record)
    elements = sum(math.prod(shape) for _, dtype, shape in sources if dtype != "bytes")
    steps = Steps(elements)
    features = plan.features or tuple(_same_names(record, model))
    made = steps_of(plan.file, features, given_columns(record), steps)
    shown: dict[str, list[Column]] = {}
    for feature in features:
        if not feature.hidden:
            into = feature.into or _rest(plan.file, features, sources, model)
            shown.setdefault(into, []).extend(made[feature.name])
    return _wired(plan.file, sources, steps, shown, model)


def steps_of(
    file: Path, features: Sequence[Feature], given: Mapping[str, list[Column]], steps: Steps
) -> dict[str, list[Column]]:
    """Add the steps of features and return the columns of each, by name; ModelLoadError, UnlearnedError."""
    made: dict[str, list[Column]] = {}
    for feature in features:
        # A feature may have the name of the field it is made of.
        made[feature.name] = _columns_of(file, feature, {**given, **made}, steps)
    return made


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
        if field.dtype == "bytes":
            if field.kind is FieldKind.TEXT:
                columns[field.name] = [Column(0, field.name, source=number)]
            continue
        size = math.prod(field.shape)
        columns[field.name] = [Column(first + place, f"{field.name}[{place}]") for place in range(size)]
        first += size
    return columns


def _same_names(record: Record, model: Sequence[ModelInput]) -> list[Feature]:
    """Without features a slot goes into the input of its name, or all go into the only one in their order."""
    names = {name for name, _, _ in model}
    matching = [field for field in record.slots if field.name in names]
    if matching:
        return [Feature(field.name, (field.name,), into=field.name) for field in matching]
    return [Feature(field.name, (field.name,)) for field in record.slots]


def _rest(file: Path, features: Sequence[Feature], sources: Sequence[ModelInput], model: Sequence[ModelInput]) -> str:
    """Return the input that nothing else is for."""
    taken = {feature.into for feature in features} | {name for name, _, _ in sources}
    left = [name for name, _, _ in model if name not in taken]
    if len(left) != 1:
        raise ModelLoadError(
            f"{file}: the model has the inputs {', '.join(name for name, _, _ in model)}: say with into which of them "
            "each feature is part of"
        )
    return left[0]


def _columns_of(file: Path, feature: Feature, known: Mapping[str, list[Column]], steps: Steps) -> list[Column]:
    for name in feature.sources:
        if name not in known:
            raise ModelLoadError(
                f"{file}: feature {feature.name!r} is made of {name!r}, which is no field with a number or category, "
                "and no feature before it"
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


def _wired(
    file: Path,
    sources: tuple[ModelInput, ...],
    steps: Steps,
    shown: Mapping[str, list[Column]],
    model: Sequence[ModelInput],
) -> Wiring:
    for name in shown:
        if name not in {of for of, _, _ in model}:
            raise ModelLoadError(f"{file}: into is {name!r}, and the model has no such input")
    matrices: list[NativeMatrix] = []
    names: list[tuple[str, ...]] = []
    inputs: list[tuple[bool, int]] = []
    words: list[CountedWords] = []
    for name, dtype, shape in model:
        if name in shown:
            matrix, columns = _matrix(file, name, dtype, shape, shown[name])
            words += _words_of(file, len(matrices), dtype, shown[name])
            inputs.append((True, len(matrices)))
            matrices.append(matrix)
            names.append(columns)
        else:
            inputs.append((False, _source(file, name, dtype, shape, sources)))
    return Wiring(sources, tuple(steps.native), tuple(matrices), tuple(inputs), tuple(names), tuple(words))


def _matrix(
    file: Path, name: str, dtype: str, shape: tuple[int, ...], columns: Sequence[Column]
) -> tuple[NativeMatrix, tuple[str, ...]]:
    if dtype not in _MATRIX_DTYPES:
        raise ModelLoadError(f"{file}: input {name!r} is {dtype}: features can be {', '.join(_MATRIX_DTYPES)}")
    at = 0
    placements = []
    names: list[str] = []
    for column in columns:
        placements.append((column.x, at, column.width))
        names.extend(column.labels or (column.name,))
        at += column.width or 1
    if at != math.prod(shape):
        raise ModelLoadError(
            f"{file}: the features make {at} columns, and input {name!r} has {math.prod(shape)}. They are "
            f"{_some(names)}"
        )
    return (dtype, at, placements), tuple(names)


def _words_of(file: Path, matrix: int, dtype: str, columns: Sequence[Column]) -> list[CountedWords]:
    """Return the parts of a matrix that are words. A text that nothing was done to cannot be in one."""
    found = []
    at = 0
    for column in columns:
        if column.source is not None:
            if column.words is None:
                raise ModelLoadError(f"{file}: feature {column.name!r} is text: count its words, or leave it out")
            if dtype not in ("float32", "float64"):
                raise ModelLoadError(f"{file}: feature {column.name!r} has counts of words, which are no {dtype}")
            found.append(CountedWords(matrix, at, column.source, column.words))
        at += column.width or 1
    return found


def _some(names: Sequence[str]) -> str:
    return ", ".join(names) if len(names) <= 40 else f"{', '.join(names[:40])} ..."


def _source(file: Path, name: str, dtype: str, shape: tuple[int, ...], sources: Sequence[ModelInput]) -> int:
    for number, source in enumerate(sources):
        if source == (name, dtype, shape):
            return number
    raise ModelLoadError(
        f"{file}: nothing goes into input {name!r} ({dtype}, shape {list(shape)}): no feature is for it, and no field "
        "has its name, type and shape"
    )
