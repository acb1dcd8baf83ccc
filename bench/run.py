"""Runs scenarios: each server finds its capacity in a closed loop, then gets parts of it in an open one."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field, replace
from pathlib import Path

import msgspec

from bench.disturbance import disturbing
from bench.nginx import Nginx
from bench.scenario import LoadPlan, Prepared, Scenario
from bench.server import Penstock, PenstockTarget, Settings
from bench.targets import Batches, Running, Target
from penstock.load.corpus import Corpus
from penstock.load.dialects import Dialect, PenstockJson
from penstock.load.generator import Address, ClosedLoop, Load, Progress
from penstock.load.measurement import Measurement, measure
from penstock.load.recording import Recording
from penstock.load.schedule import Schedule, bursty, constant, merge, poisson, pulsed

__all__ = ["Phase", "RunOptions", "Sample", "penstock_for", "record_open", "run_rounds", "sample_closed", "sample_open"]

WARM_UP_SHARE = 0.2
WARM_UP_SECONDS_MAX = 2.0
SPIN_US = 50.0
KINDS_MAX = 1000  # of traffic, each with a seed of its own
ARRIVALS: Mapping[str, Callable[[float, float, int, LoadPlan], Schedule]] = {
    "poisson": lambda rate, seconds, seed, _: poisson(rate, seconds, seed),
    "constant": lambda rate, seconds, _, __: constant(rate, seconds),
    "bursty": lambda rate, seconds, seed, plan: bursty(rate, seconds, seed, dwell_seconds=plan.dwell_ms / 1e3),
    "pulsed": lambda rate, seconds, seed, _: pulsed(rate, seconds, seed),
}

Watch = Callable[[str, Progress], None]


@dataclass(frozen=True, slots=True)
class Phase:
    """A part of a run: "closed", or "open" with the load as a part of what the closed loop answered."""

    kind: str
    connections: int
    load: float | None = None

    def __str__(self) -> str:
        return f"{self.kind} c={self.connections}" if self.load is None else f"{self.kind} {self.load:.0%}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One measured run. `batch_sizes` counts batches by their size's upper bound, where the server tells."""

    scenario: str
    target: str
    dialect: str
    phase: Phase
    round: int
    measurement: Measurement
    batch_sizes: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class RunOptions:
    """How long and how often; `loads` and `connections` replace the scenario's."""

    folder: Path
    seconds: float = 8.0
    rounds: int = 3
    loads: Sequence[float] | None = None
    connections: int | None = None
    depth: int | None = None
    watch: Watch = lambda _, __: None


def run_rounds(targets: Sequence[Target], prepared: Prepared, options: RunOptions) -> Iterator[Sample]:
    """Run a scenario on every target in turn, as often as there are rounds: a machine that slows down slows all.

    First every closed loop, unless the scenario says what is full load; the median of what it answered is what the
    open loops get parts of.
    """
    full = prepared.full_rate
    answered: dict[str, list[float]] = {target.name: [] for target in targets}
    for number in range(options.rounds):
        for target in targets if full is None else ():
            sample = _closed_round(target, prepared, options, number)
            answered[target.name].append(sample.measurement.answered_rate)
            yield sample
    for number in range(options.rounds):
        for target in targets:
            yield from _open_round(target, prepared, options, number, full or statistics.median(answered[target.name]))


def penstock_for(scenario: Scenario, dialect: Dialect | None = None) -> PenstockTarget:
    """Make the target that serves a scenario as it asks for."""
    settings = Settings(scenario.settings, scenario.server)
    return PenstockTarget(dialect=dialect or PenstockJson(), arguments=scenario.serve, settings=settings)


def _closed_round(target: Target, prepared: Prepared, options: RunOptions, number: int) -> Sample:
    """Start a server, find how much it answers and check every answer; WrongAnswerError at a wrong one."""
    with target.serve(prepared.models, options.folder / target.name) as running:
        corpus = prepared.corpus(running.dialect, known=not isinstance(running, Nginx))
        found = sample_closed(running, corpus, _plan(prepared.scenario, options), options)
    return _sample(target, prepared, Phase("closed", found[0].connections), number, *found)


def _open_round(
    target: Target, prepared: Prepared, options: RunOptions, number: int, capacity: float
) -> Iterator[Sample]:
    """Start a server, offer it the scenario's parts of its capacity and check every answer."""
    plan = prepared.scenario.load
    loads = plan.loads if options.loads is None else options.loads
    if not loads:
        return
    with target.serve(prepared.models, options.folder / target.name) as running:
        corpus = prepared.corpus(running.dialect, known=not isinstance(running, Nginx))
        sample_closed(running, corpus, plan, replace(options, seconds=_warm_up(options.seconds)))
        for load in loads:
            with _disturbing(prepared.scenario, running, corpus):
                found = sample_open(running, corpus, plan, capacity * load, options, number + 1)
            yield _sample(target, prepared, Phase("open", found[0].connections, load), number, *found)


