"""What a plan costs: the CPU time of a whole server for each request of W1, without a plan and with one."""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from pathlib import Path

from bench.run import RunOptions, penstock_for, sample_closed
from bench.scenario import Prepared, load_scenario, prepare
from bench.server import Penstock

__all__ = ["PLANS", "PlannedResult", "planned_table", "run_planned"]

PLANS: Mapping[str, str] = {
    "w1": "none",
    "w1-answer": "label and confidence",
    "w1-record": "20 mixed fields to 32 numbers, label and confidence",
}


@dataclass(frozen=True, slots=True)
class PlannedResult:
    """One run of a scenario: requests per second, microseconds of CPU for a request, rows in a batch."""

    scenario: str
    rate: float
    cpu_us: float
    batch_rows: float


def run_planned(folder: Path, options: RunOptions) -> Iterator[PlannedResult]:
    """Ask the three servers in turn, in another order each round; every answer is checked."""
    prepared = {name: prepare(load_scenario(name), folder / name) for name in PLANS}
    with ExitStack() as running:
        servers = {
            name: running.enter_context(penstock_for(each.scenario).serve(each.models, folder / f"server-{name}"))
            for name, each in prepared.items()
        }
        for name, server in servers.items():
            _measure(name, server, prepared[name], replace(options, seconds=0.5))
        for number in range(options.rounds):
            first = number % len(PLANS)
            for name in [*PLANS][first:] + [*PLANS][:first]:
                yield _measure(name, servers[name], prepared[name], options)


def planned_table(results: Sequence[PlannedResult]) -> str:
    """Show the medians. What a plan adds is the median of the differences within each round."""
    lines = [
        "| plan | requests/s | CPU a request, us | against none, us | rows a batch |",
        "| --- | --: | --: | --: | --: |",
    ]
    by_name = {name: [each for each in results if each.scenario == name] for name in PLANS}
    for name, runs in by_name.items():
        added = statistics.median(run.cpu_us - plain.cpu_us for run, plain in zip(runs, by_name["w1"], strict=True))
        rate, cpu, rows = (
            statistics.median(getattr(run, part) for run in runs) for part in ("rate", "cpu_us", "batch_rows")
        )
        lines.append(f"| {PLANS[name]} | {rate:,.0f} | {cpu:.2f} | {added:+.2f} | {rows:.0f} |")
    return "\n".join(lines)


def _measure(name: str, server: Penstock, prepared: Prepared, options: RunOptions) -> PlannedResult:
    found, _ = sample_closed(server, prepared.corpus(server.dialect), prepared.scenario.load, options)
    assert found.cost is not None
    return PlannedResult(name, found.answered_rate, found.cost.cpu_us, found.mean_batch or 0.0)
