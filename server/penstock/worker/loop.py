"""What a worker does: load its models, attach their rings, warm up, then take, run, complete until told to stop."""

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
from penstock.worker.backends import Backend, LoadOptions, open_backend
from penstock.worker.batch import BatchRunner
from penstock.worker.fault import ModelFaultError, describe
from penstock.worker.messages import Attach, CostSample, Load, Loaded, Measured, ModelToLoad, ProtocolError, Ready, Stop
from penstock.worker.protocol import receive, send
from penstock.worker.warmup import most_rows, sizes_to_run, warm_up

if TYPE_CHECKING:
    from penstock.native._batcher import Taker

__all__ = ["load_and_serve"]

logger = logging.getLogger("penstock.worker")

# How long an idle worker waits before it looks whether it should stop. Four wake-ups a second cost 0.03 % of a core.
IDLE_WAIT_MS = 250
# After ten seconds without a batch garbage is collected, in nobody's way.
IDLE_WAITS_BEFORE_COLLECT = 40
# Containers that outlived their batch before a collection between two batches: only reference cycles get here.
GARBAGE_MAX = 50_000


def load_and_serve(control: socket.socket, load: Load) -> None:
    """Do what the supervisor at the other end of `control` says until it says stop or is gone.

    ModelLoadError when a model cannot be served, ProtocolError when the supervisor cannot be understood.
    """
    started = time.monotonic()
    backends = [_load(control, number, model) for number, model in enumerate(load.models)]
    loaded = time.monotonic()

    received = receive(control)
    if received is None:
        return
    attach, descriptors = received
    if not isinstance(attach, Attach):
        return  # stopped before it served anything
    taker = _attach(attach, descriptors, load.worker)
    attached = time.monotonic()
    for number, (backend, model) in enumerate(zip(backends, load.models, strict=True)):
        _warm_up(control, taker, number, backend, model)
    _settle_garbage()
    stop = _StopWatch(control)
    send(control, Ready(load_seconds=loaded - started, warmup_seconds=time.monotonic() - attached))
    runners = [BatchRunner(backend, taker.batch_sizes(number)) for number, backend in enumerate(backends)]
    _serve(taker, runners, stop)


def _load(control: socket.socket, number: int, model: ModelToLoad) -> Backend:
    try:
        path = Path(model.path)
        options = LoadOptions(
            model.intra_op_threads, model.lengths, model.convert, model.trusted_digests, model.trusted_types
        )
        backend = open_backend(path, model.backend, options)
    except ModelLoadError as error:
        raise ModelFaultError(number, error) from error
    send(control, Loaded(number, backend.name, backend.spec, backend.rerun))
    return backend


def _attach(attach: Attach, descriptors: Sequence[int], worker: int) -> Taker:
    # Imported late: a model that cannot be loaded says so without it.
    from penstock.native._batcher import Taker

    if len(descriptors) != len(attach.rings) + attach.loops:
        raise ProtocolError(
            f"{len(attach.rings)} rings and {attach.loops} I/O loops came with {len(descriptors)} descriptors"
        )
    rings, loops = descriptors[: len(attach.rings)], descriptors[len(attach.rings) :]
    try:
        return Taker(rings, loops, worker, policy=attach.policy, quarantine=attach.quarantine)
    except (RuntimeError, ValueError, OSError) as error:
        raise ModelLoadError(f"the rings cannot be attached: {describe(error)}") from error
    finally:
        for descriptor in descriptors:  # the taker has mapped the ones and duplicated the others
            os.close(descriptor)


def _warm_up(control: socket.socket, taker: Taker, number: int, backend: Backend, model: ModelToLoad) -> None:
    lengths = model.lengths or (0,)
    samples: tuple[CostSample, ...] = ()
    try:
        for length in lengths:
            most = most_rows(taker.max_batch_size(number), length, model.max_batch_tokens)
            sizes = sizes_to_run(most, taker.batch_sizes(number))
            samples += warm_up(backend, sizes, model.warmup_seconds / len(lengths), length=length)
    except ModelLoadError as error:
        raise ModelFaultError(number, error) from error
    if samples:
        send(control, Measured(number, samples))


def _serve(taker: Taker, runners: Sequence[BatchRunner], stop: _StopWatch) -> None:
    """Take, run, complete: the only Python that runs per batch."""
    take = taker.take
    runs = [runner.run for runner in runners]
    garbage = gc.get_count
    idle_waits = 0
    while not stop.wanted:
        batch = take(IDLE_WAIT_MS)
        if batch is not None:
            runs[batch.ring](batch)
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
