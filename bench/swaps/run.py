"""The run: a server, versions in turn under half of what it can answer, clients that check, and rollbacks."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from threading import Event
from time import monotonic_ns
from typing import Any, TypeVar

from bench.run import RunOptions, sample_closed
from bench.scenario import LoadPlan
from bench.server import Penstock, PenstockTarget, Settings
from bench.swaps.answers import KnownAnswers, problems_of
from bench.swaps.clients import Checked, checking, outdated
from bench.swaps.result import LEVEL_AFTER, WARM_UP_SECONDS, Round, SwapOptions, SwapResult
from bench.swaps.rollback import rollbacks
from bench.swaps.seconds import seconds_of
from bench.swaps.sizes import settled_sizes
from bench.swaps.versions import MODEL, SwapError, Swapper, known_answers, register_versions
from penstock.load.corpus import Corpus, Traffic
from penstock.load.dialects import PenstockJson
from penstock.load.generator import Address, Load
from penstock.load.measurement import Measurement, measure
from penstock.load.recording import Recording
from penstock.load.rows import TensorSpec
from penstock.load.schedule import poisson

__all__ = ["run_swaps"]

CAPACITY_SECONDS = 4.0
ROLLBACK_SECONDS = 1.0
OUTPUT = TensorSpec("y", "float32", (3,))

_T = TypeVar("_T")


def run_swaps(options: SwapOptions) -> SwapResult:
    """Run to the end. SwapError when a version does not take over or does not leave."""
    known = known_answers()
    # Without a standby every swap loads anew.
    with _serving(options, "swaps", standby_s=0) as server:
        rate = options.rate or options.load * _capacity(server, known, options)
        result = SwapResult(options.form, rate)
        swapper = Swapper(server, options.burst, options.rest_seconds)
        while result.swaps < options.swaps:
            _swap_for_a_round(server, known, options, swapper, result)
            options.note(str(result))
            result.start = result.start or settled_sizes(server.pid)
            if result.level is None and LEVEL_AFTER <= result.swaps < options.swaps:
                result.level = settled_sizes(server.pid)
        result.end = settled_sizes(server.pid)
    if options.rollbacks:
        with _serving(options, "rollbacks") as server:
            _roll_back(server, known, options, result)
    return result


@contextmanager
def _serving(options: SwapOptions, name: str, **settings: Any) -> Iterator[Penstock]:
    """Serve the registered versions until the block ends; the second one answers at first."""
    folder = options.folder / name
    server = {"development": True, "data_dir": str((folder / "data").absolute()), **settings}
    with PenstockTarget(settings=Settings(server=server)).serve({}, folder) as running:
        register_versions(running, options.form, options.folder / "models" / options.form)
        yield running


def _swap_for_a_round(
    server: Penstock, known: KnownAnswers, options: SwapOptions, swapper: Swapper, result: SwapResult
) -> None:
    """Swap under a load until it ends, judge everything that was answered, and add it to the result."""
    count = min(options.round_swaps, options.swaps - result.swaps)
    load_seconds = options.round_seconds(swapper.expected_seconds, swapper.longest_seconds)
    load = _load(server, known, options, result.rate, load_seconds, seed=len(result.rounds) + 1)

    def swap(ends_ns: int, stop: Event) -> list[Any]:
        stop.wait(WARM_UP_SECONDS)
        return swapper.run(ends_ns, count, stop)

    with checking(server.port, MODEL, known, options.clients) as checked:
        recording, measurement, swaps = _under_load(server, load, options, swap)
    if not swaps:
        raise SwapError(f"no swap fits into a load of {load_seconds} s: they take too long here")
    measured = range(WARM_UP_SECONDS, load_seconds)
    seconds = seconds_of(recording.records, recording.started_ns, measured, swaps)
    _judge(recording, known, checked, result)
    result.outdated += outdated(checked.seen, swaps)
    result.rounds.append(Round(tuple(swaps), tuple(seconds), measurement))


def _roll_back(server: Penstock, known: KnownAnswers, options: SwapOptions, result: SwapResult) -> None:
    """Roll back under the same load, to a version that is still in memory."""
    seconds = WARM_UP_SECONDS + options.rollbacks * ROLLBACK_SECONDS
    load = _load(server, known, options, result.rate, seconds, seed=len(result.rounds) + 1)
    with checking(server.port, MODEL, known, options.clients, pause_seconds=0.001) as checked:
        recording, _, times = _under_load(
            server, load, options, lambda ends_ns, stop: rollbacks(server, checked, options.rollbacks, ends_ns)
        )
    _judge(recording, known, checked, result)
    result.rollback_seconds += times


def _under_load(
    server: Penstock, load: Load, options: SwapOptions, act: Callable[[int, Event], _T]
) -> tuple[Recording, Measurement, _T]:
    """Do something while a load runs. `act` is told when the load ends, and to stop when it ends early."""
    stop = Event()
    with ThreadPoolExecutor(1) as beside:
        acting = beside.submit(act, monotonic_ns() + int(load.seconds * 1e9), stop)
        try:
            recording, measurement = measure(load, server.pid, watch=lambda moment: options.watch("swaps", moment))
        finally:
            stop.set()
        return recording, measurement, acting.result()


def _judge(recording: Recording, known: KnownAnswers, checked: Checked, result: SwapResult) -> None:
    """Count what was answered, what failed and what was wrong, of the load and of the clients that check."""
    result.requests += len(recording.records)
    result.errors.update(recording.errors())  # of all requests: there is no warm-up
    wrong, problems = problems_of(recording, known)
    result.checked += checked.answers
    if checked.failed:
        result.errors["of a checking client"] += checked.failed
    result.wrong += wrong + checked.mixed
    result.problems += [*problems, *checked.problems]


def _capacity(server: Penstock, known: KnownAnswers, options: SwapOptions) -> float:
    """Find how much is answered when every connection always asks."""
    plan = LoadPlan(connections=options.connections)
    run = RunOptions(options.folder, seconds=CAPACITY_SECONDS, watch=options.watch)
    return sample_closed(server, _corpus(known), plan, run)[0].answered_rate


def _load(server: Penstock, known: KnownAnswers, options: SwapOptions, rate: float, seconds: float, seed: int) -> Load:
    return Load(
        Address.parse(server.address),
        _corpus(known),
        poisson(rate, seconds, seed),
        connections=options.connections,
        warm_up=0.0,  # a request that fails in the first second has failed
        # Without spinning: a generator that is always at work takes the time in which new versions load.
        seed=seed,
    )


def _corpus(known: KnownAnswers) -> Corpus:
    """Write the requests. What is right depends on the version, which is judged afterwards."""
    return Corpus.of([Traffic(MODEL, PenstockJson(), known.rows, [OUTPUT])])
