"""The commands. What a command needs is imported when it runs, so that help and errors come at once."""

from __future__ import annotations

import os
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from penstock import __version__
from penstock.cli.plainly import told_plainly

__all__ = ["app", "main"]

# Commands with commands of their own, each in the module of its name.
_GROUPS = ("models", "keys")
# Commands that are one of several in a module.
_ELSEWHERE = {"fit": "processing", "transform": "processing", "calibrate": "calibrate"}


class _Commands(TyperGroup):
    """The commands, of which groups are imported when one of theirs, or the help, is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands."""
        return [*super().list_commands(ctx), *_ELSEWHERE, *_GROUPS]

    def get_command(self, ctx: Any, cmd_name: str) -> Any:
        """Return a command, or None."""
        if cmd_name in _ELSEWHERE:
            several = typer.main.get_group(import_module(f"penstock.cli.{_ELSEWHERE[cmd_name]}").app)
            return several.get_command(ctx, cmd_name)
        if cmd_name not in _GROUPS:
            return super().get_command(ctx, cmd_name)
        command = typer.main.get_command(import_module(f"penstock.cli.{cmd_name}").app)
        command.name = cmd_name
        return command


# Typer's own tracebacks and rich's panels are for developers; ours is a sentence.
app = typer.Typer(
    name="penstock",
    cls=_Commands,
    help="Serve models. C++ from socket to batch, Python once per batch.",
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


def main() -> None:
    """Run the command line and exit: 0 done, 1 failed, 2 wrong usage or setting."""
    app(prog_name="penstock")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(f"penstock {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version.", callback=_print_version, is_eager=True)
    ] = False,
) -> None:
    """Serve models. C++ from socket to batch, Python once per batch."""


@app.command("version")
def _version() -> None:
    """Print the version."""
    _print_version(True)


def _flag(help_text: str, metavar: str) -> Any:
    # Every value is read by penstock.core, which says the same about it as about the file and the environment.
    return typer.Option(help=help_text, metavar=metavar, show_default=False)


