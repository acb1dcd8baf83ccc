"""The figures that Penstock must reach, measured and judged."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from bench.bare import run_bare
from bench.large_rows import run_large_rows
from bench.nginx import NginxTarget
from bench.run import RunOptions, sample_closed
from bench.scenario import LoadPlan, Prepared, load_scenario, prepare
from bench.server import PenstockTarget, penstock
from bench.spread import Spread, spread
from bench.targets import Target
from bench.verdicts import Verdict, at_least, at_most, note_of
from penstock.load.accounting import memory_of, snapshot, usage
from penstock.load.dialects import PenstockJson, PenstockRaw
from penstock.load.measurement import Cost, Measurement

__all__ = ["CHECKS", "Acceptance"]

MIB = 1 << 20
IDLE_SECONDS = 10.0


@dataclass(frozen=True, slots=True)
class Acceptance:
    """What the checks need."""

    folder: Path
    options: RunOptions

    def prepared(self, name: str) -> Prepared:
        """Make the models and rows of a scenario."""
        return prepare(load_scenario(name), self.folder / "models")

    def alternate(
        self, targets: Sequence[Target], prepared: Prepared, *connections: int
    ) -> Iterator[tuple[Target, int, Measurement]]:
        """Run servers side by side and load them in turn, in a closed loop over each number of connections."""
        with ExitStack() as running:
            up = [
                (target, running.enter_context(target.serve(prepared.models, self.folder / target.name)))
                for target in targets
            ]
            for _ in range(self.options.rounds):
                for count in connections:
                    for target, server in up:
                        corpus = prepared.corpus(server.dialect, known=target.name != "nginx")
                        plan = LoadPlan(connections=count)
                        yield target, count, sample_closed(server, corpus, plan, self.options)[0]

    def beside_nginx(self, scenario: str, *connections: int) -> dict[int, tuple[list[Measurement], list[Measurement]]]:
        """Collect Penstock's and nginx's figures by connections."""
        found: dict[int, tuple[list[Measurement], list[Measurement]]] = {count: ([], []) for count in connections}
        targets: list[Target] = [PenstockTarget(), NginxTarget()]
        for target, count, measured in self.alternate(targets, self.prepared(scenario), *connections):
            found[count][target.name == "nginx"].append(measured)
        return found


def check_throughput(acceptance: Acceptance) -> Iterator[Verdict]:
    """W1, JSON, 64 and 256 connections, against nginx."""
    by_connections = acceptance.beside_nginx("w1", 64, 256)
    ours, theirs = by_connections[64]
    more, _ = by_connections[256]
    note = note_of([*ours, *theirs])
    ratio = _ratio(ours, theirs, lambda run: run.answered_rate)
    yield at_least(
        "w1 json c=64: requests/s over nginx's", ratio.median, 0.75, f"{ratio}: {_rates(ours, theirs)}", note
    )
    yield _errors("w1 json", [*ours, *theirs, *more])
    cpu = spread(_cost(run).cpu_us for run in ours)
    theirs_cpu = spread(_cost(run).cpu_us for run in theirs)
    yield at_most("w1 json c=64: server CPU us/request", cpu.median, 9.0, f"{cpu}; nginx {theirs_cpu}", note)
    user = spread(_cost(run).user_us for run in ours)
    yield at_most("w1 json c=64: of it in user space", user.median, 1.8, str(user), note)
    growth = _ratio(more, ours, lambda run: run.answered_rate)
    # "No slower" within what the same configuration differs from itself from run to run.
    yield at_least(
        "w1 json c=256: requests/s over those at c=64",
        growth.median,
        0.95,
        f"{growth}: {_rates(more, ours)}",
        note_of(more),
    )


def check_latency(acceptance: Acceptance) -> Iterator[Verdict]:
    """W1, JSON, one connection, against nginx."""
    ours, theirs = acceptance.beside_nginx("w1", 1)[1]
    ratio = _ratio(ours, theirs, _p50)
    p50s = ", ".join(f"{_p50(own):.0f}/{_p50(other):.0f} us" for own, other in zip(ours, theirs, strict=True))
    yield at_most("w1 json c=1: p50 over nginx's", ratio.median, 1.5, f"{ratio}: {p50s}", note_of([*ours, *theirs]))


def check_computing(acceptance: Acceptance) -> Iterator[Verdict]:
    """W2, 64 connections, against a bare loop at the batch size that was seen, right after each run."""
    prepared = acceptance.prepared("w2")
    for dialect, wanted in ((PenstockJson(), 0.80), (PenstockRaw(), 0.90)):
        ratios, details, runs = [], [], []
        for _, _, measured in acceptance.alternate([PenstockTarget(dialect=dialect)], prepared, 64):
            batch = max(1, round(measured.mean_batch or 1))
            bare = run_bare(prepared.models["w2"], batch, acceptance.options.seconds / 2)
            ratios.append(measured.answered_rate / bare.rows_per_second)
            details.append(f"{measured.answered_rate:,.0f}/{bare.rows_per_second:,.0f} at {batch}")
            runs.append(measured)
        ratio = spread(ratios)
        what = f"w2 {dialect.name} c=64: rows/s over the bare loop's"
        yield at_least(what, ratio.median, wanted, f"{ratio}: {', '.join(details)}", note_of(runs))


def check_idle(acceptance: Acceptance) -> Iterator[Verdict]:
    """CPU of a server that nobody asks, and the size of a main process without models."""
    models = {**acceptance.prepared("w1").models, **acceptance.prepared("w2").models}
    with penstock(acceptance.folder / "idle", models) as server:
        time.sleep(2)  # the start is not idleness
        before = snapshot(server.pid)
        time.sleep(IDLE_SECONDS)
        used = usage(before, snapshot(server.pid))
        share = used.tree.total / used.seconds * 100
        yield at_most("idle, two models: % of a core", share, 0.5, f"{share:.3f}")
    with penstock(acceptance.folder / "empty", {}) as server:
        for path in ("/models", "/openapi.json", "/metrics", "/health/ready"):
            server.request("GET", path)
        memory = memory_of(server.pid)
        got = f"{memory.rss / MIB:.0f} (PSS {memory.pss / MIB:.0f})"
        yield at_most("main process without models: MB resident", memory.rss / 1e6, 120, got)


def check_large_rows(acceptance: Acceptance) -> Iterator[Verdict]:
    """128 B, 600 KB and 10 MB rows beside each other over 1,024 connections."""
    result = run_large_rows(acceptance.folder / "large", max(10.0, acceptance.options.seconds))
    sizes = f"{result.rss_max / MIB:,.0f} MiB, {result.rss_before / MIB:,.0f} before"
    yield at_most(
        "mixed rows: main's memory over its budget",
        result.rss_max / result.budget,
        1.0,
        f"{sizes}, budget {result.budget / MIB:,.0f}",
    )
    away = f"{result.longest_pass_ms:.2f} ({result.longest_pass_before_ms:.2f} before the load)"
    yield at_most("mixed rows: longest pass of the I/O loop, ms", result.longest_pass_ms, 5.0, away)
    answered = ", ".join(f"{count} {name}" for name, count in result.answered.items())
    every = set(result.answered) == {"small", "medium", "large"}
    yield Verdict(
        "mixed rows: answers",
        "all sizes, none wrong",
        f"{answered}; failed {result.failed}",
        every and not result.failed,
    )


CHECKS: dict[str, Callable[[Acceptance], Iterator[Verdict]]] = {
    "throughput": check_throughput,
    "latency": check_latency,
    "computing": check_computing,
    "idle": check_idle,
    "large-rows": check_large_rows,
}


def _ratio(
    ours: Sequence[Measurement], theirs: Sequence[Measurement], figure: Callable[[Measurement], float]
) -> Spread:
    """Ratios of a figure within each round."""
    return spread(figure(own) / figure(other) for own, other in zip(ours, theirs, strict=True))


def _rates(ours: Sequence[Measurement], theirs: Sequence[Measurement]) -> str:
    pairs = zip(ours, theirs, strict=True)
    return ", ".join(f"{own.answered_rate:,.0f}/{other.answered_rate:,.0f}" for own, other in pairs)


def _errors(what: str, runs: Sequence[Measurement]) -> Verdict:
    errors = sum(run.failed for run in runs)
    return Verdict(f"{what}: errors", "0", str(errors), errors == 0)


def _cost(run: Measurement) -> Cost:
    if run.cost is None:
        raise RuntimeError("nothing was answered")
    return run.cost


def _p50(run: Measurement) -> float:
    if run.latency is None:
        raise RuntimeError("nothing was answered")
    return run.latency.p50
