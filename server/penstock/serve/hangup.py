"""SIGHUP: whoever holds files that others replace looks at them anew."""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

__all__ = ["on_hangup"]


@contextmanager
def on_hangup(look: Callable[[], None]) -> Iterator[None]:
    """Call `look` at each SIGHUP, and whoever was called before. To be entered by the main thread.

    It runs between any two instructions of the main thread, so it may only note what is to be done.
    """

    def handle(number: int, frame: FrameType | None) -> None:
        look()
        if callable(before):
            before(number, frame)

    before = signal.signal(signal.SIGHUP, handle)
    try:
        yield
    finally:
        signal.signal(signal.SIGHUP, before)
