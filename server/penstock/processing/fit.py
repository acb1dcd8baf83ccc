"""Learning the numbers of a plan's steps from a table."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, TypeAlias, TypeVar

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import ModelLoadError
from penstock.native._kernels import Program
from penstock.processing.columns import given_columns, steps_of
from penstock.processing.plan import Feature, Plan
from penstock.processing.record import Category, Record
from penstock.processing.slots import Slots
from penstock.processing.steps.categories import Encode
from penstock.processing.steps.numbers import Bin, Clip, Impute, Power, Scale
from penstock.processing.steps.power import best_exponent
from penstock.processing.steps.step import Column, Step, Steps
from penstock.processing.steps.texts import Words
from penstock.processing.steps.tokens import Tokens

__all__ = ["fit", "given_numbers"]

_Target: TypeAlias = NDArray[np.float64] | None
_S = TypeVar("_S", bound=Step)

# What the mean of a category's target counts against the mean of all: as many rows as this.
_SMOOTHING = 10.0
_EPSILON = float(np.finfo(np.float64).eps)


def fit(plan: Plan, slots: Slots, target: _Target = None, texts: Mapping[str, Sequence[str]] | None = None) -> Plan:
    """Return the plan with every number learned that it leaves out.

    `slots` is of shape (rows, slots) as slots_of() makes it, `target` of shape (rows,), `texts` has the rows of each
    field of text. ModelLoadError says what cannot be learned from them.
    """
    assert plan.record is not None
    if not len(slots):
        raise ModelLoadError("nothing can be learned from a table without rows")
    known = given_columns(plan.record)
    learned: list[Feature] = []
    for feature in plan.features:
        done = replace(feature, steps=())
        for step in feature.steps:
            if isinstance(step, Words):
                rows = (texts or {}).get(feature.sources[0])
                if rows is None:
                    raise ModelLoadError(f"words of {feature.name!r}: {feature.sources[0]!r} is no field of text")
                done = replace(done, steps=(step.learned(rows, feature.name),))
                continue
            if isinstance(step, Tokens):
                done = replace(done, steps=(step,))
                continue
            # What the steps before it make of the table is what it learns from.
            columns, values = _values(plan, [*learned, done], known, slots)
            found = _learn(step, columns, values, target, feature.name)
            if isinstance(found, Encode) and found != step and _may_be_missing(plan.record, done):
                found = found.with_missing()
            done = replace(done, steps=(*done.steps, found))
        learned.append(done)
    return replace(plan, features=tuple(learned))


def given_numbers(plan: Plan) -> list[str]:
    """Name the steps of a plan that fit() leaves as they are, though it could learn their numbers."""
    return [
        f"{next(iter(step.members()))} of {feature.name!r}"
        for feature in plan.features
        for step in feature.steps
        if _has_learnable(step)
    ]


def _has_learnable(step: Step) -> bool:
    match step:
        case Impute():
            return step.strategy != "constant" and step.value is not None
        case Scale():
            return step.center is not None and step.width is not None
        case Clip():
            return bool(step.quantiles) and step.low is not None and step.high is not None
        case Power():
            return step.exponent is not None
        case Bin():
            return step.kind != "edges" and bool(step.edges)
        case Encode():
            return bool(step.numbers)
        case Words():
            return step.kind != "hash" and bool(step.vocabulary)
    return False


def _may_be_missing(record: Record, feature: Feature) -> bool:
    """Return whether a field can be missing behind the steps of a feature so far, in this table or another."""
    if feature.combination or any(isinstance(step, Impute) for step in feature.steps):
        return False
    field = next((field for field in record.slots if field.name == feature.sources[0]), None)
    return field is not None and (field.nullable or (not field.required and field.default is None))


def _values(
    plan: Plan, features: Sequence[Feature], known: Mapping[str, list[Column]], slots: Slots
) -> tuple[list[Column], NDArray[np.float64]]:
    """Return the columns of the last feature and their values, shape (rows, columns)."""
    steps = Steps(slots.shape[1])
    # Words and tokens are nobody's input.
    features = [feature for feature in features if not any(isinstance(step, Words | Tokens) for step in feature.steps)]
    made = steps_of(plan.file, features, known, steps)
    columns = made[features[-1].name]
    placements = [(column.x, at, 0) for at, column in enumerate(columns)]
    program = Program([("float64", slots.shape[1])], steps.native, [("float64", len(columns), placements)])
    values = np.empty((len(slots), len(columns)))
    program.run([np.ascontiguousarray(slots)], [values])
    return columns, values


def _learn(step: Step, columns: list[Column], values: NDArray[np.float64], target: _Target, name: str) -> Step:
    learn = _LEARN.get(type(step))
    if learn is None:
        return step
    results = [learn(step, column, values[:, at], target) for at, column in enumerate(columns)]
    if any(result != results[0] for result in results):
        raise ModelLoadError(
            f"feature {name!r} has {len(columns)} columns when a step of it learns, and they teach it different "
            "numbers: make features of them that are hidden, and one feature of each"
        )
    return results[0]


def _present(step: str, column: Column, values: NDArray[np.float64]) -> NDArray[np.float64]:
    present: NDArray[np.float64] = values[~np.isnan(values)]
    if not len(present):
        raise ModelLoadError(f"{step} of {column.name!r}: every value is missing, so nothing can be learned")
    return present


def _impute(step: Impute, column: Column, values: NDArray[np.float64], target: _Target) -> Impute:
    present = values[~np.isnan(values)]
    if step.value is not None:
        return step
    if not len(present):
        raise ModelLoadError(f"impute of {column.name!r}: every value is missing, so none can be learned")
    if step.strategy == "most-frequent":
        found, counts = np.unique(present, return_counts=True)
        value = float(found[np.argmax(counts)])
    else:
        if column.categories is not None:
            raise ModelLoadError(f"impute of {column.name!r}: categories have no {step.strategy}; use most-frequent")
        value = float(np.mean(present) if step.strategy == "mean" else np.median(present))
    if column.categories is not None:
        return replace(step, value=_category_at(column, value))
    return replace(step, value=value)


def _category_at(column: Column, code: float) -> Category:
    assert column.categories is not None
    if code < 0:
        raise ModelLoadError(f"impute of {column.name!r}: most of its values are in no list of categories")
    return column.categories[int(code)]


def _scale(step: Scale, column: Column, values: NDArray[np.float64], target: _Target) -> Scale:
    if step.center is not None and step.width is not None:
        return step
    if np.isnan(values).all():
        raise ModelLoadError(f"scale of {column.name!r}: every value is missing")
    if step.kind == "standard":
        # As scikit-learn does: what varies by rounding only is constant.
        mean, variance = float(np.nanmean(values)), float(np.nanvar(values))
        rounding = (
            np.finfo(np.float64).eps * len(values) * variance + (len(values) * mean * np.finfo(np.float64).eps) ** 2
        )
        center, width = mean, 0.0 if variance <= rounding else float(np.sqrt(variance))
    elif step.kind == "robust":
        low, center, high = (float(value) for value in np.nanpercentile(values, (25, 50, 75)))
        width = high - low
    elif step.kind == "max-abs":
        center, width = 0.0, float(np.nanmax(np.abs(values)))
    else:
        low, high = float(np.nanmin(values)), float(np.nanmax(values))
        factor = 1 / _not_zero(high - low)
        return replace(step, center=factor, width=-low * factor)
    return replace(step, center=center, width=_not_zero(width))


def _not_zero(width: float) -> float:
    """Return 1 for a width of rounding errors: a constant column stays constant."""
    return 1.0 if abs(width) < 10 * _EPSILON else width


def _clip(step: Clip, column: Column, values: NDArray[np.float64], target: _Target) -> Clip:
    if not step.quantiles or (step.low is not None and step.high is not None):
        return step
    low, high = np.quantile(_present("clip", column, values), step.quantiles)
    return replace(step, low=float(low), high=float(high))


def _power(step: Power, column: Column, values: NDArray[np.float64], target: _Target) -> Power:
    if step.exponent is not None:
        return step
    present = _present("power", column, values)
    if step.kind == "box-cox" and (present <= 0).any():
        raise ModelLoadError(f"power of {column.name!r}: box-cox is for numbers above 0; yeo-johnson takes all")
    return replace(step, exponent=best_exponent(step.kind, present))


def _bin(step: Bin, column: Column, values: NDArray[np.float64], target: _Target) -> Bin:
    if step.edges or step.bins == 1:
        return step
    present = _present("bin", column, values)
    if step.kind == "uniform":
        edges = np.linspace(present.min(), present.max(), step.bins + 1)
        edges = edges[np.diff(edges, prepend=-math.inf) > 0]
    else:
        edges = np.quantile(present, np.linspace(0, 1, step.bins + 1))
        # As scikit-learn does: equal quantiles make bins of no width.
        edges = edges[np.diff(edges, prepend=-math.inf) > 1e-8]
    inner = edges[1:-1]
    return replace(step, edges=tuple(float(edge) for edge in inner), bins=len(inner) + 1)


def _encode(step: Encode, column: Column, values: NDArray[np.float64], target: _Target) -> Encode:
    if step.numbers:
        return step
    missing = np.isnan(values)
    codes = np.unique(values[~missing])
    if column.categories is not None:
        codes = codes[codes >= 0]
        found: list[Category] = [column.categories[int(code)] for code in codes]
    else:
        found = [float(code) for code in codes]
    if not found:
        raise ModelLoadError(f"encode of {column.name!r}: there is no category to learn")
    if step.kind in ("one-hot", "ordinal"):
        # What the record lists is what there is, whatever has come into this table.
        listed = found if column.categories is None else column.categories
        numbers = tuple((category, float(place)) for place, category in enumerate(listed))
        if step.kind == "ordinal":
            return replace(step, numbers=numbers, unknown=-1.0 if step.unknown is None else step.unknown)
        encoded = replace(step, numbers=numbers, width=len(numbers))
        return encoded.with_missing() if missing.any() else encoded
    members = [values == code for code in codes]
    if step.kind == "frequency":
        shares = [float(of.mean()) for of in members]
        known = replace(step, numbers=tuple(zip(found, shares, strict=True)))
        return replace(known, missing=float(missing.mean()), unknown=0.0)
    if target is None:
        raise ModelLoadError(
            f"encode of {column.name!r}: name the target, whose means it is to learn: penstock fit --target COLUMN"
        )
    mean = float(target.mean())
    means = [float((target[of].sum() + _SMOOTHING * mean) / (of.sum() + _SMOOTHING)) for of in members]
    absent = float((target[missing].sum() + _SMOOTHING * mean) / (missing.sum() + _SMOOTHING))
    known = replace(step, numbers=tuple(zip(found, means, strict=True)))
    return replace(known, missing=absent, unknown=mean)


_LEARN: Mapping[type, Callable[[Any, Column, NDArray[np.float64], _Target], Step]] = {
    Impute: _impute,
    Scale: _scale,
    Clip: _clip,
    Power: _power,
    Bin: _bin,
    Encode: _encode,
}
