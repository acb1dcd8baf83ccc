"""Batches of several models through one device, some in flight at any time: take, start, look, complete."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.core.errors import ModelLoadError
from penstock.worker.arrays import Array, with_stand_ins
from penstock.worker.backends import Backend
from penstock.worker.batch import BatchRunner
from penstock.worker.device_errors import DeviceLostError
from penstock.worker.devices.backend import FLIGHT_DEPTH, GraphBackend
from penstock.worker.devices.contexts import BatchContext
from penstock.worker.devices.flight import Flight, Flying
from penstock.worker.fault import ModelFaultError

if TYPE_CHECKING:
    from penstock.native._batcher import Batch, Taker

__all__ = ["LEAD_S", "Pipeline"]

# From taking a batch to its first kernel: a take and a launch. What its rows take on their way comes on top.
LEAD_S = 50e-6
# A kernel that faults sets no flag: so often the stream is asked, by a call of the driver.
CHECK_S = 20e-3


@dataclass(slots=True)
class _Started:
    """A batch in a context. Its arrays are not looked at before it is done."""

    batch: Batch
    backend: GraphBackend
    context: BatchContext
    length: int
    check_s: float


class Pipeline:
    """Serves the rings of a worker. Used by one thread, and it never waits for the device while a batch can be taken.

    Models that do not run in flight, and batches that must run row by row, are run at once: what flies goes on.
    """

    def __init__(
        self,
        taker: Taker,
        backends: Sequence[Backend],
        runners: Sequence[BatchRunner],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """Pin the rings' memory, page by page: seconds for many gigabytes. ModelFaultError when that cannot be."""
        self._taker = taker
        self._backends = backends
        self._runners = runners
        self._clock = clock
        # The rows of the next batch are read while the one before it computes.
        feeds_s = [backend.feed_seconds for backend in backends if isinstance(backend, GraphBackend)]
        self._flight: Flight[_Started] = Flight(FLIGHT_DEPTH, LEAD_S + max(feeds_s, default=0.0), clock)
        self._free: dict[int, list[BatchContext]] = {}
        self._bases: dict[int, int] = {}
        for ring, backend in enumerate(backends):
            if isinstance(backend, GraphBackend):
                self._free[ring] = list(backend.contexts)
                self._bases[ring] = _pinned(backend, ring, *taker.region(ring))

    @property
    def flying(self) -> int:
        """How many batches are in flight."""
        return len(self._flight.flying)

    def turn(self, timeout_ms: int) -> bool:
        """Take a batch if it is time, and complete those that are done; wait only when nothing flies.

        False when nothing flies and nothing came for `timeout_ms`. DeviceLostError when the device is gone.
        """
        if not self._flight.flying:
            return self._take(timeout_ms)
        took = self._flight.may_take() and self._take(0)
        if not self._land() and not took:
            self._rest()
        return True

    def finish(self) -> None:
        """Complete what flies."""
        while self._flight.flying:
            if not self._land():
                self._rest()

    def _take(self, timeout_ms: int) -> bool:
        batch = self._taker.take(timeout_ms)
        if batch is None:
            return False
        backend = self._backends[batch.ring]
        if batch.singly or not isinstance(backend, GraphBackend):
            self._runners[batch.ring].run(batch)
            return True
        self._start(batch, backend)
        return True

    def _start(self, batch: Batch, backend: GraphBackend) -> None:
        context = self._free[batch.ring].pop()
        size = backend.size_for(batch.run_rows)
        # Rows of several lengths lie in lanes of their own; only there the arrays must say which one it is.
        length = backend.length_of(batch.inputs) if backend.varies else 0
        base = self._bases[batch.ring]
        for number, table in enumerate(context.tables(size)):
            batch.input_addresses(number, table, base)
        started = _Started(batch, backend, context, length, self._clock() + CHECK_S)
        try:
            context.start(size, length)
        except DeviceLostError:
            raise
        except BaseException as error:
            context.stream.fault()  # DeviceLostError where it is that, whatever a library called it
            self._rescue(started, error)
            return
        self._flight.start(started, (batch.ring, size, length))

    def _land(self) -> bool:
        """Complete the batches that are done; whether there was one."""
        landed = False
        for flying in self._flight.flying:
            started = flying.what
            if started.context.done:
                self._complete(flying)
                landed = True
            elif self._clock() >= started.check_s:
                landed = self._check(flying) or landed
        return landed

    def _complete(self, flying: Flying[_Started]) -> None:
        started = flying.what
        batch, backend = started.batch, started.backend
        began_s = self._flight.end(flying)
        batch.mark_started(int(began_s * 1e9))
        faults: dict[int, str] = {}
        try:
            results = started.context.results(batch.rows, started.length)
            if started.context.unfit:
                found = backend.faults(batch.inputs)
                faults = {row: fault for row, fault in found.items() if row < batch.rows}
            outputs: Sequence[Array] = batch.outputs
            if batch.run_rows != batch.rows:
                outputs = [output[: batch.rows] for output in outputs]
            if faults and len(faults) < batch.rows:
                results = with_stand_ins(results, faults)  # there may be no answer to what became of them
            if len(faults) < batch.rows:
                backend.answer(results, outputs, batch.lengths if backend.varies else None)
        except BaseException as error:
            self._free[batch.ring].append(started.context)
            self._runners[batch.ring].rescue(batch, error)
            return
        self._free[batch.ring].append(started.context)
        if faults:
            self._runners[batch.ring].refuse(batch, faults, range(batch.rows))
        batch.complete()

    def _rescue(self, started: _Started, error: BaseException) -> None:
        """Run a batch again that failed on its way."""
        batch = started.batch
        self._free[batch.ring].append(started.context)
        if started.context.unfit:  # maybe only for what became of unfit rows: others stand in for them then
            batch.mark_unmeasured()
            self._runners[batch.ring].run(batch)
        else:
            self._runners[batch.ring].rescue(batch, error)

    def _check(self, flying: Flying[_Started]) -> bool:
        """Ask the stream of a batch that takes long whether it failed; whether that was so."""
        started = flying.what
        started.check_s = self._clock() + CHECK_S
        fault = started.context.stream.fault()
        if fault is None:
            return False
        if isinstance(fault, DeviceLostError):
            raise fault
        self._flight.drop(flying)
        self._rescue(started, fault)
        return True

    def _rest(self) -> None:
        """Wait for the batch that is due first, or until the next one may be taken."""
        flying = self._flight.flying[0].what
        flying.backend.device.rest(self._flight.next_s - self._clock())


def _pinned(backend: GraphBackend, ring: int, address: int, size: int) -> int:
    """Return where the device finds a ring's memory."""
    try:
        return backend.device.register(address, size)
    except DeviceLostError:
        raise
    except Exception as error:
        refusal = ModelLoadError(
            f"the {size >> 20} MiB that rows wait in cannot be pinned for {backend.device.name} ({error}): lower "
            "queue_bytes, or give the machine or the container more memory"
        )
        raise ModelFaultError(ring, refusal) from error
