"""Commands that compare two revisions of Penstock."""

from __future__ import annotations

import itertools
import sys
from collections.abc import Callable
from typing import Annotated

import typer

from bench.cli.app import app, dialect_named, running
from bench.gate.instructions import InstructionsOptions, instructions
from bench.gate.latency import GateOptions, gate
from bench.gate.revisions import WORKTREE, Tree
from bench.run import RunOptions, sample_open
from bench.scenario import LoadPlan, Prepared, load_scenario, prepare
from bench.server import PenstockTarget
from penstock.core.errors import LoadError

VOID_RUNS_MAX = 3
NOT_JUDGED = 2


@app.command("gate")
def gate_command(
    base: Annotated[str, typer.Argument(help="The revision to compare with.")],
    head: Annotated[str, typer.Argument(help="The revision to judge; the working tree if not given.")] = WORKTREE,
    scenario: Annotated[str, typer.Option(help="What is run.")] = "w1",
    dialect: Annotated[str, typer.Option(help="How rows travel.")] = "json",
    rate: Annotated[float, typer.Option(min=1, help="Requests per second, well below the capacity.")] = 5000.0,
    seconds: Annotated[float, typer.Option(min=1, help="Measured seconds of each run.")] = 8.0,
) -> None:
    """Say whether the p99 got worse: exit 0 no, 1 yes, 2 when this machine is too noisy to tell."""
    with running() as folder:
        prepared = prepare(load_scenario(scenario), folder / "models")
        measure = _measure(prepared, dialect, rate, RunOptions(folder, seconds=seconds))
        try:
            raise typer.Exit(gate(base, head, GateOptions(measure)))
        except (LoadError, ValueError) as error:
            print(f"not judged: {error}", file=sys.stderr)
            raise typer.Exit(NOT_JUDGED) from None


@app.command("instructions")
def instructions_command(
    update: Annotated[bool, typer.Option("--update", help="Make today's counts the baseline.")] = False,
    revision: Annotated[str, typer.Option(help="What is counted.")] = WORKTREE,
) -> None:
    """Count the instructions of a fixed replay, which no noise moves: exit 1 when a stage got 3 % dearer."""
    raise typer.Exit(instructions(InstructionsOptions(revision=revision, update=update)))


def _measure(prepared: Prepared, dialect: str, rate: float, options: RunOptions) -> Callable[[Tree], float]:
    """Return what starts a tree's server afresh and gives its p99; a run whose generator fell behind is run again."""
    runs = itertools.count()

    def measure(tree: Tree) -> float:
        seed = 1 + next(runs) // 2  # the two runs of a pair get the same arrivals
        for _ in range(VOID_RUNS_MAX):
            target = PenstockTarget(dialect=dialect_named(dialect), source=tree.server)
            with target.serve(prepared.models, options.folder / "server") as server:
                corpus = prepared.corpus(server.dialect)
                plan = LoadPlan(arrivals="poisson")
                found, _ = sample_open(server, corpus, plan, rate, options, seed)
            if found.failed:
                # The p99 is that of the answered: whoever refuses its slow requests must not look faster.
                raise LoadError(f"{found.failed} of {found.requests} requests failed: {dict(found.errors)}")
            if found.latency is not None and not found.void:
                return found.latency.p99
        reason = "; ".join(found.void) or "nothing was answered"
        raise LoadError(f"{VOID_RUNS_MAX} runs in a row meant nothing: {reason}")

    return measure
