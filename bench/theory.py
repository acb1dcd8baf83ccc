"""What any policy can reach with devices that take a + c * b for b rows. Source: docs/benchmarking.md."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

__all__ = ["Lane", "affine", "bound", "rotation"]

PERCENTILE = 0.99
# The greedy fixed point: requests of the p-quantile wait (1 + p) batches.
BOUND_FACTOR = 1 + PERCENTILE
HALVINGS = 60


@dataclass(frozen=True, slots=True)
class Lane:
    """A model on a device that others may use too: seconds a batch and a row, the limit, its part of the requests."""

    a: float
    c: float
    slo_seconds: float
    share: float


def affine(batches: dict[int, float]) -> tuple[float, float]:
    """Fit l(b) = a + c * b, in seconds, to the time of a batch by its size; weighted so that each size counts alike."""
    sizes = np.array(sorted(batches), dtype=float)
    seconds = np.array([batches[int(size)] for size in sizes])
    design = np.stack([np.ones_like(sizes), sizes], axis=1) / seconds[:, None]
    (a, c), *_ = np.linalg.lstsq(design, np.ones_like(sizes), rcond=None)
    return max(0.0, float(a)), float(c)


def bound(a: float, c: float, slo_ms: float) -> float:
    """Return the highest rate (rows/s) that any policy can serve within the limit on one device: (1 - 1.99 a/D) / c."""
    return max(0.0, 1 - BOUND_FACTOR * a / (slo_ms / 1e3)) / c


def rotation(lanes: Sequence[Lane]) -> float:
    """Return the highest rate (rows/s in all) at which models that take turns on one device keep their limits.

    A turn of all takes T = sum(a) / (1 - load), and a request waits for p of it and then for its own batch. Of one
    model it is bound(). With limits far apart it is no bound: who does not take turns does better.
    """
    low, high = 0.0, 1 / sum(lane.share * lane.c for lane in lanes)
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        load = middle * sum(lane.share * lane.c for lane in lanes)
        turn = sum(lane.a for lane in lanes) / (1 - load) if load < 1 else float("inf")
        waits = PERCENTILE * turn
        keeps = all(waits + lane.a + lane.c * lane.share * middle * turn <= lane.slo_seconds for lane in lanes)
        low, high = (middle, high) if keeps else (low, middle)
    return low
