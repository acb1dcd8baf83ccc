"""What a worker does: load its models, attach their rings, warm up, then take, run, complete until told to stop."""

from __future__ import annotations

import gc
import logging
import os
import socket
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.core.devices import CPU
from penstock.core.errors import ModelLoadError
from penstock.worker.backends import Backend, LoadOptions, open_backend
from penstock.worker.batch import BatchRunner
from penstock.worker.fault import ModelFaultError, describe
from penstock.worker.limits import out_of_memory
from penstock.worker.messages import Attach, CostSample, Load, Loaded, Measured, ModelToLoad, ProtocolError, Ready, Stop
from penstock.worker.model import ModelSpec
from penstock.worker.planned import with_plan
from penstock.worker.priority import back_to_normal, clock_without_preemption
from penstock.worker.protocol import receive, send
from penstock.worker.warmup import most_rows, sizes_to_run, warm_up

if TYPE_CHECKING:
    from penstock.native._batcher import Taker
    from penstock.worker.devices.pipeline import Pipeline

__all__ = ["load_and_serve"]

logger = logging.getLogger("penstock.worker")

# How long an idle worker waits before it looks whether it should stop. Four wake-ups a second cost 0.03 % of a core.
IDLE_WAIT_MS = 250
# After ten seconds without a batch garbage is collected, in nobody's way.
IDLE_WAITS_BEFORE_COLLECT = 40
# Containers that outlived their batch before a collection between two batches: only reference cycles get here.
GARBAGE_MAX = 50_000


def load_and_serve(control: socket.socket, load: Load, *, idle: bool = False) -> None:
    """Do what the supervisor at the other end of `control` says until it says stop or is gone.

    `idle`: the process has idle priority until it is ready. ModelLoadError when a model cannot be served, ProtocolError
    when the supervisor cannot be understood.
    """
    started = time.monotonic()
    backends = [_load(control, number, model, load.memory_bytes) for number, model in enumerate(load.models)]
    loaded = time.monotonic()

    received = receive(control)
    if received is None:
        return
    attach, descriptors = received
    if not isinstance(attach, Attach):
        return  # stopped before it served anything
    taker = _attach(attach, descriptors, load.worker)
    for number, backend in enumerate(backends):
        _choose_strings(taker, number, backend.spec)
    on_devices = any(model.device != CPU for model in load.models)
    if on_devices:
        _place(taker, backends, load.models)
    attached = time.monotonic()
    clock = clock_without_preemption() if idle else time.perf_counter
    for number, (backend, model) in enumerate(zip(backends, load.models, strict=True)):
        with _faults_of(number, load.memory_bytes):
            _warm_up(control, taker, number, backend, model, clock)
            _prove(taker, number, backend, model)
    runners = [BatchRunner(backend, taker.batch_sizes(number)) for number, backend in enumerate(backends)]
    pipeline = _pipeline(taker, backends, runners) if on_devices else None
    _settle_garbage()
    stop = _StopWatch(control)
    if idle:
        back_to_normal()
    send(control, Ready(load_seconds=loaded - started, warmup_seconds=time.monotonic() - attached))
    if pipeline is not None:
        _serve_in_flight(pipeline, stop)
    else:
        _serve(taker, runners, stop)
    if on_devices:
        _close_devices()


@contextmanager
def _faults_of(number: int, memory_bytes: int) -> Iterator[None]:
    """Name the model that a ModelLoadError is about, and the setting when memory was what it lacked."""
    try:
        yield
    except (ModelLoadError, MemoryError) as error:
        fault = out_of_memory(error, memory_bytes) or error
        raise ModelFaultError(number, fault) from error


def _load(control: socket.socket, number: int, model: ModelToLoad, memory_bytes: int) -> Backend:
    options = LoadOptions(
        model.intra_op_threads,
        model.lengths,
        model.convert,
        model.trusted_digests,
        model.trusted_types,
        rows_max=model.max_batch_size,
        device=model.device,
        precision=model.precision,
    )
    with _faults_of(number, memory_bytes):
        backend = with_plan(open_backend(Path(model.path), model.backend, options), Path(model.path))
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


def _place(taker: Taker, backends: Sequence[Backend], models: Sequence[ModelToLoad]) -> None:
    """Let models on devices take their memory, now that it is known how many rows a batch has."""
    from penstock.worker.devices.backend import GraphBackend
    from penstock.worker.processed import Processed

    for number, (backend, model) in enumerate(zip(backends, models, strict=True)):
        inner = backend.inner if isinstance(backend, Processed) else backend
        if isinstance(inner, GraphBackend):
            with _faults_of(number, 0):
                inner.prepare(taker.max_batch_size(number), taker.batch_sizes(number), model.lengths)


def _pipeline(taker: Taker, backends: Sequence[Backend], runners: Sequence[BatchRunner]) -> Pipeline | None:
    """Return what keeps batches in flight, where a backend can have several."""
    from penstock.worker.devices.backend import GraphBackend
    from penstock.worker.devices.pipeline import Pipeline

    in_flight = any(isinstance(backend, GraphBackend) for backend in backends)
    return Pipeline(taker, backends, runners) if in_flight else None


def _close_devices() -> None:
    from penstock.worker.devices import close_devices

    close_devices()


def _choose_strings(taker: Taker, number: int, spec: ModelSpec) -> None:
    """Let the model have str where it asks for it: in the ring all strings are bytes."""
    as_str = [place for place, tensor in enumerate(spec.inputs) if tensor.dtype == "str"]
    if as_str:
        taker.read_as_str(number, as_str)


def _warm_up(
    control: socket.socket,
    taker: Taker,
    number: int,
    backend: Backend,
    model: ModelToLoad,
    clock: Callable[[], float],
) -> None:
    lengths = model.lengths or (0,)
    samples: tuple[CostSample, ...] = ()
    for length in lengths:
        sizes = sizes_to_run(_most_rows(taker, number, model, length), taker.batch_sizes(number))
        samples += warm_up(backend, sizes, model.warmup_seconds / len(lengths), clock, length=length)
    if samples:
        send(control, Measured(number, samples))


def _prove(taker: Taker, number: int, backend: Backend, model: ModelToLoad) -> None:
    """Run the golden rows, if there are any; ModelLoadError when something else comes of them."""
    if not model.golden:
        return
    # Most models have no golden rows, no plan, and run on the CPU.
    from penstock.worker.devices.backend import GraphBackend
    from penstock.worker.golden import prove, read_golden
    from penstock.worker.processed import Processed

    record = backend.record if isinstance(backend, Processed | GraphBackend) else None
    golden = read_golden(Path(model.golden), backend.spec, record)
    rows_max = {length: _most_rows(taker, number, model, length) for length in model.lengths or (0,)}
    prove(backend, golden, rows_max, taker.batch_sizes(number))


def _most_rows(taker: Taker, number: int, model: ModelToLoad, length: int) -> int:
    return most_rows(taker.max_batch_size(number), length, model.max_batch_tokens)


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


def _serve_in_flight(pipeline: Pipeline, stop: _StopWatch) -> None:
    """The same for batches on a device, of which several fly."""
    garbage = gc.get_count
    idle_waits = 0
    while not stop.wanted:
        if pipeline.turn(IDLE_WAIT_MS):
            idle_waits = 0
            if garbage()[0] > GARBAGE_MAX:
                gc.collect()
        else:
            idle_waits += 1
            if idle_waits == IDLE_WAITS_BEFORE_COLLECT:
                gc.collect()
    pipeline.finish()


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
