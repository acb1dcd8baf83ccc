"""What scores with known truths teach: temperatures, Platt's lines, isotonic curves, quantiles and thresholds.

NumPy alone: what was learned must not depend on whose version learned it.
"""

from __future__ import annotations

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import ConfigError

__all__ = [
    "calibration_error",
    "curve_of",
    "distances_of",
    "likelihood",
    "line_of",
    "quantile_of",
    "temperature_of",
    "threshold_of",
]

Floats: TypeAlias = NDArray[np.float64]
Whole: TypeAlias = NDArray[Any]

_BINS = 15
# A temperature beyond these says that scores mean nothing, or everything.
_COLDEST, _HOTTEST = 1e-3, 1e3
_NEWTON_STEPS_MAX = 100
_SAME_SCORE = float(np.finfo(np.float64).resolution)


def temperature_of(logits: Floats, truth: Whole) -> float:
    """Return the temperature of the greatest likelihood (Guo et al. 2017): logits (rows, classes), truth (rows,).

    The likelihood has one maximum over 1 / T, where its slope is 0.
    """
    at_truth = np.take_along_axis(logits, truth[:, None], axis=1)[:, 0]

    def slope(cold: float) -> float:
        scaled = logits * cold
        powers = np.exp(scaled - scaled.max(axis=1, keepdims=True))
        means = (powers * logits).sum(axis=1) / powers.sum(axis=1)
        return float((means - at_truth).mean())

    low, high = math.log(1 / _HOTTEST), math.log(1 / _COLDEST)
    for _ in range(80):  # halved so often nothing is left of the interval
        middle = (low + high) / 2
        low, high = (middle, high) if slope(math.exp(middle)) < 0 else (low, middle)
    return math.exp(-(low + high) / 2)


def line_of(scores: Floats, positive: Whole) -> tuple[float, float]:
    """Return (a, b) of Platt's 1 / (1 + exp(a x + b)) for scores (rows,) and whether each is of the class.

    Targets are Platt's, which keep away from 0 and 1; Newton's steps with halving are those of Lin, Lin and Weng
    (2007).
    """
    of_class = np.count_nonzero(positive)
    others = len(scores) - of_class
    targets = np.where(positive, (of_class + 1) / (of_class + 2), 1 / (others + 2))
    # Scores of any size: Newton's steps are safe around 1.
    size = float(np.abs(scores).max(initial=0.0)) or 1.0
    x = scores / size
    a, b = 0.0, math.log((others + 1) / (of_class + 1))
    loss = _platt_loss(x, targets, a, b)
    for _ in range(_NEWTON_STEPS_MAX):
        p = _sigmoid(-(a * x + b))
        off, weight = targets - p, p * (1 - p)
        gradient = np.array([(x * off).sum(), off.sum()])
        if np.abs(gradient).max() < 1e-10 * len(x):
            break
        cross = (x * weight).sum()
        hessian = np.array([[(x * x * weight).sum() + 1e-12, cross], [cross, weight.sum() + 1e-12]])
        step = -np.linalg.solve(hessian, gradient)
        share = 1.0
        while share > 1e-10:
            tried = _platt_loss(x, targets, a + share * step[0], b + share * step[1])
            if tried < loss + 1e-4 * share * float(gradient @ step):
                break
            share /= 2
        else:
            break
        a, b, loss = a + share * float(step[0]), b + share * float(step[1]), tried
    return a / size, b


def _platt_loss(x: Floats, targets: Floats, a: float, b: float) -> float:
    f = a * x + b
    return float((np.logaddexp(0, f) - (1 - targets) * f).sum())


def _sigmoid(x: Floats) -> Floats:
    power = np.exp(-np.abs(x))
    return np.asarray(np.where(x < 0, power, 1.0) / (1 + power))