@app.command("serve")
def _serve(
    models: Annotated[
        list[str] | None,
        typer.Argument(metavar="NAME=PATH", help="Models to serve. A bare PATH is served under its stem."),
    ] = None,
    host: Annotated[str | None, _flag("Address to listen on [127.0.0.1]. 0.0.0.0 or :: for all.", "ADDRESS")] = None,
    port: Annotated[str | None, _flag("TCP port [8000]; 0 takes a free one.", "PORT")] = None,
    grpc_port: Annotated[str | None, _flag("TCP port for gRPC [the one behind PORT].", "PORT")] = None,
    unix_socket: Annotated[str | None, _flag("Listen on this Unix socket too.", "PATH")] = None,
    tls_cert: Annotated[str | None, _flag("Encrypt with this certificate, in PEM.", "FILE")] = None,
    tls_key: Annotated[str | None, _flag("Its key, in PEM.", "FILE")] = None,
    config: Annotated[Path | None, _flag("Settings in TOML; flags win over it.", "FILE")] = None,
    io_threads: Annotated[str | None, _flag("I/O threads [1].", "COUNT")] = None,
    io_cpus: Annotated[str | None, _flag("CPUs of the I/O threads [all].", "CPUS")] = None,
    scheduling: Annotated[str | None, _flag("deadline or round-robin [deadline].", "RULE")] = None,
    backend: Annotated[str | None, _flag("onnx, torch, sklearn, ... [by the files].", "NAME")] = None,
    slo_ms: Annotated[str | None, _flag("Answer within this, or refuse [0: whenever].", "MS")] = None,
    max_batch_size: Annotated[str | None, _flag("Most rows in a batch [64].", "ROWS")] = None,
    max_queue_delay_us: Annotated[str | None, _flag("Wait this long for a fuller batch [0].", "US")] = None,
    batch_sizes: Annotated[str | None, _flag("Run batches of these sizes only [any].", "ROWS,...")] = None,
    lengths: Annotated[str | None, _flag("Pad rows that vary in length to these.", "LENGTH,...")] = None,
    max_batch_tokens: Annotated[str | None, _flag("Most rows times length in a batch [any].", "COUNT")] = None,
    queue_bytes: Annotated[str | None, _flag("Memory for the rows of a model [64MiB].", "BYTES")] = None,
    instances: Annotated[str | None, _flag("Worker processes of a model [1].", "COUNT")] = None,
    on_worker_death: Annotated[str | None, _flag("rerun or fail what it held [by format].", "WHAT")] = None,
    load_timeout_s: Annotated[str | None, _flag("Time to load a model [120].", "S")] = None,
    cpus: Annotated[str | None, _flag("CPUs of the workers [all].", "CPUS")] = None,
    numa_node: Annotated[str | None, _flag("NUMA node of the workers [any].", "NODE")] = None,
    data_dir: Annotated[str | None, _flag("Folder of the registry [~/.local/share/penstock].", "PATH")] = None,
    store: Annotated[str | None, _flag("Database of the registry [SQLite in it].", "URL")] = None,
    artefacts: Annotated[str | None, _flag("Where registered models are kept [in it].", "WHERE")] = None,
    preload: Annotated[str | None, _flag("Registered models to load at the start.", "MODEL,...")] = None,
    repository: Annotated[str | None, _flag("Watch this folder for models.", "PATH")] = None,
    development: Annotated[
        bool, typer.Option("--development", help="Administer without a key; loopback only.")
    ] = False,
    require_key: Annotated[bool, typer.Option("--require-key", help="Let nobody predict without a key.")] = False,
    log_format: Annotated[str | None, _flag("text or json [text].", "FORMAT")] = None,
    log_level: Annotated[str | None, _flag("debug, info, warning or error [info].", "LEVEL")] = None,
    access_log: Annotated[str | None, _flag("off, - for standard output, or a file [off].", "PATH")] = None,
    trace_endpoint: Annotated[str | None, _flag("OTLP collector that gets traces [none].", "URL")] = None,
    trace_sample: Annotated[str | None, _flag("Share of the requests to trace [0.01].", "SHARE")] = None,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Serve models until told to stop (SIGTERM, Ctrl-C).

    Every setting can also be given as PENSTOCK_<SETTING> and in the file; docs/configuration.md lists them all.
    """
    given = {
        "host": host,
        "port": port,
        "grpc_port": grpc_port,
        "unix_socket": unix_socket,
        "tls_cert": tls_cert,
        "tls_key": tls_key,
        "io_threads": io_threads,
        "io_cpus": io_cpus,
        "scheduling": scheduling,
        "backend": backend,
        "slo_ms": slo_ms,
        "max_batch_size": max_batch_size,
        "max_queue_delay_us": max_queue_delay_us,
        "batch_sizes": batch_sizes,
        "lengths": lengths,
        "max_batch_tokens": max_batch_tokens,
        "queue_bytes": queue_bytes,
        "instances": instances,
        "on_worker_death": on_worker_death,
        "load_timeout_s": load_timeout_s,
        "cpus": cpus,
        "numa_node": numa_node,
        "data_dir": data_dir,
        "store": store,
        "artefacts": artefacts,
        "preload": preload,
        "repository": repository,
        # Not said is not "false": the file or the environment may say it.
        "development": "true" if development else None,
        "require_key": "true" if require_key else None,
        "log_format": log_format,
        "log_level": log_level,
        "access_log": access_log,
        "trace_endpoint": trace_endpoint,
        "trace_sample": trace_sample,
    }
    with told_plainly(debug):
        from penstock.core.sources import load_config

        flags = {name: value for name, value in given.items() if value is not None}
        settings = load_config(file=config, environment=os.environ, flags=flags, models=models or [])

        from penstock.serve.serve import serve

        serve(settings)


@app.command("bench")
def _bench(
    url: Annotated[str, typer.Argument(metavar="URL", help="http://HOST:PORT or unix:/PATH.")],
    model: Annotated[str, typer.Option(help="The model to ask.")],
    version: Annotated[str | None, typer.Option(help="Its version [the latest].", show_default=False)] = None,
    rate: Annotated[
        float | None,
        typer.Option(min=0.001, help="Requests per second [as many as are answered].", show_default=False),
    ] = None,
    duration: Annotated[float, typer.Option(min=0.1, max=86_400, help="Measured seconds.")] = 10.0,
    warm_up: Annotated[float, typer.Option(min=0, max=3_600, help="Seconds before them that do not count.")] = 2.0,
    slo_p99_ms: Annotated[
        float | None, typer.Option(min=0.001, help="Fail unless 99 % are answered within this.", show_default=False)
    ] = None,
    encoding: Annotated[str, typer.Option(help="json, msgpack or raw.")] = "json",
    arrivals: Annotated[str, typer.Option(help="poisson, constant or bursty.")] = "poisson",
    trace: Annotated[
        Path | None, typer.Option(help="Send at the times of this file instead.", show_default=False)
    ] = None,
    connections: Annotated[int, typer.Option(min=1, max=10_000, help="Keep-alive connections.")] = 64,
    depth: Annotated[int, typer.Option(min=1, max=1024, help="Requests in flight on each connection.")] = 1,
    threads: Annotated[int, typer.Option(min=1, max=256, help="Threads of the generator.")] = 1,
    rows: Annotated[int, typer.Option(min=1, help="Different rows to send.")] = 1024,
    timeout: Annotated[float, typer.Option(min=0.001, max=3_600, help="Seconds to wait for a reply.")] = 10.0,
    seed: Annotated[int, typer.Option(min=0, help="Of rows and arrivals.")] = 1,
    pid: Annotated[
        int | None, typer.Option(help="The server's process, to count what it costs.", show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Put a served model under load, with rows made from its schema.

    Exits with 0 when all is well, 1 when over 1 in 100 requests failed or the limit is not proven, 2 for wrong usage,
    3 when the load generator fell behind or the server fell silent, so that the figures mean nothing.
    """
    with told_plainly(debug):
        from penstock.cli.bench import BenchOptions, run_bench

        options = BenchOptions(
            url=url,
            model=model,
            version=version,
            rate=rate,
            duration=duration,
            warm_up=warm_up,
            slo_p99_ms=slo_p99_ms,
            encoding=encoding,
            arrivals=arrivals,
            trace=trace,
            connections=connections,
            depth=depth,
            threads=threads,
            rows=rows,
            timeout=timeout,
            seed=seed,
            pid=pid,
            as_json=json,
        )
        status = run_bench(options)
    if status:
        raise typer.Exit(status)


@app.command("simulate")
def _simulate(
    fixed_ms: Annotated[
        float | None, typer.Option(help="Milliseconds that every batch takes.", show_default=False)
    ] = None,
    per_row_us: Annotated[
        float | None, typer.Option(help="Microseconds that each of its rows adds.", show_default=False)
    ] = None,
    curve: Annotated[
        str | None,
        typer.Option(
            metavar="ROWS:MS,...|FILE", help="Or what batches of some sizes take, also from JSON.", show_default=False
        ),
    ] = None,
    rate: Annotated[float, typer.Option(help="Rows per second that arrive.")] = 0.0,
    slo_ms: Annotated[
        float | None, typer.Option(help="99 % should be answered within this.", show_default=False)
    ] = None,
    arrivals: Annotated[str, typer.Option(help="poisson, bursty or gamma.")] = "poisson",
    max_batch_size: Annotated[int, typer.Option(help="Most rows in a batch.")] = 64,
    max_queue_delay_us: Annotated[float, typer.Option(min=0, help="Without --slo-ms: wait for a fuller batch.")] = 0.0,
    models: Annotated[
        Path | None, typer.Option(help="Several models on one device, in TOML.", show_default=False)
    ] = None,
    instances: Annotated[int, typer.Option(min=1, max=1024, help="Workers behind one queue.")] = 1,
    scheduling: Annotated[str, typer.Option(metavar="RULE", help="deadline or round-robin.")] = "deadline",
    jitter: Annotated[float, typer.Option(min=0, max=1, help="Spread of run times, relative.")] = 0.015,
    rows: Annotated[int, typer.Option(min=1_000, max=100_000_000, help="Simulated arrivals of each run.")] = 200_000,
    seed: Annotated[int, typer.Option(min=0, help="Of arrivals and run times.")] = 1,
    plot: Annotated[
        Path | None, typer.Option(help="Draw latency over throughput, .png or .svg.", show_default=False)
    ] = None,
    json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Show the traceback of an error.")] = False,
) -> None:
    """Size a deployment from what its batches cost: capacity, latency and instances needed. Nothing is served.

    Exits with 0 when the given rate is carried and the limits hold, 1 when not, 2 for wrong usage.
    """
    with told_plainly(debug):
        from penstock.cli.simulate import run_simulate
        from penstock.cli.simulate_sizing import SimulateOptions, scheduling_of
        from penstock.cli.simulated import SimulatedSettings, read_models
        from penstock.cli.simulated_curve import read_curve

        alone = SimulatedSettings(
            rate=rate,
            slo_ms=slo_ms,
            fixed_ms=fixed_ms,
            per_row_us=per_row_us,
            curve=read_curve(curve) if curve is not None else None,
            arrivals=arrivals,
            max_batch_size=max_batch_size,
            max_queue_delay_us=max_queue_delay_us,
        )
        options = SimulateOptions(
            models=[alone] if models is None else read_models(models, alone),
            instances=instances,
            scheduling=scheduling_of(scheduling),
            jitter=jitter,
            rows=rows,
            seed=seed,
            as_json=json,
            plot=plot,
        )
        status = run_simulate(options)
    if status:
        raise typer.Exit(status)
