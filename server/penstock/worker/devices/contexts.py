"""A batch in flight: memory of its own on a device, and one graph for each size that takes it from row to answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Protocol

import numpy as np

from penstock.native import _kernels
from penstock.worker.arrays import Array
from penstock.worker.devices import Device, DeviceArray, Graph, Pinned, Stream
from penstock.worker.devices.feeds import Feed, row_bytes
from penstock.worker.model import TensorSpec

__all__ = ["BatchContext", "Network"]

FEED_RUNS = 3
_HEAD_BYTES = 16  # kernels/device_work.hpp: BatchHead


class Network(Protocol):
    """A model on a device, without memory of its own for batches."""

    @property
    def inputs(self) -> tuple[TensorSpec, ...]:
        """What it takes."""

    @property
    def outputs(self) -> tuple[TensorSpec, ...]:
        """What it gives."""

    def stream(self) -> Stream:
        """Return a stream for one more batch in flight."""

    def enqueue(self, stream: Stream, inputs: Sequence[DeviceArray], outputs: Sequence[DeviceArray]) -> None:
        """Append a run to the stream: it reads and writes these arrays, whenever it comes to it."""

    def graph(self, stream: Stream, body: Callable[[], None]) -> Graph:
        """Write down what `body` appends to the stream, a run of this network among it."""


class BatchContext:
    """Takes one batch at a time through a network. Used by one thread.

    The graph of a size reads where the rows lie from pinned memory, makes the inputs, runs the network, copies its
    outputs into pinned memory, and writes the batch's number into a flag there. All addresses are fixed, so starting a
    batch is: write the addresses and the number, launch.
    """

    def __init__(self, device: Device, network: Network, feed: Feed, rows: Sequence[TensorSpec], rows_max: int) -> None:
        """`rows` are the tensors of a row in the ring, `rows_max` the most rows of a batch."""
        self._network = network
        self._feed = feed
        self._rows_max = rows_max
        self._stream = network.stream()
        self._head = device.pinned(_HEAD_BYTES)
        self._flag = device.pinned(64)  # a cache line
        self._addresses = [device.pinned(8 * rows_max) for _ in rows]
        self._tables = [pinned.array.view(np.uint64) for pinned in self._addresses]
        self._inputs = [(tensor, device.memory(rows_max * _padded(tensor))) for tensor in network.inputs]
        self._outputs = [(tensor, device.memory(rows_max * _padded(tensor))) for tensor in network.outputs]
        self._results = [device.pinned(rows_max * _padded(tensor)) for tensor in network.outputs]
        self._graphs: dict[tuple[int, int], Graph] = {}
        # Made once for each number of rows: an array costs half a microsecond.
        self._tables_of: dict[int, list[Array]] = {}
        self._results_of: dict[tuple[int, int], list[Array]] = {}
        self._sequence = 0
        self._head_here = _address(self._head)
        self._flag_here = _address(self._flag)
        self._staged: list[Pinned] | None = None
        self._device = device
        self._rows = rows

    @property
    def stream(self) -> Stream:
        """Where its graphs run."""
        return self._stream

    def prepare(self, rows: int, length: int = 0) -> None:
        """Write down the graph for batches of up to so many rows; it has run once then."""
        if (rows, length) in self._graphs:
            return
        inputs = [_array(tensor, address, rows, length) for tensor, address in self._inputs]
        outputs = [_array(tensor, address, rows, length) for tensor, address in self._outputs]

        addresses = [pinned.address for pinned in self._addresses]
        first = self._feed.works(self._head.address, addresses, inputs, length)
        last = _kernels.signal_work(self._head.address, self._flag.address)

        def body() -> None:  # run for each batch where a network cannot be written down
            for work in first:
                self._stream.launch(work)
            self._network.enqueue(self._stream, inputs, outputs)
            for (tensor, address), result in zip(self._outputs, self._results, strict=True):
                self._stream.copy(result.address, address, rows * row_bytes(tensor, length))
            self._stream.launch(last)

        # Libraries set themselves up in their first runs, which cannot be written down. There are no rows in it.
        body()
        self._stream.synchronize()
        self._graphs[rows, length] = self._network.graph(self._stream, body)

    def tables(self, size: int) -> list[Array]:
        """Return what a batch writes the addresses of its rows into, one array for each tensor of a row."""
        found = self._tables_of.get(size)
        if found is None:
            found = self._tables_of[size] = [table[:size] for table in self._tables]
        return found

    def start(self, size: int, length: int = 0) -> None:
        """Run a batch whose rows' addresses have been written, by the graph of this size.

        A batch with fewer rows repeats its first one: what an earlier batch left there might be what it failed for.
        """
        self._sequence += 1
        _kernels.write_head(self._head_here, self._sequence, size)
        self._graphs[size, length].launch()

    @property
    def done(self) -> bool:
        """Whether the batch started last is done, and its results are there."""
        return _kernels.read_flag(self._flag_here) == self._sequence

    @property
    def unfit(self) -> bool:
        """Whether a feature of the batch that is done does not fit its integer input."""
        return _kernels.read_unfit(self._head_here)

    def results(self, rows: int, length: int = 0) -> list[Array]:
        """Return the network's outputs for the batch that is done, in memory that the next one overwrites."""
        found = self._results_of.get((rows, length))
        if found is None:
            found = self._results_of[rows, length] = self._views(rows, length)
        return found

    def _views(self, rows: int, length: int) -> list[Array]:
        return [
            result.array[: rows * row_bytes(tensor, length)]
            .view(tensor.dtype)
            .reshape((rows, *tensor.shape_at(length)))
            for tensor, result in zip(self._network.outputs, self._results, strict=True)
        ]

    def run(self, inputs: Sequence[Array], size: int, length: int = 0) -> list[Array]:
        """Run rows that lie anywhere, and wait for the results."""
        rows = len(inputs[0])
        for array, staged, table in zip(inputs, self._stage(), self._tables, strict=True):
            flat = np.ascontiguousarray(array).reshape(rows, -1).view(np.uint8)
            each = flat.shape[1]
            staged.array[: rows * each].reshape(rows, each)[...] = flat
            table[:rows] = staged.address + each * np.arange(rows, dtype=np.uint64)
            table[rows:size] = staged.address
        self.start(size, length)
        self._stream.synchronize()
        return self.results(rows, length)

    def feed_seconds(self, size: int, length: int = 0) -> float:
        """Return how long the inputs of a batch of this size take to be made, of rows in pinned memory."""
        for tensor, staged, table in zip(self._rows, self._stage(), self._tables, strict=True):
            table[:size] = staged.address + row_bytes(tensor, length) * np.arange(size, dtype=np.uint64)
        _kernels.write_head(self._head_here, self._sequence, size)
        targets = [_array(tensor, address, size, length) for tensor, address in self._inputs]
        works = self._feed.works(self._head.address, [pinned.address for pinned in self._addresses], targets, length)
        took = []
        for _ in range(FEED_RUNS):
            begin = time.perf_counter()
            for work in works:
                self._stream.launch(work)
            self._stream.synchronize()
            took.append(time.perf_counter() - begin)
        return min(took)

    def _stage(self) -> list[Pinned]:
        """Return room for rows that come from elsewhere than a ring."""
        if self._staged is None:
            self._staged = [self._device.pinned(self._rows_max * _padded(tensor)) for tensor in self._rows]
        return self._staged


def _padded(tensor: TensorSpec) -> int:
    return -(-max(row_bytes(tensor, tensor.shape[0] if tensor.varies else 0), 1) // 8) * 8


def _address(pinned: Pinned) -> int:
    """Return where this process finds it."""
    return int(pinned.array.ctypes.data)


def _array(tensor: TensorSpec, address: int, rows: int, length: int) -> DeviceArray:
    return DeviceArray(address, (rows, *tensor.shape_at(length)), tensor.dtype)
