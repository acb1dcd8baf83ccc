"""The view in a terminal: drawn anew after each look, and left as it was found."""

from __future__ import annotations

import os
import select
import signal
import sys
import termios
import threading
import time
import tty
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from types import FrameType

from rich.console import Console, Group
from rich.live import Live

from penstock.cli.watch.figures import Figures
from penstock.cli.watch.view import View
from penstock.cli.watch.watching import Gone, Watch

__all__ = ["run_live"]

_ENDS = b"qQ\x04"  # and Ctrl-D


def run_live(watch: Watch, view: View, interval: float) -> None:
    """Show the server until q, Ctrl-C or SIGTERM. The terminal is restored whatever happens."""
    console = Console()
    looker = _Looker(watch, interval)
    live = Live(console=console, screen=True, auto_refresh=False)
    with _ended_by_signals(), _keys() as keys, live, _stopped_by_signals(live, keys):
        looker.start()
        seen: Figures | Gone | None = None
        while True:
            readable, _, _ = select.select([looker.descriptor, *keys], [], [], interval)
            if keys and keys[0] in readable:
                pressed = os.read(keys[0], 64)
                if not pressed or any(key in _ENDS for key in pressed):
                    return
            if looker.descriptor in readable:
                seen = looker.take()
            if seen is not None:
                # The width may have changed since.
                lines = view.lines(seen, console.width, console.height)
                for line in lines:
                    line.no_wrap, line.overflow = True, "crop"
                live.update(Group(*lines[: console.height]), refresh=True)


class _Looker(threading.Thread):
    """Looks in a thread of its own: a key must not wait for a server that is slow."""

    def __init__(self, watch: Watch, interval: float) -> None:
        super().__init__(name="penstock-watch", daemon=True)
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._watch = watch
        self._interval = interval
        self._lock = threading.Lock()
        self._last: Figures | Gone | Exception | None = None

    def run(self) -> None:
        """Look at equal intervals."""
        due = time.monotonic()
        while True:
            try:
                self._put(self._watch.look())
            except Exception as error:
                self._put(error)
                return
            due = max(due + self._interval, time.monotonic())
            time.sleep(max(0.0, due - time.monotonic()))

    def _put(self, seen: Figures | Gone | Exception) -> None:
        with self._lock:
            self._last = seen
        os.eventfd_write(self.descriptor, 1)

    def take(self) -> Figures | Gone | None:
        """Return what was seen last; raises what ended the looking."""
        os.eventfd_read(self.descriptor)
        with self._lock:
            last = self._last
        if isinstance(last, Exception):
            raise last
        return last


@contextmanager
def _keys() -> Iterator[list[int]]:
    """Have single keys at once, and unseen, while standard input is a terminal of ours."""
    try:
        descriptor = sys.stdin.fileno()
        before = termios.tcgetattr(descriptor)
        ours = os.tcgetpgrp(descriptor) == os.getpgrp()
    except (OSError, ValueError, termios.error, AttributeError):
        yield []
        return
    if not ours:  # in the background: touching the terminal would stop us
        yield []
        return
    try:
        tty.setcbreak(descriptor)
        yield [descriptor]
    finally:
        termios.tcsetattr(descriptor, termios.TCSADRAIN, before)


@contextmanager
def _ended_by_signals() -> Iterator[None]:
    """Let signals that end a process end it through its clean-up, so that the terminal is restored."""

    def end(number: int, _: FrameType | None) -> None:
        raise SystemExit(128 + number)

    before = {number: signal.signal(number, end) for number in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


@contextmanager
def _stopped_by_signals(live: Live, keys: Sequence[int]) -> Iterator[None]:
    """Give the terminal back while Ctrl-Z has stopped us, and take it again behind that."""
    before = termios.tcgetattr(keys[0]) if keys else []

    def stop(number: int, _: FrameType | None) -> None:
        live.stop()
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)  # here it stops, and goes on once it is continued
        signal.signal(number, stop)
        if keys:
            # The shell has put its own settings back.
            termios.tcsetattr(keys[0], termios.TCSADRAIN, before)
        live.start(refresh=True)

    default = signal.signal(signal.SIGTSTP, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTSTP, default)
