"""Runs the view: live in a terminal, as plain pictures or JSON elsewhere."""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from penstock.cli.asking import client_of
from penstock.cli.watch.figures import Figures
from penstock.cli.watch.view import View
from penstock.cli.watch.watching import Gone, Watch

__all__ = ["WatchOptions", "run_watch"]

# A look takes as long as the server takes to answer. Before a person, it is never so long that the view seems dead.
_TIMEOUT_S = 60.0
_LIVE_TIMEOUT_S = 5.0
# Whoever reads a pipe has no width.
_PIPE_WIDTH = 160
_USUAL_URL = "http://127.0.0.1:8000"


@dataclass(frozen=True, slots=True)
class WatchOptions:
    """What the command line says."""

    model: str | None
    interval: float
    once: bool
    as_json: bool
    url: str | None
    key_file: Path | None


def run_watch(options: WatchOptions) -> None:
    """Watch until told to stop, or once."""
    url = options.url or os.environ.get("PENSTOCK_URL") or _USUAL_URL
    live = sys.stdout.isatty() and not (options.once or options.as_json)
    timeout_s = _LIVE_TIMEOUT_S if live else _TIMEOUT_S
    with client_of(options.url, options.key_file, timeout_s=timeout_s) as client:
        watch = Watch(client, options.model)
        view = View(url, options.interval, options.model, watch.histories)
        if options.once:
            figures = _one(watch, options.interval)
            _write(_document(url, figures) if options.as_json else view.as_text(figures, _width()))
        elif options.as_json:
            for seen in _looks(watch, options.interval):
                # The first look has nothing to compare with.
                if isinstance(seen, Gone) or seen.seconds > 0:
                    _write(_document(url, seen))
        elif live:
            from penstock.cli.watch.live import run_live

            run_live(watch, view, options.interval)
        else:
            for seen in _looks(watch, options.interval):
                if isinstance(seen, Gone) or seen.seconds > 0:
                    _write(view.as_text(seen, _width()) + "\n")


def _one(watch: Watch, interval: float) -> Figures:
    """Return the figures of one interval; raises what is the matter when there is no server."""
    first = watch.look()
    if isinstance(first, Gone):
        raise first.error
    time.sleep(interval)
    second = watch.look()
    if isinstance(second, Gone):
        raise second.error
    return second


def _looks(watch: Watch, interval: float) -> Iterator[Figures | Gone]:
    """Look at equal intervals; one that was missed is left out."""
    due = time.monotonic()
    while True:
        yield watch.look()
        due = max(due + interval, time.monotonic())
        time.sleep(max(0.0, due - time.monotonic()))


def _document(url: str, seen: Figures | Gone) -> str:
    moment = datetime.now().astimezone().isoformat(timespec="milliseconds")
    about: dict[str, object] = {"time": moment, "url": url, "up": not isinstance(seen, Gone)}
    if isinstance(seen, Gone):
        return json.dumps(about | {"error": seen.text})
    return json.dumps(about | asdict(seen))


def _write(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()  # whoever reads a pipe wants it now


def _width() -> int:
    columns = os.environ.get("COLUMNS", "")
    if columns.isdecimal() and int(columns) > 0:
        return int(columns)
    return os.get_terminal_size().columns if sys.stdout.isatty() else _PIPE_WIDTH