def sample_closed(
    running: Running, corpus: Corpus, plan: LoadPlan, options: RunOptions
) -> tuple[Measurement, Mapping[str, float]]:
    """Measure how much a server answers when every connection always asks."""
    load = Load(
        Address.parse(running.address),
        corpus,
        ClosedLoop(options.seconds + _warm_up(options.seconds)),
        connections=plan.connections,
        depth=plan.depth,
        warm_up=_warm_up(options.seconds),
    )
    return _measured(running, load, options.watch)


def sample_open(
    running: Running, corpus: Corpus, plan: LoadPlan, rate: float, options: RunOptions, seed: int
) -> tuple[Measurement, Mapping[str, float]]:
    """Measure latency at a rate, whatever the server does with it."""
    return _measured(running, _open_load(running, corpus, plan, rate, options, seed), options.watch)


def record_open(
    running: Running, corpus: Corpus, plan: LoadPlan, rate: float, options: RunOptions, seed: int
) -> tuple[Recording, Measurement]:
    """Measure as sample_open() does, and keep every request."""
    load = _open_load(running, corpus, plan, rate, options, seed)
    recording, measurement = measure(load, running.pid, watch=lambda progress: options.watch(_name(load), progress))
    recording.check()
    return recording, measurement


def _open_load(running: Running, corpus: Corpus, plan: LoadPlan, rate: float, options: RunOptions, seed: int) -> Load:
    warm_up = _warm_up(options.seconds)
    return Load(
        Address.parse(running.address),
        corpus,
        _schedule(corpus, plan, rate, options.seconds + warm_up, seed),
        connections=plan.open_connections,
        depth=plan.depth,
        warm_up=warm_up,
        spin_us=SPIN_US,
        seed=seed,
    )


def _schedule(corpus: Corpus, plan: LoadPlan, rate: float, seconds: float, seed: int) -> Schedule:
    if not any(traffic.arrivals for traffic in corpus.traffics):
        return ARRIVALS[plan.arrivals](rate, seconds, seed, plan)
    total = sum(traffic.share for traffic in corpus.traffics)
    return merge(
        [
            ARRIVALS[traffic.arrivals or plan.arrivals](
                rate * traffic.share / total, seconds, seed * KINDS_MAX + kind, plan
            )
            for kind, traffic in enumerate(corpus.traffics)
        ]
    )


def _name(load: Load) -> str:
    return "closed loop" if isinstance(load.arrivals, ClosedLoop) else f"{load.arrivals.rate:,.0f}/s"


def _measured(running: Running, load: Load, watch: Watch) -> tuple[Measurement, Mapping[str, float]]:
    models = {traffic.model for traffic in load.corpus.traffics}

    def count() -> tuple[float, float] | None:
        counted = [running.batches(model) for model in models]
        known = [each for each in counted if isinstance(each, Batches)]
        return (sum(each.rows for each in known), sum(each.batches for each in known)) if known else None

    before = _batch_sizes(running)
    recording, measurement = measure(load, running.pid, count, lambda progress: watch(_name(load), progress))
    recording.check()
    sizes = {bound: total - before.get(bound, 0.0) for bound, total in _batch_sizes(running).items()}
    return measurement, {bound: total for bound, total in sizes.items() if total > 0}


def _batch_sizes(running: Running) -> dict[str, float]:
    return running.batch_sizes() if isinstance(running, Penstock) else {}


def _sample(
    target: Target,
    prepared: Prepared,
    phase: Phase,
    number: int,
    measurement: Measurement,
    batch_sizes: Mapping[str, float],
) -> Sample:
    dialect = measurement.kinds[0].dialect
    return Sample(prepared.scenario.name, target.name, dialect, phase, number, measurement, batch_sizes)


def _plan(scenario: Scenario, options: RunOptions) -> LoadPlan:
    plan = scenario.load
    given = {"connections": options.connections or plan.connections, "depth": options.depth or plan.depth}
    return msgspec.structs.replace(plan, **given)


def _disturbing(scenario: Scenario, running: Running, corpus: Corpus) -> AbstractContextManager[None]:
    disturbance = scenario.disturbance
    if not isinstance(running, Penstock) or disturbance == type(disturbance)():
        return nullcontext()
    request = corpus.requests[: int(corpus.offsets[1])].tobytes()
    return disturbing(disturbance, running.port, running.worker_pids, request)


def _warm_up(seconds: float) -> float:
    return min(WARM_UP_SECONDS_MAX, max(0.2, seconds * WARM_UP_SHARE))
