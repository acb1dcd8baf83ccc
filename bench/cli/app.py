"""What all commands share: the application, options that several take, and how results are kept."""

from __future__ import annotations

import math
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeAlias

import typer

from bench.gate.revisions import RevisionError
from bench.placement import pin
from bench.priority import raise_priority
from bench.report import print_tables, write_report
from bench.report.progress import showing_progress
from bench.results import Results
from bench.run import RunOptions
from bench.swaps import SwapError
from bench.targets import NotInstalledError
from penstock.core.errors import PenstockError
from penstock.load.dialects import DIALECTS, Dialect
from penstock.load.recording import WrongAnswerError

__all__ = [
    "Connections",
    "DialectName",
    "Out",
    "Rounds",
    "Seconds",
    "app",
    "dialect_named",
    "keep",
    "numbers",
    "options_for",
    "running",
    "words",
]

EPILOG = "Server and load share this machine: figures are of it alone. docs/benchmarking.md says how to read them."

app = typer.Typer(
    help="Measure Penstock: against its yardsticks, against its rivals, against itself.",
    epilog=EPILOG,
    add_completion=False,
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

Seconds: TypeAlias = Annotated[float, typer.Option(min=0.5, help="Measured seconds of each run.")]
Rounds: TypeAlias = Annotated[int, typer.Option(min=1, help="How often everything is measured, in turn.")]
Connections: TypeAlias = Annotated[int | None, typer.Option(min=1, max=10_000, help="Instead of the scenario's.")]
DialectName: TypeAlias = Annotated[str, typer.Option(help=f"How rows travel, some of {', '.join(DIALECTS)}.")]
Out: TypeAlias = Annotated[Path | None, typer.Option(help="Write report.html and its pictures into this folder.")]


@app.callback()
def _options(
    priority: Annotated[
        bool, typer.Option("--priority", help="Run before other work (root, on a machine that others use).")
    ] = False,
    pinned: Annotated[
        bool, typer.Option("--pin", help="Keep the generator on the last core and servers on the others.")
    ] = False,
) -> None:
    if pinned and not pin():
        print("there is only one core: nothing is pinned", file=sys.stderr)
    if priority and not raise_priority():
        print("no right to raise the priority (root has it): going on without", file=sys.stderr)


@contextmanager
def running() -> Iterator[Path]:
    """Give a folder for the time of a command, and turn errors into a sentence and an exit status."""
    try:
        with ending_by_sigterm(), tempfile.TemporaryDirectory(prefix="penstock-bench-") as folder:
            yield Path(folder)
    except (PenstockError, NotInstalledError, RevisionError, SwapError, WrongAnswerError) as error:
        print(f"bench: {error}", file=sys.stderr)
        raise typer.Exit(getattr(error, "exit_code", 1)) from None


@contextmanager
def ending_by_sigterm() -> Iterator[None]:
    """Let SIGTERM unwind the block as Ctrl-C does, so that servers stop and folders go."""

    def end(number: int, _: object) -> None:
        raise SystemExit(128 + number)

    before = signal.signal(signal.SIGTERM, end)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


@contextmanager
def options_for(folder: Path, planned_seconds: float, **given: Any) -> Iterator[RunOptions]:
    """Give the options of a run that shows its progress."""
    with showing_progress(planned_seconds) as watch:
        yield RunOptions(folder, watch=watch, **given)


def keep(results: Results, out: Path | None, path: Path | None = None) -> None:
    """Save the results, print their tables, and write the report if it is wanted."""
    saved = results.save(path)
    print_tables(results)
    print(f"\n{saved}")
    for written in write_report([results], out) if out is not None else []:
        print(written)


def words(text: str, known: Callable[[], list[str]], what: str) -> list[str]:
    """Read a list of known words, separated by commas; typer.BadParameter otherwise."""
    found = [word for word in text.split(",") if word]
    unknown = sorted(set(found) - set(known()))
    if unknown or not found:
        raise typer.BadParameter(f"{what} {', '.join(unknown) or text!r} is not there: {', '.join(known())}")
    return found


def numbers(text: str, what: str) -> list[float]:
    """Read positive numbers, separated by commas; typer.BadParameter otherwise."""
    try:
        found = [float(part) for part in text.split(",")]
    except ValueError:
        found = []
    if not found or not all(0 < number < math.inf for number in found):
        raise typer.BadParameter(f"{what} are positive numbers with commas between them, not {text!r}")
    return found


def dialect_named(name: str) -> Dialect:
    """Return a dialect; typer.BadParameter when there is none of this name."""
    if name not in DIALECTS:
        raise typer.BadParameter(f"dialect {name!r} is not there: {', '.join(DIALECTS)}")
    return DIALECTS[name]
