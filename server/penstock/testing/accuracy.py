"""How good a model is on rows whose true outputs are known, held to thresholds."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

import penstock_client
from penstock.core.errors import ConfigError
from penstock.testing.answers import shape_of
from penstock.testing.asking import to_repeat
from penstock.testing.checks import Check, failed, passed, skipped
from penstock.testing.labels import read_labelled, rows_of
from penstock.testing.metrics import BOUNDS, LABELS, NUMBERS, area_under_curve
from penstock.testing.target import Target

__all__ = ["AccuracyOptions", "check_accuracy"]

GROUP = "accuracy"
_SLICES_MAX = 1000


@dataclass(frozen=True, slots=True)
class AccuracyOptions:
    """What is known, and how good the model must be.

    Attributes:
        labels: The file with the rows.
        target: The column that holds what is true.
        output: The model's output that is to be it; None where there is one that is called "label", or one only.
        scores: The output with scores, for the area under the curve; None where one is called "probabilities", or
            `output` has numbers.
        classes: The labels in the order of scores; empty where they are 0, 1, ... or the targets in their order.
        thresholds: The bound of each metric: accuracy, f1, auc and r2 from below, mae and rmse from above.
        slice: A column by whose values the rows are divided; each part is held to thresholds, too.
        slice_rows_min: Parts of fewer rows are skipped.
        slice_thresholds: The bounds of parts; empty: the same as of the whole.
    """

    labels: Path
    target: str
    output: str | None = None
    scores: str | None = None
    classes: tuple[str, ...] = ()
    thresholds: Mapping[str, float] = field(default_factory=dict)
    slice: str | None = None
    slice_rows_min: int = 1
    slice_thresholds: Mapping[str, float] = field(default_factory=dict)


def check_accuracy(target: Target, options: AccuracyOptions) -> Iterator[Check]:
    """Predict the rows, and compare; a check for each threshold, and one for rows that are not answered.

    ConfigError when the file cannot be read, or has not the columns.
    """
    if not options.thresholds and not options.slice_thresholds:
        raise ConfigError("there are labels, and no threshold to hold the model to, such as --min-accuracy 0.9")
    labelled = read_labelled(options.labels)
    truth = labelled.column(options.target, "target")
    parts = None if options.slice is None else labelled.column(options.slice, "slice")
    others = [options.target, *([options.slice] if options.slice else [])]
    rows = rows_of(target, labelled, others)
    answers = target.client.predict_batch(target.name, rows, version=target.version, encoding="json")
    yield _answered(target, rows, answers)
    kept = [row for row in range(len(rows)) if row not in answers.errors]
    measured = _Measured(target, options, [truth[row] for row in kept], [answers[row] for row in kept])
    everything = np.ones(len(kept), bool)
    for metric, bound in options.thresholds.items():
        yield _held(measured, metric, bound, everything, "")
    if parts is not None:
        yield from _slices(measured, options, np.array([_label(parts[row]) for row in kept], object))


def _answered(target: Target, rows: Sequence[Mapping[str, Any]], answers: penstock_client.BatchResult) -> Check:
    if not answers.errors:
        return passed(GROUP, "rows are answered", f"{len(rows)} rows", {"rows": len(rows)})
    first = min(answers.errors)
    text = f"{len(answers.errors)} of {len(rows)} rows are not; row {first}: {answers.errors[first]}"
    return failed(GROUP, "rows are answered", f"{text}\n  {to_repeat(target, rows[first])}", {"rows": len(rows)})


def _slices(measured: _Measured, options: AccuracyOptions, parts: NDArray[Any]) -> Iterator[Check]:
    """Hold the worst part to each threshold."""
    names, counts = np.unique(parts, return_counts=True)
    if len(names) > _SLICES_MAX:
        raise ConfigError(f"the column {options.slice!r} has {len(names)} values: too many to be slices")
    few = [str(name) for name, count in zip(names, counts, strict=True) if count < options.slice_rows_min]
    if few:
        why = f"fewer than {options.slice_rows_min} rows: {', '.join(few)}"
        yield skipped(GROUP, f"{len(few)} slices by {options.slice}", why)
    enough = [str(name) for name in names if str(name) not in few]
    for metric, bound in (options.slice_thresholds or options.thresholds).items():
        title = f"{options.slice}: worst slice"
        checks = {name: _held(measured, metric, bound, parts == name, title) for name in enough}
        if not checks:
            yield failed(GROUP, _title(metric, bound, title), "no slice has enough rows")
            continue
        # One that cannot be measured is the worst.
        worst = min(checks, key=lambda name: _rank(checks[name], metric))
        check = checks[worst]
        yield Check(GROUP, check.name, check.outcome, f"{worst}: {check.detail}", check.figures)


def _rank(check: Check, metric: str) -> float:
    value = check.figures.get(metric)
    if value is None:
        return -math.inf
    return value if BOUNDS[metric] == "min" else -value


def _title(metric: str, bound: float, where: str) -> str:
    text = f"{metric} of {bound:g} at {'least' if BOUNDS[metric] == 'min' else 'most'}"
    return f"{where}: {text}" if where else text


def _held(measured: _Measured, metric: str, bound: float, mask: NDArray[np.bool_], where: str) -> Check:
    title = _title(metric, bound, where)
    try:
        value = measured.value(metric, mask)
    except ValueError as error:
        return failed(GROUP, title, f"cannot be computed: {error}")
    good = value >= bound if BOUNDS[metric] == "min" else value <= bound
    text = f"{value:.6g} on {int(mask.sum())} rows"
    return (passed if good else failed)(GROUP, title, text, {metric: value, "rows": float(mask.sum())})


class _Measured:
    """Targets and answers side by side, and the metrics of some of them."""

    def __init__(
        self, target: Target, options: AccuracyOptions, truth: Sequence[Any], answers: Sequence[Mapping[str, Any]]
    ) -> None:
        self._target = target
        self._options = options
        self._truth = truth
        self._answers = answers

    def value(self, metric: str, mask: NDArray[np.bool_]) -> float:
        """Return a metric of the rows in the mask; ValueError when it is not defined for them."""
        if metric in NUMBERS:
            given = _numbers([answer[self._output()] for answer in self._answers], f"output {self._output()!r}")
            return NUMBERS[metric](_numbers(self._truth, "the target")[mask], given[mask])
        truth = np.array([_label(value) for value in self._truth], object)
        if metric in LABELS:
            return LABELS[metric](truth[mask].astype(str), self._labels(truth)[mask].astype(str))
        scores = self._scores()
        classes = self._classes(truth, 2 if scores.ndim == 1 else scores.shape[1])
        return area_under_curve(truth[mask].astype(str), scores[mask], classes.astype(str))

    def _output(self) -> str:
        names = [spec.name for spec in self._target.outputs]
        usual = [name for name in ("label", self._options.target) if name in names]
        chosen = self._options.output or next(iter(usual or names))
        if chosen not in names or (not self._options.output and not usual and len(names) > 1):
            raise ValueError(f"--output must be one of {', '.join(names)}")
        return chosen

    def _labels(self, truth: NDArray[Any]) -> NDArray[Any]:
        name = self._output()
        values = [answer[name] for answer in self._answers]
        shapes = {shape_of(value) for value in values}
        if shapes <= {()}:
            if any(isinstance(value, float) and not value.is_integer() for value in values):
                raise ValueError(f"output {name!r} holds numbers and not labels: name another --output")
            return np.array([_label(value) for value in values], object)
        scores = _matrix(values, f"output {name!r}")
        return np.asarray(self._classes(truth, scores.shape[1])[np.argmax(scores, axis=1)])

    def _scores(self) -> NDArray[np.float64]:
        names = [spec.name for spec in self._target.outputs]
        chosen = self._options.scores or ("probabilities" if "probabilities" in names else self._output())
        if chosen not in names:
            raise ValueError(f"--scores must be one of {', '.join(names)}")
        values = [answer[chosen] for answer in self._answers]
        if {shape_of(value) for value in values} <= {()}:
            return _numbers(values, f"output {chosen!r}")
        scores = _matrix(values, f"output {chosen!r}")
        return scores[:, 0] if scores.shape[1] == 1 else scores

    def _classes(self, truth: NDArray[Any], count: int) -> NDArray[Any]:
        """Return the labels in the order of scores."""
        found = sorted({str(label) for label in truth}, key=_order)
        if self._options.classes:
            classes = [_label(name) for name in self._options.classes]
        elif set(found) <= {str(number) for number in range(count)}:
            classes = [str(number) for number in range(count)]
        else:
            classes = found
        if len(classes) != count:
            raise ValueError(f"there are {count} scores and {len(classes)} classes: name them with --classes")
        return np.array(classes, object)


def _label(value: Any) -> str:
    """Return a label as text: 3, 3.0 and "3" are one."""
    if isinstance(value, bool | np.bool_):
        return str(bool(value)).lower()
    try:
        number = float(value)
    except (TypeError, ValueError):
        return str(value).lower() if str(value).lower() in ("true", "false") else str(value)
    return str(int(number)) if math.isfinite(number) and number.is_integer() else str(value)


def _order(label: str) -> tuple[int, float, str]:
    try:
        return 0, float(label), ""
    except ValueError:
        return 1, 0.0, label


def _numbers(values: Sequence[Any], what: str) -> NDArray[np.float64]:
    try:
        numbers = np.array([float(value) for value in values], np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{what} holds something else than numbers") from None
    if not np.isfinite(numbers).all():
        raise ValueError(f"{what} holds NaN or infinity, first in row {int(np.flatnonzero(~np.isfinite(numbers))[0])}")
    return numbers


def _matrix(values: Sequence[Any], what: str) -> NDArray[np.float64]:
    try:
        matrix = np.array(values, np.float64)
    except (TypeError, ValueError):
        raise ValueError(f"{what} holds something else than a row of numbers") from None
    if matrix.ndim != 2 or not np.isfinite(matrix).all():
        raise ValueError(f"{what} must be one row of finite numbers")
    return matrix
