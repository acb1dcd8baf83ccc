"""Commands that put servers under load: scenarios, capacity, rivals, and reports of earlier runs."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Annotated

import typer

from bench.bare import run_bare
from bench.cached_rows import run_cached_rows
from bench.capacity import capacity_of, device_capacity
from bench.cli.app import (
    Connections,
    DialectName,
    Out,
    Rounds,
    Seconds,
    app,
    dialect_named,
    keep,
    numbers,
    options_for,
    running,
    words,
)
from bench.many_rows import run_many_rows
from bench.nginx import NginxTarget
from bench.peers.catalogue import RIVALS
from bench.peers.compare import compare, planned_seconds
from bench.report import markdown, print_tables, write_report
from bench.results import Results, read_results
from bench.run import penstock_for, run_rounds
from bench.scenario import Prepared, load_scenario, prepare, scenario_names
from bench.server import PenstockTarget
from bench.shared_rows import run_shared_rows
from bench.streamed_rows import STREAMS, run_streamed_rows
from bench.targets import NotInstalledError, Target
from bench.theory import affine, bound
from penstock.load.dialects import PenstockMsgpack

ENVIRONMENTS = Path("build/peers")
BARE_BATCHES = (1, 4, 16, 64)


@app.command("run")
def run(
    scenarios: Annotated[str, typer.Argument(help="Some of the scenarios, or .toml files; 'all' for all.")] = "w1",
    dialects: DialectName = "json",
    loads: Annotated[str | None, typer.Option(help="Parts of the capacity, as 0.5,0.9.")] = None,
    connections: Connections = None,
    depth: Annotated[int | None, typer.Option(min=1, help="Requests in flight on each connection.")] = None,
    beside_nginx: Annotated[bool, typer.Option(help="Measure nginx's fixed answer in the same rounds.")] = False,
    seconds: Seconds = 8.0,
    rounds: Rounds = 3,
    out: Out = None,
) -> None:
    """Run scenarios on Penstock: a closed loop finds the capacity, then an open loop offers parts of it."""
    names = scenario_names() if scenarios == "all" else scenarios.split(",")
    chosen = [dialect_named(name) for name in dialects.split(",")]
    parts = None if loads is None else numbers(loads, "loads")
    results = Results(shlex.join(sys.argv[1:]))
    with running() as folder:
        for name in names:
            scenario = load_scenario(name)
            prepared = prepare(scenario, folder / "models" / scenario.name)
            targets: list[Target] = [penstock_for(scenario, dialect) for dialect in chosen]
            if beside_nginx:
                targets.append(NginxTarget())
            runs = len(targets) * rounds * (1 + len(parts if parts is not None else scenario.load.loads))
            given = {"seconds": seconds, "rounds": rounds, "loads": parts, "connections": connections, "depth": depth}
            with options_for(folder / scenario.name, runs * (seconds + 2), **given) as options:
                results.samples += run_rounds(targets, prepared, options)
    keep(results, out)


@app.command("capacity")
def capacity(
    scenarios: Annotated[str, typer.Argument(help="Some of the scenarios.")] = "w1",
    slo_p99_ms: Annotated[
        float,
        typer.Option(min=0.1, help="99 % answered within this, 99.9 % in thrice. Devices have limits of their own."),
    ] = 20.0,
    dialects: DialectName = "json",
    connections: Connections = None,
    seconds: Seconds = 10.0,
    out: Out = None,
) -> None:
    """Find the highest Poisson rate at which a latency limit is proven to hold."""
    results = Results(shlex.join(sys.argv[1:]))
    with running() as folder:
        for name in scenarios.split(","):
            prepared = prepare(load_scenario(name), folder / "models" / Path(name).stem)
            for dialect in dialects.split(","):
                target = penstock_for(prepared.scenario, dialect_named(dialect))
                given = {"seconds": seconds, "connections": connections}
                with options_for(folder / Path(name).stem, 12 * seconds, **given) as options:
                    if prepared.lanes:
                        found = device_capacity(target, prepared, options)
                    else:
                        backend = _backend(prepared, seconds, slo_p99_ms, results)
                        found = capacity_of(target, prepared, slo_p99_ms, options, backend)
                results.capacities.append(found)
    keep(results, out)


@app.command("peers")
def peers(
    only: Annotated[str | None, typer.Option(help="Some of the rivals, by commas.")] = None,
    scenarios: Annotated[str, typer.Option(help="Scenarios whose models rivals can serve.")] = "w1,w2",
    seconds: Seconds = 5.0,
    rounds: Rounds = 3,
    environments: Annotated[Path, typer.Option(help="Where rivals are installed.")] = ENVIRONMENTS,
    out: Out = None,
) -> None:
    """Install the rivals and measure them beside Penstock, in turn; every answer is checked."""
    names = list(RIVALS) if only is None else words(only, lambda: list(RIVALS), "rival")
    results = Results(shlex.join(sys.argv[1:]))
    targets: list[Target] = [NginxTarget(), PenstockTarget(), PenstockTarget("penstock-msgpack", PenstockMsgpack())]
    targets += [RIVALS[name]() for name in names]
    with running() as folder:
        for name in words(scenarios, scenario_names, "scenario"):
            if not load_scenario(name).rivals:
                raise typer.BadParameter(f"rivals cannot serve the models of scenario {name!r}")
        ready = [target for target in targets if _is_installed(target, environments, results)]
        for name in words(scenarios, scenario_names, "scenario"):
            prepared = prepare(load_scenario(name), folder / "models" / name)
            planned = planned_seconds(len(ready), seconds, rounds)
            with options_for(folder / name, planned, seconds=seconds, rounds=rounds) as options:
                compare(ready, prepared, options, results)
    keep(results, out)


@app.command("report")
def report(
    files: Annotated[list[Path], typer.Argument(exists=True, dir_okay=False, help="Results of earlier runs.")],
    out: Annotated[Path, typer.Option(help="Folder for report.html and its pictures.")] = Path("build/report"),
    text: Annotated[Path | None, typer.Option("--markdown", help="Write the tables as Markdown too.")] = None,
) -> None:
    """Make one page of results."""
    try:
        found = read_results(files)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    for results in found:
        print_tables(results)
    if text is not None:
        text.parent.mkdir(parents=True, exist_ok=True)
        text.write_text(markdown(found))
        print(text)
    for written in write_report(found, out):
        print(written)


def _is_installed(target: Target, environments: Path, results: Results) -> bool:
    print(f"installing {target.name}", file=sys.stderr, flush=True)
    try:
        results.versions[target.name] = dict(target.install(environments))
    except NotInstalledError as error:
        results.not_run[target.name] = str(error)
        return False
    return True


def _backend(prepared: Prepared, seconds: float, slo_ms: float, results: Results) -> tuple[float, float] | None:
    """Measure the bare backend: (its offline rate, the bound under the limit); None for several models, or no ONNX."""
    paths = list(prepared.models.values())
    if len(paths) != 1 or paths[0].suffix != ".onnx":
        return None
    found = [run_bare(paths[0], batch, max(0.5, seconds / 8)) for batch in BARE_BATCHES]
    results.bare += found
    a, c = affine({each.batch: each.call_us / 1e6 for each in found})
    return max(each.rows_per_second for each in found), bound(a, c, slo_ms)


@app.command("cached")
def cached_rows(
    rows: Annotated[int, typer.Option(min=2, help="Rows in each request of many.")] = 10_000,
    seconds: Seconds = 3.0,
    rounds: Rounds = 2,
) -> None:
    """Ask for W1 rows of which some are known, and say what a row costs with the result cache and without."""
    print("| request | rows | known | server, ns of CPU a row | hits |")
    print("| --- | --- | --- | --- | --- |")
    with running() as folder:
        for number in range(rounds):
            for result in run_cached_rows(folder / str(number), rows, seconds):
                known = "cache off" if result.known is None else f"{result.known:.0%}"
                print(
                    f"| {result.way} | {result.rows} | {known} | {result.cpu_ns:,.0f} | {result.hits:.0%} |", flush=True
                )


@app.command("shared")
def shared_rows(
    redis: Annotated[str, typer.Argument(help="URL of a Redis.")],
    rows: Annotated[int, typer.Option(min=10, help="Rows asked for, one after the other.")] = 2000,
) -> None:
    """Ask servers that share a Redis for W1 rows: how long do answers take that are known here, there or nowhere?"""
    print("| row | p50, us | p90, us |")
    print("| --- | --: | --: |")
    with running() as folder:
        for result in run_shared_rows(folder, redis, rows):
            print(f"| {result.what} | {result.p50_us:.0f} | {result.p90_us:.0f} |")


@app.command("rows")
def many_rows(
    rows: Annotated[int, typer.Option(min=1, help="Rows in each body.")] = 10_000,
    batch_size: Annotated[int, typer.Option(min=1, help="max_batch_size of the model.")] = 64,
    seconds: Seconds = 4.0,
    rounds: Rounds = 3,
) -> None:
    """Send bodies of many W1 rows to /predict/batch, and say what a row costs the server."""
    print("| encoding | rows/s | rows per second of CPU | data plane, ns a row | worker, ns a row |")
    print("| --- | --: | --: | --: | --: |")
    with running() as folder:
        for number in range(rounds):
            for result in run_many_rows(folder / str(number), rows, seconds, batch_size):
                print(
                    f"| {result.encoding} | {result.rows_per_second:,.0f} | {result.rows_per_core_second:,.0f} "
                    f"| {result.dataplane_ns:.0f} | {result.worker_ns:.0f} |"
                )


@app.command("streams")
def streamed_rows(
    formats: Annotated[str, typer.Argument(help="Some of the streams, with commas; 'all' for all.")] = "all",
    rows: Annotated[int, typer.Option(min=20_000, help="Rows in each stream, in ten thousands.")] = 1_000_000,
    batch_size: Annotated[int, typer.Option(min=1, help="max_batch_size of the model.")] = 512,
    rounds: Rounds = 3,
) -> None:
    """Stream W1 rows to /predict/batch in each format, and say what a row costs the server."""
    names = list(STREAMS) if formats == "all" else formats.split(",")
    if unknown := set(names) - set(STREAMS):
        raise typer.BadParameter(f"no such stream: {', '.join(unknown)}; known are {', '.join(STREAMS)}")
    print("| stream | rows/s | rows per second of CPU | server, ns a row | memory grown, MiB |")
    print("| --- | --: | --: | --: | --: |")
    with running() as folder:
        for number in range(rounds):
            for result in run_streamed_rows(folder / str(number), names, rows, batch_size):
                print(
                    f"| {result.name} | {result.rows_per_second:,.0f} | {result.rows_per_core_second:,.0f} "
                    f"| {result.server_ns:.0f} | {result.grown_bytes / 2**20:.1f} |"
                )