def curve_of(scores: Floats, positive: Whole) -> tuple[list[float], list[float]]:
    """Return the points of the ascending curve nearest to whether scores (rows,) are of the class.

    Pool adjacent violators; scores that are equal, or as good as, count as one with their mean. Points within a level
    are left out.
    """
    values, places, counts = np.unique(scores, return_inverse=True, return_counts=True)
    sums = np.bincount(places, weights=positive.astype(np.float64))
    # As scikit-learn does: no line can rise between scores that are closer.
    firsts: list[int] = []
    for place, value in enumerate(values.tolist()):
        if not firsts or value - values[firsts[-1]] >= _SAME_SCORE:
            firsts.append(place)
    x = values[firsts]
    counts = np.add.reduceat(counts, firsts)
    means = np.add.reduceat(sums, firsts) / counts
    # Each level: its mean, its weight, how many points it has.
    levels: list[tuple[float, float, int]] = []
    for mean, count in zip(means.tolist(), counts.tolist(), strict=True):
        level, weight, points = mean, float(count), 1
        while levels and levels[-1][0] >= level:
            before, others, some = levels.pop()
            level = (before * others + level * weight) / (others + weight)
            weight, points = weight + others, points + some
        levels.append((level, weight, points))
    y = np.repeat([level for level, _, _ in levels], [points for _, _, points in levels])
    kept = np.ones(len(x), bool)
    kept[1:-1] = (y[1:-1] != y[:-2]) | (y[1:-1] != y[2:])
    return x[kept].tolist(), y[kept].tolist()


def distances_of(probabilities: Floats, truth: Whole, rule: str) -> Floats:
    """Return how far the truth is from each row's most probable label, as sets of this rule measure it.

    "lac": 1 less its probability. "aps": the sum of the probabilities down to it, the largest first.
    """
    if rule == "lac":
        return np.asarray(1.0 - np.take_along_axis(probabilities, truth[:, None], axis=1)[:, 0])
    order = np.argsort(-probabilities, axis=1, kind="stable")
    # One after the other, as the kernel adds them: sums are compared with those there.
    sums = np.cumsum(np.take_along_axis(probabilities, order, axis=1), axis=1)
    return np.asarray(sums[order == truth[:, None]])


def quantile_of(distances: Floats, alpha: float) -> float:
    """Return the quantile that covers the next row with a probability of 1 - alpha (split conformal prediction).

    ConfigError when there are too few rows for that.
    """
    rows = len(distances)
    # Of exact shares: 0.1 is a little more as a float, and 9 rows would not do.
    place = math.ceil((rows + 1) * (1 - alpha) - 1e-9)
    if place > rows:
        raise ConfigError(
            f"{rows} rows are too few for an alpha of {alpha:g}: {math.ceil(1 / alpha - 1e-9) - 1} are the least"
        )
    return float(np.sort(distances)[place - 1])


def threshold_of(confidences: Floats, right: Whole, precision: float) -> float | None:
    """Return the least confidence from which on at least this share of the rows is right; None when there is none."""
    order = np.argsort(-confidences, kind="stable")
    ranked = confidences[order]
    shares = np.cumsum(right[order]) / np.arange(1, len(ranked) + 1)
    # Rows of one confidence are taken together.
    last = np.append(ranked[1:] != ranked[:-1], True) if len(ranked) else np.zeros(0, bool)
    enough = np.flatnonzero(last & (shares >= precision))
    return float(ranked[enough[-1]]) if len(enough) else None


def likelihood(probabilities: Floats, truth: Whole) -> float:
    """Return the mean negative logarithm of the truth's probability."""
    at_truth = np.take_along_axis(probabilities, truth[:, None], axis=1)
    return float(-np.log(np.maximum(at_truth, np.finfo(np.float64).tiny)).mean())


def calibration_error(probabilities: Floats, truth: Whole) -> float:
    """Return the expected calibration error: over 15 bins, by how much confidence and share of right labels differ."""
    sure = probabilities.max(axis=1)
    right = probabilities.argmax(axis=1) == truth
    bins = np.minimum((sure * _BINS).astype(int), _BINS - 1)
    counts = np.bincount(bins, minlength=_BINS)
    off = np.abs(np.bincount(bins, sure, _BINS) - np.bincount(bins, right, _BINS))
    return float(off.sum() / max(counts.sum(), 1))
