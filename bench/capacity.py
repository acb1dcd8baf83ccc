"""Capacity under a latency limit: the highest Poisson rate at which the limit is proven to hold."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from bench.run import RunOptions, record_open, sample_closed
from bench.scenario import Prepared
from bench.targets import Target
from penstock.core.errors import LoadError
from penstock.load.measurement import Measurement
from penstock.load.proof import is_proven
from penstock.load.recording import HTTP_OK, Recording

__all__ = ["Capacity", "Trial", "affine", "bound", "capacity_of", "find_capacity", "judge"]

PERCENTILES = ((0.99, 1.0), (0.999, 3.0))  # p99 within the limit, p99.9 within three times the limit
# The greedy fixed point: requests of the p-quantile wait (1 + p) batches. Source: docs/benchmarking.md.
BOUND_FACTOR = 1.99
STEPS = 7  # halvings of the interval: the answer is good to 1 %
REPEATS = 3
FAR_OFF = 10  # with so many times more late requests than allowed, another chance changes nothing
HIGHEST = 1.05  # of what the closed loop answered
REQUESTS_MIN = 7000  # proves p99.9 with one very late, p99 with some late


@dataclass(frozen=True, slots=True)
class Trial:
    """One rate that was tried: counts of late requests at 1 and at 3 times the limit, and whether that proves it."""

    rate: float
    requests: int
    late: int
    very_late: int
    kept: bool
    void: bool
    p99_us: float


@dataclass(frozen=True, slots=True)
class Capacity:
    """What was found. `offline_rate` and `bound_rate` are rows/s of the bare backend, where they were measured."""

    scenario: str
    target: str
    dialect: str
    slo_ms: float
    rate: float
    closed_rate: float
    trials: tuple[Trial, ...]
    offline_rate: float | None = None
    bound_rate: float | None = None
    measurement: Measurement | None = None


def judge(recording: Recording, measurement: Measurement, slo_ms: float) -> Trial:
    """Tell whether a run proves that the limit holds at its rate: by MLPerf's early-stopping counts.

    Late is whatever is not answered with 200 within `slo_ms`; the p99.9 may take three times as long.
    """
    records = recording.measured
    ok = (records["status"] == HTTP_OK) & (records["failure"] == 0)
    taken_ms = (records["done_ns"] - records["due_ns"]) / 1e6
    late = [int(np.count_nonzero(~ok | (taken_ms > slo_ms * factor))) for _, factor in PERCENTILES]
    kept = all(
        is_proven(len(records), count, percentile) for count, (percentile, _) in zip(late, PERCENTILES, strict=True)
    )
    p99 = measurement.latency.p99 if measurement.latency else float("inf")
    return Trial(measurement.offered_rate, len(records), late[0], late[1], kept, bool(measurement.void), p99)


def find_capacity(try_rate: Callable[[float, int], Trial], highest: float) -> tuple[float, list[Trial]]:
    """Search between nothing and `highest` for the highest rate that holds; 0 when none did, and every trial.

    A rate fails when it failed REPEATS times: on a machine that others use too, one bad moment is not the server's.
    """
    trials: list[Trial] = []

    def holds(rate: float) -> bool:
        for _ in range(REPEATS):
            trials.append(try_rate(rate, len(trials) + 1))
            if trials[-1].kept:
                return True
            if trials[-1].late > FAR_OFF * _late_allowed(trials[-1]):
                return False
        return False

    if holds(highest):
        return highest, trials
    low, high = 0.0, highest
    for _ in range(STEPS):
        middle = (low + high) / 2
        if holds(middle):
            low = middle
        else:
            high = middle
    return low, trials


def capacity_of(
    target: Target,
    prepared: Prepared,
    slo_ms: float,
    options: RunOptions,
    backend: tuple[float, float] | None = None,
) -> Capacity:
    """Start a server and find its capacity. `backend` are the bare backend's offline rate and the bound, if known."""
    scenario = prepared.scenario
    with target.serve(prepared.models, options.folder / target.name) as running:
        corpus = prepared.corpus(running.dialect)
        closed, _ = sample_closed(running, corpus, scenario.load, options)
        if not closed.answered_rate:
            raise LoadError(f"{target.name} answered nothing in a closed loop: {dict(closed.errors)}")
        best: list[Measurement] = []

        def try_rate(rate: float, seed: int) -> Trial:
            longer = replace(options, seconds=max(options.seconds, REQUESTS_MIN / rate))
            recording, measurement = record_open(running, corpus, scenario.load, rate, longer, seed)
            trial = judge(recording, measurement, slo_ms)
            if trial.kept:
                best.append(measurement)
            return trial

        rate, trials = find_capacity(try_rate, closed.answered_rate * HIGHEST)
    offline, limit = backend or (None, None)
    found = max(best, key=lambda measurement: measurement.offered_rate) if best else None
    name = running.dialect.name
    return Capacity(
        scenario.name, target.name, name, slo_ms, rate, closed.answered_rate, tuple(trials), offline, limit, found
    )


def _late_allowed(trial: Trial) -> float:
    """Return how many late requests the p99 allows."""
    return max(1.0, trial.requests * (1 - PERCENTILES[0][0]))


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
