"""Commands that measure Penstock against fixed figures, and what those are made of."""

from __future__ import annotations

import asyncio
import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.accept import CHECKS, Acceptance
from bench.bare import run_bare
from bench.cli.app import Out, Rounds, Seconds, app, keep, numbers, options_for, running, words
from bench.engine import ENGINE_CHECKS, Engine
from bench.models import write_models
from bench.planned import PlannedResult, planned_table, run_planned
from bench.programs import run_micro, time_stages
from bench.registry import LIST_MS_MAX, time_lists
from bench.results import Results
from bench.scenario import load_scenario, prepare
from bench.soak import SoakOptions, run_soak
from bench.tracing import TracingResult, run_tracing, tracing_table
from bench.verdicts import print_verdicts, shown

MICRO = ("kernels", "ring", "scheduler", "http", "codec", "record", "cache")


@app.command("accept")
def judge(
    engine: Annotated[
        bool, typer.Option("--engine", help="Those of the batch engine instead of the server's.")
    ] = False,
    only: Annotated[
        str | None, typer.Option(help=f"Some of {', '.join(CHECKS)}; with --engine of {', '.join(ENGINE_CHECKS)}.")
    ] = None,
    seconds: Seconds = 8.0,
    rounds: Rounds = 3,
) -> None:
    """Judge the figures that must be reached; fails when one is missed."""
    results = Results(shlex.join(sys.argv[1:]))
    print(results.machine, flush=True)
    known = list(ENGINE_CHECKS if engine else CHECKS)
    names = known if only is None else words(only, lambda: known, "check")
    with running() as folder, options_for(folder, 0, seconds=seconds, rounds=rounds) as options:
        acceptance = Acceptance(folder, options)
        judged = Engine(acceptance)
        for name in names:
            results.verdicts += shown(ENGINE_CHECKS[name](judged) if engine else CHECKS[name](acceptance))
        results.capacities += judged.capacities.values()
    print_verdicts(results.verdicts)
    print(f"\n{results.save()}")
    if not all(verdict.reached for verdict in results.verdicts):
        raise typer.Exit(1)


@app.command("bare")
def bare(
    models: Annotated[
        list[Path] | None, typer.Argument(exists=True, help="ONNX models; W1 and W2 without any.")
    ] = None,
    batch: Annotated[str, typer.Option(help="Batch sizes.")] = "1,8,32,64,256",
    seconds: Seconds = 3.0,
) -> None:
    """Measure ONNX Runtime's session.run in a loop, without any server."""
    results = Results(shlex.join(sys.argv[1:]))
    with running() as folder:
        for path in models or write_models(folder).values():
            for size in numbers(batch, "batch sizes"):
                results.bare.append(run_bare(path, int(size), seconds))
        keep(results, None)


@app.command("features")
def features(
    batch: Annotated[str, typer.Option(help="Batch sizes.")] = "1,64,4096",
    seconds: Seconds = 0.5,
    rounds: Rounds = 5,
) -> None:
    """Time the features of 20 mixed columns beside scikit-learn's ColumnTransformer, per row and core."""
    # scikit-learn and pandas, which nothing else here needs.
    from bench.features import time_features

    sizes = tuple(int(size) for size in numbers(batch, "batch sizes"))
    print(f"{'rows':>6}  {'scikit-learn':>14}  program, ns a row")
    with running():
        for times in time_features(sizes, rounds, seconds):
            lanes = "  ".join(f"{lane} {ns:.0f}" for lane, ns in times.lanes_ns.items())
            print(f"{times.rows:>6}  {times.sklearn_ns:>11.0f} ns  {lanes}", flush=True)


@app.command("records")
def records(seconds: Seconds = 0.5, rounds: Rounds = 5) -> None:
    """Time reading a record of 20 mixed fields from Python, beside msgspec and pydantic; natively it is `micro`'s."""
    # pydantic, which nothing else here needs.
    from bench.records import time_records

    with running():
        for name, ns in time_records(rounds, seconds).items():
            print(f"{name:<28} {ns:>8.0f} ns", flush=True)


@app.command("planned")
def planned(seconds: Seconds = 4.0, rounds: Rounds = 5) -> None:
    """Measure what a request of W1 costs the server: without a plan, with a label, from a record of 20 fields."""
    found: list[PlannedResult] = []
    with running() as folder, options_for(folder, 0, seconds=seconds, rounds=rounds) as options:
        for result in run_planned(folder, options):
            print(result, flush=True)
            found.append(result)
    print(planned_table(found))


@app.command("stages")
def stages(out: Out = None) -> None:
    """Time each stage of a request in a fixed replay, on one thread and without sockets."""
    results = Results(shlex.join(sys.argv[1:]))
    with running():
        results.stages = {case: dict(costs) for case, costs in time_stages().items()}
    keep(results, out)


@app.command("micro")
def micro(only: Annotated[str, typer.Option(help=f"Some of {', '.join(MICRO)}.")] = ",".join(MICRO)) -> None:
    """Time ring, codecs, HTTP and kernels by themselves, each line beside its limit."""
    with running():
        for table in run_micro(words(only, lambda: list(MICRO), "micro-benchmark")):
            print(table, flush=True)


@app.command("registry")
def registry(
    versions: Annotated[int, typer.Option(min=1000)] = 10_000,
    store: Annotated[
        str | None, typer.Option(help="An empty database, such as postgresql://USER@HOST/DATABASE; SQLite without.")
    ] = None,
) -> None:
    """Time lists of many registered versions; fails when one that is not the first takes longer than its limit."""
    with running() as folder:
        times = asyncio.run(time_lists(store or f"sqlite:///{folder}/penstock.db", folder, versions))
    print(times)
    if max(times.later, times.changed, times.model) > LIST_MS_MAX:
        raise typer.Exit(1)


@app.command("traces")
def traces(seconds: Seconds = 4.0, rounds: Rounds = 5) -> None:
    """Measure what a request costs the whole server, its exporter included, by how many requests are traced."""
    found: list[TracingResult] = []
    with running() as folder, options_for(folder, 0, seconds=seconds, rounds=rounds) as options:
        for result in run_tracing(prepare(load_scenario("w1"), folder / "models"), options):
            print(result, flush=True)
            found.append(result)
    print(tracing_table(found))


@app.command("soak")
def soak(
    minutes: Annotated[float, typer.Option(min=0.05)] = 30.0,
    clients: Annotated[int, typer.Option(min=1)] = 8,
    kill_every: Annotated[float, typer.Option(min=0.1, help="Seconds between killed workers.")] = 10.0,
    seed: int = 1,
) -> None:
    """Load a server in every way at once: good and bad rows, bad clients, killed workers."""
    with running() as folder:
        result = run_soak(SoakOptions(folder, minutes * 60, clients, kill_every, seed))
    print(result)
    failures = result.failures()
    print("\n".join(failures) or "no wrong answer, none lost, memory flat, no lost wake-up")
    if failures:
        raise typer.Exit(1)


@app.command("models")
def models(folder: Path) -> None:
    """Write W1 and W2 into a folder."""
    for path in write_models(folder).values():
        print(path)
