"""Capacity under a latency limit: the highest Poisson rate at which the limit is proven to hold."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from bench.run import RunOptions, record_open, sample_closed, sample_open
from bench.scenario import Prepared
from bench.server import LearnedCost, Penstock
from bench.simulated import simulated_capacity
from bench.targets import Running, Target
from bench.theory import Lane, rotation
from penstock.core.errors import LoadError
from penstock.load.measurement import Measurement
from penstock.load.proof import is_proven
from penstock.load.recording import HTTP_OK, Recording

__all__ = [
    "Capacity",
    "Trial",
    "capacity_of",
    "device_capacity",
    "device_trials",
    "find_capacity",
    "judge",
    "judge_kinds",
]

PERCENTILES = ((0.99, 1.0), (0.999, 3.0))  # p99 within the limit, p99.9 within three times the limit
STEPS = 7  # halvings of the interval: the answer is good to 1 %
REPEATS = 3
FAR_OFF = 10  # with so many times more late requests than allowed, another chance changes nothing
VOID_MAX = 5
HIGHEST = 1.05  # of what the closed loop answered
# Parts of the bound between which a server that decides by deadlines is expected.
EXPECTED = (0.88, 1.04)
EXPECTED_STEPS = 6  # good to 0.3 %
WARM_UP_LOAD = 0.5
REQUESTS_OF_KIND_MIN = 4000
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
    """What was found. `offline_rate` and `bound_rate` are rows/s of the bare backend, where they are known.

    `slo_ms` is the strictest limit where kinds of traffic have their own. `simulated_rate` is what the simulator found.
    `learned` is what the server says that batches cost, what it adds to the device's time included, and
    `learned_bound_rate` the bound of that.
    """

    scenario: str
    target: str
    dialect: str
    slo_ms: float
    rate: float
    closed_rate: float
    trials: tuple[Trial, ...]
    offline_rate: float | None = None
    bound_rate: float | None = None
    simulated_rate: float | None = None
    learned: Mapping[str, LearnedCost] = field(default_factory=dict)
    learned_bound_rate: float | None = None
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


def judge_kinds(measurement: Measurement) -> Trial:
    """Tell whether a run proves that every kind of traffic keeps its own limit; counts are of the worst kind.

    Whoever sheds may refuse 1 in 100, so refused is late and nothing is said of the p99.9.
    """
    limited = [kind for kind in measurement.kinds if kind.slo_ms is not None]
    late = {kind: kind.requests - kind.in_time for kind in limited}
    worst = max(limited, key=lambda kind: late[kind] / max(1, kind.requests))
    kept = all(is_proven(kind.requests, late[kind], PERCENTILES[0][0]) for kind in limited)
    p99 = worst.latency.p99 if worst.latency else float("inf")
    return Trial(measurement.offered_rate, worst.requests, late[worst], 0, kept, bool(measurement.void), p99)


def find_capacity(
    try_rate: Callable[[float, int], Trial], highest: float, lowest: float = 0.0, steps: int = STEPS
) -> tuple[float, list[Trial]]:
    """Search for the highest rate that holds, up to `highest`; 0 when none did, and every trial.

    `lowest` is a guess: when it does not hold, the search goes on below it. A rate fails when it failed REPEATS times:
    on a machine that others use too, one bad moment is not the server's. Void trials say nothing and are run again.
    The rate is the one that was offered: by chance a schedule holds a little more or less than it was asked for.
    """
    trials: list[Trial] = []

    def holds(rate: float) -> Trial | None:
        failed = void = 0
        while failed < REPEATS and void < VOID_MAX:
            trials.append(try_rate(rate, len(trials) + 1))
            if trials[-1].kept:  # all the same if the generator was late: that makes latency longer, never shorter
                return trials[-1]
            if trials[-1].late > FAR_OFF * _late_allowed(trials[-1]):
                return None
            void, failed = (void + 1, failed) if trials[-1].void else (void, failed + 1)
        return None

    low, high, best = 0.0, highest, 0.0
    if lowest > 0:
        held = holds(lowest)
        low, high, best = (lowest, highest, held.rate) if held else (0.0, lowest, 0.0)
    if high == highest and (held := holds(highest)):
        return held.rate, trials
    for _ in range(steps):
        middle = (low + high) / 2
        if held := holds(middle):
            low, best = middle, held.rate
        else:
            high = middle
    return best, trials


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
        scenario.name,
        target.name,
        name,
        slo_ms,
        rate,
        closed.answered_rate,
        tuple(trials),
        offline,
        limit,
        measurement=found,
    )


def device_capacity(
    target: Target, prepared: Prepared, options: RunOptions, expected: tuple[float, float] = EXPECTED
) -> Capacity:
    """Start a server of simulated devices and find the highest rate at which each kind of traffic keeps its limit.

    `expected` are the parts of the bound to search between first.
    """
    scenario, lanes = prepared.scenario, prepared.lanes
    limit = rotation(lanes)
    with target.serve(prepared.models, options.folder / target.name) as running:
        kept: list[Measurement] = []
        try_rate = device_trials(running, prepared, options, kept)
        rate, trials = find_capacity(try_rate, limit * expected[1], limit * expected[0], EXPECTED_STEPS)
        learned = _learned(running, prepared.models)
    found = max(kept, key=lambda measurement: measurement.offered_rate) if kept else None
    return Capacity(
        scenario.name,
        target.name,
        running.dialect.name,
        min(lane.slo_seconds for lane in lanes) * 1e3,
        rate,
        0.0,
        tuple(trials),
        offline_rate=1 / sum(lane.share * lane.c for lane in lanes),
        bound_rate=limit,
        simulated_rate=simulated_capacity(prepared),
        learned=learned,
        learned_bound_rate=_learned_bound(lanes, learned),
        measurement=found,
    )


def device_trials(
    running: Running, prepared: Prepared, options: RunOptions, kept: list[Measurement]
) -> Callable[[float, int], Trial]:
    """Give what tries a rate on a running server of simulated devices; runs that held are added to `kept`."""
    plan, lanes, corpus = prepared.scenario.load, prepared.lanes, prepared.corpus(running.dialect)
    rarest = min(lane.share for lane in lanes)

    def try_rate(rate: float, seed: int) -> Trial:
        longer = replace(options, seconds=max(options.seconds, REQUESTS_OF_KIND_MIN / rarest / rate))
        measurement, _ = sample_open(running, corpus, plan, rate, longer, seed)
        trial = judge_kinds(measurement)
        if trial.kept:
            kept.append(measurement)
        return trial

    # Before the first trial, the server learns what batches cost.
    sample_open(running, corpus, plan, rotation(lanes) * WARM_UP_LOAD, options, seed=0)
    return try_rate


def _learned(running: Running, models: Iterable[str]) -> dict[str, LearnedCost]:
    if not isinstance(running, Penstock):
        return {}
    return {model: cost for model in models if (cost := running.learned(model)) is not None}


def _learned_bound(lanes: Sequence[Lane], learned: Mapping[str, LearnedCost]) -> float | None:
    if len(learned) < len(lanes):
        return None
    costs = zip(lanes, learned.values(), strict=True)
    return rotation([replace(lane, a=cost.fixed_us / 1e6, c=cost.row_us / 1e6) for lane, cost in costs])


def _late_allowed(trial: Trial) -> float:
    """Return how many late requests the p99 allows."""
    return max(1.0, trial.requests * (1 - PERCENTILES[0][0]))
