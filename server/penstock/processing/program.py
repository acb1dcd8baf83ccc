"""From a plan to a native program that makes a model's inputs of records."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path
from typing import TypeAlias

from penstock.core.errors import ModelLoadError
from penstock.processing.columns import count_elements, given_columns, steps_of
from penstock.processing.plan import Feature, Plan
from penstock.processing.record import Record
from penstock.processing.steps.images import Picture
from penstock.processing.steps.step import Column, NativeStep, Steps
from penstock.processing.steps.texts import Words
from penstock.processing.steps.tokens import Tokens

__all__ = ["MATRIX_DTYPES", "RECORD", "ModelInput", "Origin", "Wiring", "check_learned", "sources_of", "wire"]

# The tensor of a record's slots in the ring. Other fields are tensors of their own name.
RECORD = "$record"

# name, dtype and shape of a row.
ModelInput: TypeAlias = tuple[str, str, tuple[int, ...]]
# dtype, columns, and where each column goes: x, at, width. See kernels/steps.hpp.
NativeMatrix: TypeAlias = tuple[str, int, list[tuple[int, int, int]]]

MATRIX_DTYPES = ("float32", "float64", "int32", "int64")


@dataclass(frozen=True, slots=True)
class CountedWords:
    """Columns of a matrix, from `at` on, that are the words of a source of strings."""

    matrix: int
    at: int
    source: int
    words: Words


@dataclass(frozen=True, slots=True)
class TokenInputs:
    """Inputs of the model that are the tokens of a source of strings.

    `inputs` has their numbers, and what each of them holds: ids, mask or types.
    """

    source: int
    step: Tokens
    inputs: tuple[tuple[int, str], ...]


@dataclass(frozen=True, slots=True)
class ImageInput:
    """An input of the model, by its number, that is the pixels of a source."""

    source: int
    step: Picture
    input: int


class Origin(Enum):
    """What an input of the model is."""

    MATRIX = "a matrix of the program"
    SOURCE = "a tensor of the record as it came"
    TOKENS = "made of a text"
    IMAGE = "made of an image"


@dataclass(frozen=True, slots=True)
class Wiring:
    """Where a model's inputs come from.

    `inputs[i]` is the origin of input i, and the number of the matrix or the source. `columns` names the columns of
    each matrix.
    """

    sources: tuple[ModelInput, ...]
    steps: tuple[NativeStep, ...]
    matrices: tuple[NativeMatrix, ...]
    inputs: tuple[tuple[Origin, int], ...]
    columns: tuple[tuple[str, ...], ...]
    words: tuple[CountedWords, ...] = ()
    tokens: tuple[TokenInputs, ...] = ()
    images: tuple[ImageInput, ...] = ()

    @property
    def numbers(self) -> tuple[tuple[str, int], ...]:
        """The sources of the program: dtype and elements. Strings and images are none."""
        return tuple((self.sources[place][1], math.prod(self.sources[place][2])) for place in self.numeric)

    @property
    def numeric(self) -> tuple[int, ...]:
        """The numbers of those sources."""
        images = {of.source for of in self.images}
        return tuple(
            place for place, (_, dtype, _) in enumerate(self.sources) if dtype != "bytes" and place not in images
        )


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
    elements = count_elements(record)
    steps = Steps(elements)
    features = plan.features or tuple(_same_names(record, model))
    given = given_columns(record)
    of_texts, of_images = ([of for of in features if _has(of, kind)] for kind in (Tokens, Picture))
    tokens = tuple(_token_inputs(plan.file, feature, given, features, sources, model) for feature in of_texts)
    images = tuple(_image_input(plan.file, feature, features, sources, model) for feature in of_images)
    in_columns = [feature for feature in features if feature not in of_texts and feature not in of_images]
    made = steps_of(plan.file, in_columns, given, steps)
    shown: dict[str, list[Column]] = {}
    for feature in in_columns:
        if not feature.hidden:
            into = feature.into or _rest(plan.file, features, sources, model)
            shown.setdefault(into, []).extend(made[feature.name])
    return _wired(plan.file, sources, steps, shown, (tokens, images), model)


def check_learned(plan: Plan) -> None:
    """Raise UnlearnedError when a number of its features is still to be learned."""
    if plan.record is not None:
        columns = [feature for feature in plan.features if not _has(feature, Tokens) and not _has(feature, Picture)]
        steps_of(plan.file, columns, given_columns(plan.record), Steps(count_elements(plan.record)))


def _has(feature: Feature, kind: type[Tokens] | type[Picture]) -> bool:
    return any(isinstance(step, kind) for step in feature.steps)


def _image_input(
    file: Path,
    feature: Feature,
    features: Sequence[Feature],
    sources: Sequence[ModelInput],
    model: Sequence[ModelInput],
) -> ImageInput:
    step = feature.steps[0]
    place = next((number for number, (name, _, _) in enumerate(sources) if name == feature.sources[0]), None)
    fits = len(feature.steps) == 1 and place is not None and len(sources[place][2]) == 3
    if not isinstance(step, Picture) or not fits or place is None:
        raise ModelLoadError(f"{file}: feature {feature.name!r}: image is the only step, of a field that is one")
    into = feature.into or _rest(file, features, sources, model)
    dtype = "float32" if step.mean else "uint8"
    for number, (name, of, shape) in enumerate(model):
        if name != into:
            continue
        if shape != step.shape or of not in ("float32", dtype):
            raise ModelLoadError(
                f"{file}: feature {feature.name!r} makes {dtype} of shape {list(step.shape)}, and input {name!r} is "
                f"{of} of shape {list(shape)}"
            )
        return ImageInput(place, step, number)
    raise ModelLoadError(f"{file}: into is {into!r}, and the model has no such input")


def _token_inputs(
    file: Path,
    feature: Feature,
    given: Mapping[str, list[Column]],
    features: Sequence[Feature],
    sources: Sequence[ModelInput],
    model: Sequence[ModelInput],
) -> TokenInputs:
    step = feature.steps[0]
    (column,) = given.get(feature.sources[0], [None])
    if len(feature.steps) != 1 or not isinstance(step, Tokens) or column is None or column.source is None:
        raise ModelLoadError(f"{file}: feature {feature.name!r}: tokens is the only step, of a field of text")
    parts = step.inputs(feature.into or _rest(file, features, sources, model))
    inputs = []
    for number, (name, dtype, shape) in enumerate(model):
        if name not in parts:
            continue
        if dtype not in ("int32", "int64") or shape != (step.length,):
            raise ModelLoadError(
                f"{file}: feature {feature.name!r} makes {step.length} tokens, and input {name!r} is {dtype} of shape "
                f"{list(shape)}: int64 or int32 of shape [{step.length}] is needed"
            )
        inputs.append((number, parts[name]))
    if len(inputs) != len(parts):
        raise ModelLoadError(
            f"{file}: feature {feature.name!r} fills {', '.join(parts)}, and the model has not all of them"
        )
    return TokenInputs(column.source, step, tuple(inputs))


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
    taken |= {
        name for feature in features for step in feature.steps if isinstance(step, Tokens) for name in step.inputs("")
    }
    left = [name for name, _, _ in model if name not in taken]
    if len(left) != 1:
        raise ModelLoadError(
            f"{file}: the model has the inputs {', '.join(name for name, _, _ in model)}: say with into which of them "
            "each feature is part of"
        )
    return left[0]


def _wired(
    file: Path,
    sources: tuple[ModelInput, ...],
    steps: Steps,
    shown: Mapping[str, list[Column]],
    alone: tuple[tuple[TokenInputs, ...], tuple[ImageInput, ...]],
    model: Sequence[ModelInput],
) -> Wiring:
    for name in shown:
        if name not in {of for of, _, _ in model}:
            raise ModelLoadError(f"{file}: into is {name!r}, and the model has no such input")
    matrices: list[NativeMatrix] = []
    names: list[tuple[str, ...]] = []
    inputs: list[tuple[Origin, int]] = []
    tokens, images = alone
    of_tokens = {number for of in tokens for number, _ in of.inputs}
    of_images = {of.input for of in images}
    words: list[CountedWords] = []
    for number, (name, dtype, shape) in enumerate(model):
        if number in of_tokens:
            inputs.append((Origin.TOKENS, 0))
        elif number in of_images:
            inputs.append((Origin.IMAGE, 0))
        elif name in shown:
            matrix, columns = _matrix(file, name, dtype, shape, shown[name])
            words += _words_of(file, len(matrices), dtype, shown[name])
            inputs.append((Origin.MATRIX, len(matrices)))
            matrices.append(matrix)
            names.append(columns)
        else:
            inputs.append((Origin.SOURCE, _source(file, name, dtype, shape, sources)))
    return Wiring(
        sources, tuple(steps.native), tuple(matrices), tuple(inputs), tuple(names), tuple(words), tokens, images
    )


def _matrix(
    file: Path, name: str, dtype: str, shape: tuple[int, ...], columns: Sequence[Column]
) -> tuple[NativeMatrix, tuple[str, ...]]:
    if dtype not in MATRIX_DTYPES:
        raise ModelLoadError(f"{file}: input {name!r} is {dtype}: features can be {', '.join(MATRIX_DTYPES)}")
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
