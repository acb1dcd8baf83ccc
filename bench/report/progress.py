"""How far a long run is, on the terminal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, Progress, SpinnerColumn, TextColumn, TimeElapsedColumn, TimeRemainingColumn

from penstock.load.generator import Progress as Moment

__all__ = ["Watch", "showing_progress"]

Watch = Callable[[str, Moment], None]


@contextmanager
def showing_progress(planned_seconds: float = 0.0, console: Console | None = None) -> Iterator[Watch]:
    """Give the callback that RunOptions.watch wants, and show what it is told; silent when stderr is no terminal.

    `planned_seconds` are those of all loads together, 0 when that is not known.
    """
    console = console or Console(stderr=True)
    if not console.is_terminal:
        yield lambda _, __: None
        return
    columns = (
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.fields[rate]}"),
        TimeElapsedColumn(),
        TextColumn("elapsed,"),
        TimeRemainingColumn(),
        TextColumn("left"),
    )
    with Progress(*columns, console=console, transient=True) as progress:
        task = progress.add_task("starting", total=planned_seconds or None, rate="")
        runs = _Runs()

        def watch(what: str, moment: Moment) -> None:
            seconds = runs.seconds(moment)
            progress.update(task, completed=seconds, description=escape(what), rate=_rate(moment))

        yield watch


class _Runs:
    """Adds up the time of runs that follow one another, each of which counts from its own start."""

    def __init__(self) -> None:
        self._before = 0.0
        self._now = 0.0

    def seconds(self, moment: Moment) -> float:
        now = max(0.0, moment.seconds)
        if now < self._now:
            self._before += self._now
        self._now = now
        return self._before + now


def _rate(moment: Moment) -> str:
    """Say how much was answered each second since the start."""
    if moment.seconds <= 0:
        return ""
    failed = f", {moment.failed:,} failed" if moment.failed else ""
    return f"{moment.answered / moment.seconds:,.0f}/s{failed}"
