"""A thread of this process as a device: batches run on it while the worker takes the next one.

The kernels of the CUDA lane run as the C++ compiler built them. It serves where there is no GPU, and shows there what
the pipeline does.
"""

from __future__ import annotations

import ctypes
import queue
import threading
from collections.abc import Callable

import numpy as np

from penstock.core.devices import HOST
from penstock.native._kernels import DeviceWork
from penstock.worker.arrays import Array
from penstock.worker.devices import DeviceArray, Graph, Pinned

__all__ = ["HostDevice"]

_ALIGNMENT = 64
REST_MIN_S = 200e-6  # so often it is looked whether there are rows
REST_MAX_S = 50e-3

_Work = Callable[[], None]


class HostDevice:
    """See Device. Its streams take turns, as kernels that fill a GPU do: there is one thread."""

    name = HOST
    title = "a thread of the host"

    def __init__(self) -> None:
        self._kept: list[Array] = []
        self._queue: queue.SimpleQueue[_Work | None] = queue.SimpleQueue()
        self._ran = threading.Event()
        self._thread = threading.Thread(target=self._run, name="penstock-device", daemon=True)
        self._thread.start()

    def register(self, address: int, size: int) -> int:
        """Return the address: it is the device's already."""
        return address

    def pinned(self, size: int) -> Pinned:
        """Return memory of zeros."""
        memory = np.zeros(size + _ALIGNMENT, np.uint8)
        self._kept.append(memory)
        first = -memory.ctypes.data % _ALIGNMENT
        return Pinned(memory[first : first + size], memory.ctypes.data + first)

    def memory(self, size: int) -> int:
        """Return the address of memory of zeros."""
        return self.pinned(size).address

    def constants(self, data: bytes) -> int:
        """Return the address of a copy of these bytes."""
        copy = self.pinned(len(data))
        copy.array[:] = np.frombuffer(data, np.uint8)
        return copy.address

    def view(self, array: DeviceArray) -> Array:
        """Return the array for NumPy. The device keeps its memory."""
        dtype = np.dtype(array.dtype)
        size = int(np.prod(array.shape, dtype=np.int64)) * dtype.itemsize
        memory = memoryview((ctypes.c_uint8 * size).from_address(array.address))
        return np.frombuffer(memory, np.uint8).view(dtype).reshape(array.shape)

    def stream(self) -> HostStream:
        """Return a new stream."""
        return HostStream(self._queue.put)

    def rest(self, left_s: float) -> None:
        """Wait until something has run: whoever spins would keep the interpreter from the device's thread."""
        if self._ran.wait(min(max(left_s, REST_MIN_S), REST_MAX_S)):
            self._ran.clear()

    def close(self) -> None:
        """Finish what was started, and end."""
        self._queue.put(None)
        self._thread.join()

    def _run(self) -> None:
        work: _Work | None
        while (work := self._queue.get()) is not None:
            work()
            work = None  # what it refers to may go while this thread waits
            self._ran.set()


class HostStream:
    """See Stream. What fails is told by the next synchronize(), and ends the graph that it is part of."""

    handle = 0

    def __init__(self, put: Callable[[_Work], None]) -> None:
        self._put = put
        self._recorded: list[_Work] | None = None
        self._fault: BaseException | None = None

    def launch(self, work: DeviceWork) -> None:
        """Append a kernel of the CUDA lane."""
        self.call(work.run)

    def copy(self, to: int, source: int, size: int) -> None:
        """Append a copy."""
        self.call(lambda: _copy(to, source, size))

    def call(self, work: _Work) -> None:
        """Append work."""
        if self._recorded is not None:
            self._recorded.append(work)
        else:
            self._put(lambda: self._guarded([work]))

    def capture(self, body: Callable[[], None]) -> Graph:
        """Write down what `body` appends."""
        self._recorded = []
        try:
            body()
            return _HostGraph(self, tuple(self._recorded))
        finally:
            self._recorded = None

    def fault(self) -> BaseException | None:
        """Return the first error since the last call."""
        fault, self._fault = self._fault, None
        return fault

    def synchronize(self) -> None:
        """Wait until all is done; raises the first error since the last call."""
        done = threading.Event()
        self._put(done.set)
        done.wait()
        fault = self.fault()
        if fault is not None:
            raise fault

    def run_later(self, works: tuple[_Work, ...]) -> None:
        """Append works that end with the first one that fails."""
        self._put(lambda: self._guarded(works))

    def _guarded(self, works: tuple[_Work, ...] | list[_Work]) -> None:
        try:
            for work in works:
                work()
        except BaseException as error:  # a model's, whatever it is: told to whom waits for it
            self._fault = self._fault or error


class _HostGraph:
    def __init__(self, stream: HostStream, works: tuple[_Work, ...]) -> None:
        self._stream = stream
        self._works = works

    def launch(self) -> None:
        self._stream.run_later(self._works)


def _copy(to: int, source: int, size: int) -> None:
    ctypes.memmove(to, source, size)
