"""How far a batch has come, on standard error; a bar only where somebody looks."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from penstock.cli.batch.journal import Mark
from penstock.cli.plainly import warn
from penstock_client.errors import PenstockError
from penstock_client.hooks import Span

__all__ = ["Told"]


class Told:
    """Tells the person at the terminal. It is also told by the SDK what is sent again."""

    def __init__(self) -> None:
        self._bar: Any = None
        self._task: Any = None
        self._began = 0.0
        self._first = Mark()
        self._away = False

    @contextmanager
    def watching(self, total: int | None, mark: Mark) -> Iterator[None]:
        """Show a bar while the batch runs. `total` is what `mark.at` will be."""
        self._began, self._first = time.monotonic(), mark
        if not sys.stderr.isatty():
            yield
            return
        from rich.console import Console
        from rich.progress import BarColumn, Progress, TextColumn

        columns = [TextColumn("{task.fields[said]}"), BarColumn(), TextColumn("{task.fields[rate]}")]
        with Progress(*columns, console=Console(stderr=True, markup=False), transient=True) as self._bar:
            self._task = self._bar.add_task("", total=total, completed=mark.at, said=_rows(mark), rate="")
            try:
                yield
            finally:
                self._bar, self._task = None, None

    def saw(self, mark: Mark) -> None:
        """Show how far it has come."""
        self._away = False
        if self._bar is None:
            return
        seconds = time.monotonic() - self._began
        rate = (mark.rows - self._first.rows) / seconds if seconds > 0 else 0.0
        said = f"{rate:,.0f} rows/s"
        total = self._bar.tasks[0].total
        if total and mark.at > self._first.at:
            left = seconds * (total - mark.at) / (mark.at - self._first.at)
            said = f"{mark.at / total:4.0%}  {said}  {_time(left)} left"
        self._bar.update(self._task, completed=mark.at, said=_rows(mark), rate=said)

    def again(self, why: str) -> None:
        """Say once that the server does not answer as it should, until it does."""
        if not self._away:
            self._away = True
            text = f"{why}; asking again"
            if self._bar is not None:
                self._bar.console.print(f"penstock: warning: {text}")
            else:
                warn(text)

    def stopped(self, mark: Mark) -> None:
        """Say where Ctrl-C has stopped it."""
        sys.stderr.write(f"penstock: stopped behind {mark.rows:,} rows; the same command goes on there\n")

    # What the SDK's hook and its span are.

    def started(self, method: str, route: str, url: str, request_id: str) -> Span:
        """Take a call."""
        return self

    def traceparent(self) -> str | None:
        """Return nothing: calls are not traced."""

    def retried(self, error: PenstockError, wait_s: float) -> None:
        """Note that a request is sent again."""
        self.again(error.detail)

    def ended(self, status: int | None, error: BaseException | None) -> None:
        """Take the end of a call."""


def _rows(mark: Mark) -> str:
    failed = f", {mark.failed:,} failed" if mark.failed else ""
    return f"{mark.rows:,} rows{failed}"


def _time(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"
