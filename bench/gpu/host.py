"""The host's time for a batch, from the ring to the ring, with a network that is one copy."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np

from bench.gpu.limits import look_until, pause_of
from penstock.native._batcher import Ring, Taker
from penstock.worker.batch import BatchRunner
from penstock.worker.devices import Device, DeviceArray, Graph, Stream
from penstock.worker.devices.backend import GraphBackend
from penstock.worker.devices.pipeline import Pipeline
from penstock.worker.model import ModelSpec, TensorSpec

__all__ = ["host_time"]

WIDE = 256


class Copying:
    """Answers with its rows."""

    inputs = (TensorSpec("x", "float32", (WIDE,)),)
    outputs = (TensorSpec("y", "float32", (WIDE,)),)

    def __init__(self, device: Device) -> None:
        self._device = device

    def stream(self) -> Stream:
        """See Network."""
        return self._device.stream()

    def enqueue(self, stream: Stream, inputs: Sequence[DeviceArray], outputs: Sequence[DeviceArray]) -> None:
        """See Network."""
        stream.copy(outputs[0].address, inputs[0].address, inputs[0].shape[0] * 4 * WIDE)

    def graph(self, stream: Stream, body: Callable[[], None]) -> Graph:
        """See Network."""
        return stream.capture(body)


def host_time(device: Device, rows: Sequence[int], count: int) -> Iterator[dict[str, Any]]:
    """Yield, by rows of a batch: taken and completed through a ring; the device's part of it; and the host's.

    The device's is what passes from the end of a launch to the flag: nothing of the host is in it.
    """
    tensors = [("x", "float32", (WIDE,))], [("y", "float32", (WIDE,))]
    ring = Ring(*tensors, max_batch_size=max(rows))
    taker = Taker([ring.fd], [0], 0)
    backend = GraphBackend("copying", device, Copying(device), ModelSpec(Copying.inputs, Copying.outputs))
    backend.prepare(taker.max_batch_size(), (), ())
    pipeline = Pipeline(taker, [backend], [BatchRunner(backend)])
    row, context, pause = bytes(4 * WIDE), backend.contexts[0], pause_of(device)
    context.tables(max(rows))[0][:] = device.pinned(4 * WIDE).address
    gc.collect()
    gc.disable()
    for size in rows:
        whole, waited = [], []
        for _ in range(count):
            for _ in range(size):
                claim = ring.claim()
                assert claim is not None
                ring.publish(claim, [row])
            begin, answered = time.perf_counter(), 0
            while answered < size:
                pipeline.turn(0)
                while (block := ring.poll_done()) is not None:
                    answered += block.rows
                    end = time.perf_counter()
                    ring.handled(block, range(block.rows))
            whole.append(end - begin)
            # Nothing flies: the same graph, of rows that lie elsewhere.
            context.start(backend.size_for(size))
            begin = time.perf_counter()
            look_until(lambda: context.done, context.stream, pause)
            waited.append(time.perf_counter() - begin)
        both, device_s = np.percentile(whole, 50) * 1e6, np.percentile(waited, 50) * 1e6
        yield (
            {"rows": size, "ring_to_ring_us": both, "device_us": device_s, "host_us": both - device_s}
            | {"ring_to_ring_us_p99": np.percentile(whole, 99) * 1e6}
        )
    gc.enable()
    pipeline.finish()
