"""How good predictions are. Each metric is as scikit-learn has it, and raises ValueError where it is not defined."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["BOUNDS", "LABELS", "NUMBERS", "accuracy", "area_under_curve", "f1", "mean_absolute_error", "r2", "rmse"]

Floats: TypeAlias = NDArray[np.float64]
Labels: TypeAlias = NDArray[Any]


def accuracy(truth: Labels, given: Labels) -> float:
    """Return the share of labels that are right."""
    _some(truth)
    return float(np.mean(truth == given))


def f1(truth: Labels, given: Labels) -> float:
    """Return the mean over the labels of the harmonic mean of precision and recall (the macro average).

    Labels are those that are true or given. One that has nothing right counts as 0.
    """
    _some(truth)
    labels = np.unique(np.concatenate([truth, given]))
    scores = []
    for label in labels:
        right = int(np.sum((truth == label) & (given == label)))
        scores.append(2 * right / (int(np.sum(truth == label)) + int(np.sum(given == label))))
    return float(np.mean(scores))


def mean_absolute_error(truth: Floats, given: Floats) -> float:
    """Return how far off a prediction is on average."""
    _some(truth)
    return float(np.mean(np.abs(truth - given)))


def rmse(truth: Floats, given: Floats) -> float:
    """Return the root of the mean squared error."""
    _some(truth)
    return float(np.sqrt(np.mean((truth - given) ** 2)))


def r2(truth: Floats, given: Floats) -> float:
    """Return the coefficient of determination: 1 is perfect, 0 no better than the mean."""
    _some(truth)
    spread = float(np.sum((truth - np.mean(truth)) ** 2))
    if spread == 0:
        raise ValueError("R2 is not defined where all targets are the same")
    return float(1 - np.sum((truth - given) ** 2) / spread)


def area_under_curve(truth: Labels, scores: Floats, classes: Labels) -> float:
    """Return the area under the ROC curve.

    Args:
        truth: The labels.
        scores: One number a row, that of the second class; or one for each class, of which the mean over the classes of
            each against the rest is returned (macro, one versus rest).
        classes: The labels in the order of the scores.
    """
    _some(truth)
    unknown = np.setdiff1d(truth, classes)
    if len(unknown):
        raise ValueError(f"the target {unknown[0]!r} is none of the classes {', '.join(map(str, classes))}")
    if scores.ndim == 1:
        return _area(truth == classes[1], scores)
    if scores.shape[1] == 2:
        return _area(truth == classes[1], scores[:, 1])
    return float(np.mean([_area(truth == label, scores[:, at]) for at, label in enumerate(classes)]))


def _area(positive: NDArray[np.bool_], scores: Floats) -> float:
    """Return the chance that a positive row has the higher score than a negative one; a tie is half (Mann-Whitney)."""
    many = int(positive.sum())
    few = len(positive) - many
    if not many or not few:
        raise ValueError("the area under the curve is not defined where a class has no rows, or all")
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[inverse]
    return float((ranks[positive].sum() - many * (many + 1) / 2) / (many * few))


def _some(rows: NDArray[Any]) -> None:
    if not len(rows):
        raise ValueError("there are no rows")


# By the names that thresholds have.
LABELS: Mapping[str, Callable[[Labels, Labels], float]] = {"accuracy": accuracy, "f1": f1}
NUMBERS: Mapping[str, Callable[[Floats, Floats], float]] = {"mae": mean_absolute_error, "rmse": rmse, "r2": r2}
# Whether a metric is bounded from below (the larger, the better) or from above.
BOUNDS: Mapping[str, str] = {"accuracy": "min", "f1": "min", "auc": "min", "r2": "min", "mae": "max", "rmse": "max"}
