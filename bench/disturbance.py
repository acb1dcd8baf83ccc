"""What goes wrong while a load runs: workers that are killed, clients that hardly read."""

from __future__ import annotations

import os
import random
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress

from bench.scenario import Disturbance
from bench.wire import Wire

__all__ = ["disturbing"]

SLOW_PIPELINE = 16
SLOW_BYTES = 512
SLOW_PAUSE_SECONDS = 0.1
SLOW_BUFFER_BYTES = 4096


@contextmanager
def disturbing(
    disturbance: Disturbance, port: int, worker_pids: Callable[[], Sequence[int]], request: bytes
) -> Iterator[None]:
    """Disturb the server until the block ends. `request` is what slow readers send."""
    stop = threading.Event()
    threads = [
        threading.Thread(target=_read_slowly, args=[stop, port, request]) for _ in range(disturbance.slow_readers)
    ]
    if disturbance.kill_worker_every_seconds > 0:
        arguments = [stop, disturbance.kill_worker_every_seconds, worker_pids]
        threads.append(threading.Thread(target=_kill_workers, args=arguments))
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def _kill_workers(stop: threading.Event, every_seconds: float, worker_pids: Callable[[], Sequence[int]]) -> None:
    chooser = random.Random(1)
    while not stop.wait(every_seconds):
        pids = worker_pids()
        if pids:
            with suppress(ProcessLookupError):  # it has just ended by itself
                os.kill(chooser.choice(pids), signal.SIGKILL)


def _read_slowly(stop: threading.Event, port: int, request: bytes) -> None:
    """Pipeline requests and take their replies in small pieces; again when the server has had enough of it."""
    while not stop.is_set():
        with suppress(OSError), Wire.connect("127.0.0.1", port, receive_buffer=SLOW_BUFFER_BYTES) as wire:
            wire.send(request * SLOW_PIPELINE)
            while not stop.wait(SLOW_PAUSE_SECONDS):
                if not wire.socket.recv(SLOW_BYTES):
                    break
            wire.abort()
