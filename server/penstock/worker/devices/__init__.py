"""Devices that a batch runs on without the worker waiting for it: GPUs, and a thread that stands for one.

What the pipeline needs of a device is written down here, and no more. cuda.py has it through the driver; host.py on
threads of this process. Addresses are the device's: what the host must know them as is said where it is needed.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from penstock.core.devices import HOST
from penstock.native._kernels import DeviceWork
from penstock.worker.arrays import Array
from penstock.worker.device_errors import DeviceLostError, DeviceMemoryError

__all__ = [
    "Device",
    "DeviceArray",
    "DeviceLostError",
    "DeviceMemoryError",
    "Eager",
    "Graph",
    "Pinned",
    "Stream",
    "close_devices",
    "open_device",
]


@dataclass(frozen=True, slots=True)
class Pinned:
    """Memory of the host that the device reads and writes where it lies: its bytes, and where the device finds them."""

    array: Array
    address: int


@dataclass(frozen=True, slots=True)
class DeviceArray:
    """An array in the device's memory."""

    address: int
    shape: tuple[int, ...]
    dtype: str


class Graph(Protocol):
    """Work that was written down once and is started as a whole."""

    def launch(self) -> None:
        """Start it on its stream, and return at once. DeviceLostError when the device is gone."""


class Eager:
    """Work that cannot be written down, and is appended each time. See Graph."""

    def __init__(self, body: Callable[[], None]) -> None:
        """`body` appends it to its stream."""
        self._body = body

    def launch(self) -> None:
        """Append it."""
        self._body()


class Stream(Protocol):
    """Work in order."""

    @property
    def handle(self) -> int:
        """The driver's handle."""

    def launch(self, work: DeviceWork) -> None:
        """Append a kernel of the CUDA lane."""

    def copy(self, to: int, source: int, size: int) -> None:
        """Append a copy, between the device and pinned memory either way."""

    def call(self, work: Callable[[], None]) -> None:
        """Append what `work` appends to this stream by means of its own; on the host, what it does."""

    def capture(self, body: Callable[[], None]) -> Graph:
        """Write down what `body` appends, without running it."""

    def fault(self) -> BaseException | None:
        """Return what went wrong with what has run, without waiting; DeviceLostError is raised."""

    def synchronize(self) -> None:
        """Wait until all is done; DeviceLostError when the device is gone, other errors of what ran."""


class Device(Protocol):
    """One device and the memory taken from it, which lives as long as it does. Used by one thread."""

    @property
    def name(self) -> str:
        """What it is called in the settings: "cuda:0"."""

    @property
    def title(self) -> str:
        """What its maker calls it."""

    def register(self, address: int, size: int) -> int:
        """Pin memory of this process, and return where the device finds it."""

    def pinned(self, size: int) -> Pinned:
        """Return pinned memory of zeros. DeviceMemoryError when there is none."""

    def memory(self, size: int) -> int:
        """Return the address of memory of the device, zeros. DeviceMemoryError when there is no room."""

    def constants(self, data: bytes) -> int:
        """Return the address of a copy of these bytes on the device."""

    def view(self, array: DeviceArray) -> Array:
        """Return the array for NumPy, where the device's memory is the host's. ValueError where not."""

    def stream(self) -> Stream:
        """Return a new stream."""

    def rest(self, left_s: float) -> None:
        """Wait, a moment or longer, while nothing is to be done but what ends in `left_s`, or should have ended."""

    def close(self) -> None:
        """Give everything back."""


_opened: dict[str, Device] = {}


def open_device(name: str) -> Device:
    """Open a device, once for all models of this process.

    ModelLoadError, which says what is missing and how to mend it, when that cannot be.
    """
    if name not in _opened:
        _opened[name] = _open(name)
    return _opened[name]


def close_devices() -> None:
    """Give back all that were opened."""
    while _opened:
        _opened.popitem()[1].close()


def _open(name: str) -> Device:
    if name == HOST:
        from penstock.worker.devices.host import HostDevice

        return HostDevice()
    from penstock.worker.devices.cuda import open_cuda

    device = open_cuda(int(name.removeprefix("cuda:")))
    # Its context is the current one of this process's thread: of two GPUs the one would get what is the other's.
    assert all(other == HOST for other in _opened), "a process has one GPU"
    return device
