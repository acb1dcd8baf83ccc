"""Plans without a server: the same slots, the same program, the same bytes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import ConfigError
from penstock.processing.columns import given_columns, steps_of
from penstock.processing.feature_program import FeatureProgram
from penstock.processing.plan import Feature, Plan
from penstock.processing.program import ModelInput, Origin, wire
from penstock.processing.record import FieldKind, Record
from penstock.processing.slots import Table, slots_of, texts_of
from penstock.processing.steps.counting import WordCounter
from penstock.processing.steps.step import Steps
from penstock.processing.steps.tokens import Tokens

__all__ = ["inputs_of", "learnable", "transform"]


def learnable(plan: Plan) -> Record:
    """Return the record of a plan; ConfigError when a table cannot go through it."""
    if plan.record is None:
        raise ConfigError(f"{plan.file}: has no record, so no table can go through it")
    others = [field.name for field in plan.record.tensors if field.kind is not FieldKind.TEXT]
    if others:
        names = ", ".join(others)
        raise ConfigError(f"{plan.file}: has fields that are no columns of a table: {names}")
    return plan.record


def inputs_of(plan: Plan, dtype: str = "float32") -> tuple[ModelInput, ...]:
    """Return inputs of a model that would take the features of a plan: one matrix, or one for each `into`.

    Tokens are no columns: their inputs are left out.
    """
    record = learnable(plan)
    in_columns = [feature for feature in plan.features if not _is_tokens(feature)]
    made = steps_of(plan.file, in_columns, given_columns(record), Steps(len(record.slots)))
    widths: dict[str, int] = {}
    alone = "features"
    while alone in (field.name for field in record.fields):
        alone += "_"  # a field of its name would be a source of its own
    if not plan.features:
        widths[alone] = len(record.slots)
    for feature in in_columns:
        if not feature.hidden:
            into = feature.into or alone
            widths[into] = widths.get(into, 0) + sum(column.width or 1 for column in made[feature.name])
    return tuple((name, dtype, (width,)) for name, width in widths.items())


def _is_tokens(feature: Feature) -> bool:
    return any(isinstance(step, Tokens) for step in feature.steps)


def transform(plan: Plan, table: Table, model: Sequence[ModelInput]) -> dict[str, tuple[tuple[str, ...], NDArray[Any]]]:
    """Return (names of the columns, values of shape (rows, columns)) of each input that the plan makes for a model.

    RequestError (invalid_input) names the first row that is no record, or UnfitFeatureError one with a feature that an
    integer input does not hold; ModelLoadError when the plan does not fit.
    """
    record = learnable(plan)
    if plan.features and all(feature.hidden for feature in plan.features):
        raise ConfigError(f"{plan.file}: all features are hidden: nothing is left for the model")
    for feature in filter(_is_tokens, plan.features):
        raise ConfigError(f"{plan.file}: feature {feature.name!r} is tokens, which are no columns of a table")
    slots, texts = slots_of(record, table), texts_of(record, table)
    wiring = wire(plan, model)
    rows = len(slots) if record.slots else len(next(iter(texts.values())))
    matrices = [np.empty((rows, columns), dtype) for dtype, columns, _ in wiring.matrices]
    numbers = [slots] if record.slots else []
    FeatureProgram(wiring, [name for name, _, _ in model]).run(numbers, matrices)
    for part in wiring.words:
        WordCounter(part.words).write(texts[wiring.sources[part.source][0]], matrices[part.matrix], part.at)
    names = [name for (name, _, _), (origin, _) in zip(model, wiring.inputs, strict=True) if origin is Origin.MATRIX]
    return {name: (wiring.columns[at], matrices[at]) for at, name in enumerate(names)}
