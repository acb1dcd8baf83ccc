"""What `penstock simulate` finds out: how a deployment fares, what it carries, and how many instances it takes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from penstock.cli.simulate.curve import interpolated
from penstock.cli.simulate.settings import KNOTS, SimulatedSettings
from penstock.core.config import Scheduling
from penstock.core.errors import ConfigError
from penstock.native._batcher import ModelFigures, SimulatedModel, SimulationFigures, Simulator

__all__ = [
    "INSTANCES_MAX",
    "SimulateOptions",
    "capacity_factor",
    "check_length",
    "growing",
    "instances_needed",
    "kept",
    "load_of",
    "scheduling_of",
    "simulator_for",
]

# 99th percentile of a normal distribution, in standard deviations.
P99_DEVIATIONS = 2.33
PERCENTILE = 0.99
# What the simulator calls the rules of a server.
POLICIES = {Scheduling.DEADLINE: "engine", Scheduling.ROUND_ROBIN: "round_robin"}
INSTANCES_MAX = 1024
ROWS_MAX = 100_000_000
BLOCK_ROWS_MAX = 64
# Shorter than so many limits, a run is over before a queue that is too long is seen. A burst lasts for ten.
LIMITS_MIN = 20
LIMITS_MIN_BURSTY = 200
# A row in a hundred may be late, which carries a little more than the devices can.
FACTOR_MAX = 1.05
# A queue that grows makes rows wait in proportion to the length of the run: twice as long in a run twice as long.
GROWTH_MIN = 1.5


@dataclass(frozen=True, slots=True)
class SimulateOptions:
    """What was asked for on the command line."""

    models: Sequence[SimulatedSettings]
    instances: int
    scheduling: Scheduling
    jitter: float
    rows: int
    seed: int
    as_json: bool
    plot: Path | None


def scheduling_of(text: str) -> Scheduling:
    """Read a rule, by the words of `penstock serve --scheduling`."""
    try:
        return Scheduling(text)
    except ValueError as error:
        known = ", ".join(repr(rule.value) for rule in Scheduling)
        raise ConfigError(f"--scheduling {text!r}: expected one of {known}") from error


def simulator_for(
    options: SimulateOptions, models: Sequence[SimulatedSettings], instances: int, rows: int | None = None
) -> Simulator:
    """Set the simulator up; `rows`: another length of the run."""
    simulated = []
    for settings in models:
        assert settings.curve is not None
        mean_ns = [settings.curve[rows] * 1e6 for rows in KNOTS]
        p99_ns = [ns * (1 + P99_DEVIATIONS * options.jitter) for ns in mean_ns]
        model = SimulatedModel(mean_ns, p99_ns, settings.rate)
        model.arrive(settings.arrivals)
        model.limit(int((settings.slo_ms or 0) * 1e6))
        block_rows = min(max(settings.max_batch_size // 8, 1), BLOCK_ROWS_MAX)
        model.batch(settings.max_batch_size, block_rows, list(settings.batch_sizes))
        model.share(settings.weight, int(settings.max_queue_delay_us * 1000))
        simulated.append(model)
    return Simulator(
        simulated,
        instances=instances,
        policy=POLICIES[options.scheduling],
        jitter=options.jitter,
        rows=rows or options.rows,
        seed=options.seed,
    )


def load_of(models: Sequence[SimulatedSettings]) -> float:
    """Devices that the given rates keep busy at least, in batches of the size that does most."""
    return sum(model.rate * min(_row_times_ms(model)) for model in models) / 1000


def _row_times_ms(model: SimulatedSettings) -> list[float]:
    assert model.curve is not None
    times = [model.curve[rows] / rows for rows in KNOTS if rows <= model.max_batch_size]
    # Between two points the time of a row rises or falls all the way: only the ends matter.
    return [*times, interpolated(sorted(model.curve.items()), model.max_batch_size) / model.max_batch_size]


def check_length(options: SimulateOptions, models: Sequence[SimulatedSettings]) -> None:
    """Refuse a run that is over before it says anything; those that look for the capacity may be faster."""
    rate = sum(model.rate for model in models)
    if any(model.slo_ms is not None for model in models):
        rate *= max(1.0, FACTOR_MAX * options.instances / load_of(models))
    for model in models:
        count = LIMITS_MIN_BURSTY if model.arrivals == "bursty" else LIMITS_MIN
        each_ms = model.slo_ms if model.slo_ms is not None else _row_times_ms(model)[-1] * model.max_batch_size
        wanted = math.ceil(rate * count * each_ms / 1000)
        if options.rows >= wanted:
            continue
        what = "full batches" if model.slo_ms is None else "limits"
        told = (
            f"--rows {options.rows} is too short a run: it has to last for {count} {what} of {each_ms:g} ms "
            f"at {rate:,.0f} rows/s"
        )
        if wanted > ROWS_MAX:
            raise ConfigError(f"{told}, over {ROWS_MAX} rows; simulate a part of the rate on a part of the instances")
        raise ConfigError(f"{told}; give --rows {wanted} at least")


def capacity_factor(options: SimulateOptions, models: Sequence[SimulatedSettings]) -> float:
    """Find the factor on all rates at which every limit is just kept; without limits, at which queues just end."""
    bound = options.instances / load_of(models)
    if all(model.slo_ms is None for model in models):
        return bound
    highest = FACTOR_MAX * bound
    simulator = simulator_for(options, models, options.instances)
    return simulator.capacity_factor(1 - PERCENTILE, highest, highest / 500)


def growing(
    options: SimulateOptions, models: Sequence[SimulatedSettings], instances: int, figures: SimulationFigures
) -> list[bool]:
    """Say of each model whether its queue grows without end, which only one without a limit can have."""
    unlimited = [model.slo_ms is None for model in models]
    if all(unlimited):
        return [load_of(models) >= instances] * len(models)
    if not any(unlimited):
        return [False] * len(models)
    # What the others shed is room for these, and what the others need soon is less: only runs tell.
    half = simulator_for(options, models, instances, max(options.rows // 2, 1)).run()
    return [
        free and whole.latency_ns[0] > GROWTH_MIN * part.latency_ns[0]
        for free, whole, part in zip(unlimited, figures.models, half.models, strict=True)
    ]


def kept(model: SimulatedSettings, figures: ModelFigures) -> bool:
    """Say whether enough rows were in time; True without a limit."""
    return model.slo_ms is None or figures.rows - figures.in_time <= (1 - PERCENTILE) * figures.rows


def instances_needed(options: SimulateOptions, models: Sequence[SimulatedSettings]) -> int | None:
    """Find the fewest instances that carry the given rates in time; None when INSTANCES_MAX do not."""
    load = load_of(models)
    if all(model.slo_ms is None for model in models):
        needed = math.floor(load) + 1
        return needed if needed <= INSTANCES_MAX else None

    def enough_are(instances: int) -> bool:
        figures = simulator_for(options, models, instances).run()
        if not all(map(kept, models, figures.models)):
            return False
        return not any(growing(options, models, instances, figures))

    # Fewer cannot do the work, less the rows that may be late.
    too_few = math.ceil((2 * PERCENTILE - 1) * load) - 1
    enough = too_few + 1
    while enough <= INSTANCES_MAX and not enough_are(enough):
        too_few, enough = enough, 2 * enough
    if enough > INSTANCES_MAX:
        return None
    while enough - too_few > 1:
        middle = (enough + too_few) // 2
        if enough_are(middle):
            enough = middle
        else:
            too_few = middle
    return enough
