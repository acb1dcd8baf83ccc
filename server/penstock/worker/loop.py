"""The life of a worker: load, attach, warm up, then take, run, complete until told to stop."""

from __future__ import annotations

import gc
import logging
import os
import socket
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.core.errors import ModelLoadError
from penstock.worker.backends import Backend, open_backend
from penstock.worker.batch import BatchRunner
from penstock.worker.fault import describe
from penstock.worker.protocol import Attach, Failed, Load, Loaded, ProtocolError, Ready, Stop, receive, send
from penstock.worker.warmup import warm_up

if TYPE_CHECKING:
    from penstock.native._batcher import Taker

__all__ = ["work"]

logger = logging.getLogger("penstock.worker")

# How long an idle worker waits before it looks whether it should stop. Four wake-ups a second cost 0.03 % of a core.
IDLE_WAIT_MS = 250
# After ten seconds without a batch garbage is collected, in nobody's way.
IDLE_WAITS_BEFORE_COLLECT = 40
# Containers that outlived their batch before a collection between two batches: only reference cycles get here.
GARBAGE_MAX = 50_000


def work(control: socket.socket) -> int:
    """Serve the supervisor at the other end of `control` until it says stop or is gone; the process's exit status."""
    try:
        return _work(control)
    except (ModelLoadError, ProtocolError) as error:
        logger.debug("loading failed", exc_info=error)
        send(control, Failed(str(error)))
        return 1


def _work(control: socket.socket) -> int:
    received = receive(control)
    if received is None:
        return 0
    load, _ = received
    if not isinstance(load, Load):
        raise ProtocolError(f"expected the message to load a model, not {type(load).__name__}")
    started = time.monotonic()
    backend = open_backend(Path(load.path), load.backend, threads=load.options.get("intra_op_threads", 1))
    loaded = time.monotonic()
    send(control, Loaded(backend.name, backend.spec, backend.rerun))

    received = receive(control)
    if received is None:
        return 0
    attach, descriptors = received
    if not isinstance(attach, Attach):
        return 0  # stopped before it served anything
    taker = _attach(attach, descriptors, load.worker)
    attached = time.monotonic()
    warm_up(backend, taker.max_batch_size())
    _settle_garbage()
    stop = _StopWatch(control)
    send(control, Ready(load_seconds=loaded - started, warmup_seconds=time.monotonic() - attached))
    _serve(taker, backend, stop)
    return 0


def _attach(attach: Attach, descriptors: Sequence[int], worker: int) -> Taker:
    # Imported late: a model that cannot be loaded says so without it.
    from penstock.native._batcher import Taker

    if len(descriptors) != attach.loops + 1:
        raise ProtocolError(f"{attach.loops} I/O loops came with {len(descriptors)} descriptors")
    ring, *loops = descriptors
    try:
        return Taker([ring], loops, worker)
    except (RuntimeError, ValueError, OSError) as error:
        raise ModelLoadError(f"the ring cannot be attached: {describe(error)}") from error
    finally:
        for descriptor in descriptors:  # the taker has mapped the one and duplicated the others
            os.close(descriptor)


def _serve(taker: Taker, backend: Backend, stop: _StopWatch) -> None:
    """Take, run, complete: the only Python that runs per batch."""
    take = taker.take
    run = BatchRunner(backend).run
    garbage = gc.get_count
    idle_waits = 0
    while not stop.wanted:
        batch = take(IDLE_WAIT_MS)
        if batch is not None:
            run(batch)
            if garbage()[0] > GARBAGE_MAX:
                gc.collect()
            idle_waits = 0
        else:
            idle_waits += 1
            if idle_waits == IDLE_WAITS_BEFORE_COLLECT:
                gc.collect()


def _settle_garbage() -> None:
    """Take what was loaded out of the collector's sight, and switch it off: a collection must not delay a batch."""
    gc.collect()
    gc.freeze()
    gc.disable()


class _StopWatch:
    """Waits on a thread of its own for the supervisor to say stop, or to be gone: no system call per batch."""

    def __init__(self, control: socket.socket) -> None:
        self.wanted = False
        self._control = control
        threading.Thread(target=self._watch, name="penstock-control", daemon=True).start()

    def _watch(self) -> None:
        try:
            while (received := receive(self._control)) is not None:
                if isinstance(received[0], Stop):
                    break
        except (OSError, ProtocolError) as error:
            logger.warning("the supervisor cannot be understood, stopping: %s", error)
        self.wanted = True
