"""What other threads have the supervisor's thread do."""

from __future__ import annotations

import os
import queue
import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import TypeVar

from penstock.core.errors import StartError

__all__ = ["Commands"]

_T = TypeVar("_T")


class Commands:
    """A queue of things to do, and a descriptor that is readable while there are some.

    post() and ask() are for any thread, the rest for the one that does them.
    """

    def __init__(self) -> None:
        self.descriptor = os.eventfd(0, os.EFD_CLOEXEC | os.EFD_NONBLOCK)
        self._queue: queue.SimpleQueue[Callable[[], None]] = queue.SimpleQueue()
        self._refusal: str | None = None
        # So that nobody writes to a descriptor that is closed, or queues what nobody will do.
        self._lock = threading.Lock()
        self._closed = False

    def post(self, command: Callable[[], None]) -> None:
        """Have something done, unless it is too late."""
        with self._lock:
            if not self._closed:
                self._queue.put(command)
                os.eventfd_write(self.descriptor, 1)

    def ask(self, command: Callable[[Future[_T]], None]) -> Future[_T]:
        """Have something done that sets a future: its result, or StartError when it is too late."""
        done: Future[_T] = Future()

        def run() -> None:
            if not done.set_running_or_notify_cancel():
                return
            if self._refusal is not None:
                done.set_exception(StartError(self._refusal))
            else:
                command(done)

        with self._lock:
            if self._closed:
                done.set_exception(StartError(self._refusal or ""))
            else:
                self._queue.put(run)
                os.eventfd_write(self.descriptor, 1)
        return done

    def run(self) -> None:
        """Do what is there."""
        os.eventfd_read(self.descriptor)
        self._run_all()

    def refuse(self, why: str) -> None:
        """Answer whoever asks from now on that it is too late."""
        self._refusal = self._refusal or why

    def close(self, why: str) -> None:
        """Answer whoever has asked, and close the descriptor."""
        self.refuse(why)
        with self._lock:
            self._closed = True
            os.close(self.descriptor)
        self._run_all()

    def _run_all(self) -> None:
        while not self._queue.empty():
            self._queue.get()()
