"""Waiting on gevent's hub for what happens outside it. Nothing is patched: other threads stay plain threads."""

from __future__ import annotations

import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import gevent
import gevent.event

__all__ = ["HubEvent", "heard_signals", "wait_until"]

_READ = 1  # as libev has it


class HubEvent:
    """A flag that a greenlet waits for and that any thread, or a signal handler, may set.

    Make it in the thread whose hub waits. The loop's async watcher is libev's one door into a sleeping loop, and it
    keeps a loop that has nothing else to watch from giving up (LoopExit), which gevent's own Event does not.
    """

    def __init__(self) -> None:
        self._event = gevent.event.Event()
        self._is_set = False
        self._watcher = gevent.get_hub().loop.async_()
        self._watcher.start(self._event.set)

    def set(self) -> None:
        """Wake whoever waits, now and from now on. Any thread; async-signal-safe as far as Python's handlers are."""
        self._is_set = True
        self._watcher.send()

    def is_set(self) -> bool:
        """Whether set() was called."""
        return self._is_set

    def wait(self) -> None:
        """Let the hub run until set() is called."""
        self._event.wait()

    def close(self) -> None:
        """Let the hub forget it, in the hub's thread. A set() that comes later is noted and wakes nobody."""
        self._watcher.stop()

    @staticmethod
    def wait_any(*events: HubEvent) -> None:
        """Let the hub run until one of the events is set."""
        gevent.wait([event._event for event in events], count=1)


@contextmanager
def heard_signals() -> Iterator[None]:
    """Let signals wake the hub, so that Python's handlers run. To be entered by the main thread, whose hub it is.

    The kernel interrupts a loop that sleeps. A signal that comes after the loop has looked for the last time and before
    it sleeps would be heard with whatever wakes the loop next, which in an idle server is nothing.
    """
    heard, written = socket.socketpair()
    watcher = gevent.get_hub().loop.io(heard.fileno(), _READ)
    try:
        heard.setblocking(False)
        written.setblocking(False)
        watcher.start(heard.recv, 4096)
        before = signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
        try:
            yield
        finally:
            signal.set_wakeup_fd(before)
    finally:
        watcher.stop()
        watcher.close()
        heard.close()
        written.close()


def wait_until(condition: Callable[[], bool], timeout_s: float, *, interval_s: float = 0.01) -> bool:
    """Let the hub run until the condition holds; False when that takes longer than the timeout."""
    deadline = time.monotonic() + timeout_s
    while not condition():
        if time.monotonic() >= deadline:
            return False
        gevent.sleep(interval_s)
    return True
