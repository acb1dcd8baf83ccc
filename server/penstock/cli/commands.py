"""The commands. What a command needs is imported when it runs, so that help and errors come at once."""

from __future__ import annotations

import os
import sys
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from penstock import __version__
from penstock.cli.completing import begin_completion, is_completing
from penstock.cli.conversion import spare_conversion
from penstock.cli.plainly import UNREAD, drop_output, end_full, ended_plainly, is_full, told_plainly

__all__ = ["app", "run"]

# Commands with commands of their own, each in the module of its name.
_GROUPS = ("models", "keys", "config")
# Commands of their own, and where each is defined.
_ELSEWHERE = {
    "bench": "bench",
    "simulate": "simulate",
    "predict": "predict",
    "batch": "batch",
    "fit": "processing",
    "transform": "processing",
    "calibrate": "calibrate",
    "doctor": "doctor",
    "test": "testing",
    "watch": "watch",
    "init": "init",
    "completion": "completion",
}


# As a person meets them; what is not here comes behind.
_ORDER = (
    *("serve", "predict", "batch", "models", "keys", "bench", "simulate", "fit", "transform", "calibrate"),
    *("config", "doctor", "watch", "test", "init", "completion", "version"),
)


class _Commands(TyperGroup):
    """The commands, of which groups are imported when one of theirs, or the help, is asked for."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Return the names of the commands."""
        names = [*super().list_commands(ctx), *_ELSEWHERE, *_GROUPS]
        return sorted(names, key=lambda name: _ORDER.index(name) if name in _ORDER else len(_ORDER))

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

    # Where the arguments are read, which prints the help, and where a command runs.

    def make_context(self, *args: Any, **more: Any) -> Any:
        """Read the arguments."""
        with ended_plainly():
            return super().make_context(*args, **more)

    def invoke(self, ctx: Any) -> Any:
        """Run the command."""
        with ended_plainly():
            return super().invoke(ctx)


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


def run() -> int:
    """Run the command line; the exit status."""
    begin_completion()
    spare_conversion()
    try:
        app(prog_name="penstock")
    except Exception:
        if not is_completing():
            raise
        return 1
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 1 if end.code else 0
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        drop_output()
        status = UNREAD
    except OSError as error:
        if not is_full(error):
            raise
        status = end_full()
    return status


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
def _version(json: Annotated[bool, typer.Option("--json", help="Print one JSON document.")] = False) -> None:
    """Print the version."""
    if json:
        typer.echo(f'{{"version": "{__version__}"}}')
    else:
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
    device: Annotated[str | None, _flag("cpu, cuda:0, cuda:* or host [cpu].", "DEVICE")] = None,
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
        "device": device,
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
