"""Exponents of power transforms by maximum likelihood."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

__all__ = ["best_exponent"]

_GOLDEN = (math.sqrt(5) - 1) / 2
# Where exponents of anything but pathological data lie; beyond that the transform loses its digits.
_LEAST, _MOST = -8.0, 8.0


def best_exponent(kind: str, values: NDArray[np.float64]) -> float:
    """Return the lambda under which the values are most like a normal distribution, shape (rows,); 1 for constants."""
    if len(values) == 0 or np.ptp(values) == 0:
        return 1.0
    if kind == "box-cox":
        logarithms = np.log(values)
        weight = logarithms.sum()

        def transformed(exponent: float) -> NDArray[np.float64]:
            return logarithms if exponent == 0 else np.expm1(exponent * logarithms) / exponent
    else:
        weight = float((np.sign(values) * np.log1p(np.abs(values))).sum())

        def transformed(exponent: float) -> NDArray[np.float64]:
            return _yeo_johnson(values, exponent)

    def likelihood(exponent: float) -> float:
        variance = float(transformed(exponent).var())
        if not 0 < variance < math.inf:
            return -math.inf
        return -len(values) / 2 * math.log(variance) + (exponent - 1) * float(weight)

    with np.errstate(over="ignore", invalid="ignore"):
        return _maximum(likelihood)


def _yeo_johnson(values: NDArray[np.float64], exponent: float) -> NDArray[np.float64]:
    above, below = np.maximum(values, 0), np.maximum(-values, 0)
    rest = 2 - exponent
    raised = np.log1p(above) if exponent == 0 else np.expm1(exponent * np.log1p(above)) / exponent
    lowered = np.log1p(below) if rest == 0 else np.expm1(rest * np.log1p(below)) / rest
    return np.where(values >= 0, raised, -lowered)


def _maximum(function: Callable[[float], float]) -> float:
    """Search by golden section where a coarse look has found the highest place: the likelihood has one hill."""
    places = np.linspace(_LEAST, _MOST, 65)
    best = int(np.argmax([function(float(place)) for place in places]))
    low, high = float(places[max(best - 1, 0)]), float(places[min(best + 1, len(places) - 1)])
    left, right = high - _GOLDEN * (high - low), low + _GOLDEN * (high - low)
    at_left, at_right = function(left), function(right)
    while high - low > 1e-9:
        if at_left > at_right:
            high, right, at_right = right, left, at_left
            left = high - _GOLDEN * (high - low)
            at_left = function(left)
        else:
            low, left, at_left = left, right, at_right
            right = low + _GOLDEN * (high - low)
            at_right = function(right)
    return (low + high) / 2
