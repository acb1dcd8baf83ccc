"""What the device can do at best: copies, launches, and how soon the host knows of their end."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from penstock.core.devices import HOST
from penstock.native import _kernels
from penstock.worker.devices import Device, Stream

__all__ = ["copies", "launches", "look_until", "overlap", "pause_of", "per_call", "preprocessing"]

LOOKS = 1 << 16
Row = dict[str, Any]


def per_call(stream: Stream, append: Callable[[], None], budget_s: float = 0.1) -> tuple[float, float]:
    """Return seconds on the device and seconds of the host for one of many: appended one after the other."""
    append()
    stream.synchronize()
    begin = time.perf_counter()
    append()
    stream.synchronize()
    once = max(time.perf_counter() - begin, 1e-6)
    count = max(3, min(2000, int(budget_s / once)))
    begin = time.perf_counter()
    for _ in range(count):
        append()
    host = time.perf_counter() - begin
    stream.synchronize()
    return (time.perf_counter() - begin) / count, host / count


def pause_of(device: Device) -> Callable[[], object]:
    """Return what to do between two looks at a flag: let the thread run that stands for a device, or nothing."""
    return os.sched_yield if device.name == HOST else int


def look_until(done: Callable[[], bool], stream: Stream, pause: Callable[[], object]) -> None:
    """Look until it is done. A kernel that faults sets no flag, so now and then the stream is asked."""
    looks = 0
    while not done():
        pause()
        looks += 1
        if looks % LOOKS == 0:
            fault = stream.fault()
            if fault is not None:
                raise fault


def sizes(largest: int) -> Iterator[int]:
    """Yield powers of four from 128 bytes."""
    size = 128
    while size <= largest:
        yield size
        size *= 4


def copies(device: Device, largest: int) -> Iterator[Row]:
    """Compare the copy engine with a kernel that reads pinned memory where it lies, by size and number of blocks."""
    stream = device.stream()
    pinned, memory = device.pinned(largest), device.memory(largest)
    head, table = device.pinned(16), device.pinned(8 * 4096)
    addresses = table.array.view(np.uint64)
    for size in sizes(largest):
        down, down_host = per_call(stream, lambda size=size: stream.copy(memory, pinned.address, size))  # type: ignore[misc]
        up, _ = per_call(stream, lambda size=size: stream.copy(pinned.address, memory, size))  # type: ignore[misc]
        row: Row = {"bytes": size, "h2d_us": down * 1e6, "h2d_gbps": size / down / 1e9, "h2d_host_us": down_host * 1e6}
        row |= {"d2h_us": up * 1e6, "d2h_gbps": size / up / 1e9}
        each = min(size, 4096)
        rows = min(size // each, 4096)
        each = size // rows
        addresses[:rows] = pinned.address + each * np.arange(rows, dtype=np.uint64)
        _kernels.write_head(int(head.array.ctypes.data), 1, rows)
        for blocks in (8, 16, 32, 64, 0):
            work = _kernels.gather_work(head.address, (0, table.address), memory, each, rows, blocks)
            took, _ = per_call(stream, lambda work=work: stream.launch(work))  # type: ignore[misc]
            row[f"zero_copy_{blocks or 'all'}_gbps"] = size / took / 1e9
            row[f"zero_copy_{blocks or 'all'}_us"] = took * 1e6
        yield row


def launches(device: Device) -> Iterator[Row]:
    """Return what graphs of so many nodes cost the host, and how soon their end is known by the flag."""
    pause = pause_of(device)
    for nodes in (1, 8, 64, 256):
        stream = device.stream()
        head, flag = device.pinned(16), device.pinned(64)
        head_here, flag_here = int(head.array.ctypes.data), int(flag.array.ctypes.data)
        first = _kernels.signal_work(head.address, flag.address + 8)
        last = _kernels.signal_work(head.address, flag.address)

        def body(first: Any = first, last: Any = last, nodes: int = nodes, stream: Stream = stream) -> None:
            for _ in range(nodes - 1):
                stream.launch(first)
            stream.launch(last)

        graph = stream.capture(body)
        _kernels.write_head(head_here, 1, 1)
        took, host = per_call(stream, graph.launch)
        round_trips = []
        for sequence in range(2, 500):
            _kernels.write_head(head_here, sequence, 1)
            begin = time.perf_counter()
            graph.launch()
            look_until(partial(_shows, flag_here, sequence), stream, pause)
            round_trips.append(time.perf_counter() - begin)
            stream.synchronize()
        ends = np.percentile(round_trips, (50, 99))
        yield (
            {"nodes": nodes, "launch_host_us": host * 1e6, "graph_us": took * 1e6}
            | {"flag_us_p50": ends[0] * 1e6, "flag_us_p99": ends[1] * 1e6}
        )


def _shows(flag: int, sequence: int) -> bool:
    return _kernels.read_flag(flag) == sequence


def preprocessing(device: Device, images: int) -> Iterator[Row]:
    """Normalise 224 x 224 images out of pinned memory and out of the device's own, beside the limit of its bytes.

    More bytes than a GPU's cache holds. Out of pinned memory by as many blocks as serve.
    """
    size = 224 * 224 * 3
    stream = device.stream()
    pinned, inside = device.pinned(images * size), device.memory(images * size)
    result = device.memory(images * size * 4)
    head, table = device.pinned(16), device.pinned(8 * images)
    _kernels.write_head(int(head.array.ctypes.data), 1, images)
    whole = (0.0, 0.0, 224.0, 224.0)
    copied, _ = per_call(stream, lambda: stream.copy(inside, pinned.address, images * size))
    inner, _ = per_call(stream, lambda: stream.copy(result, inside, images * size))
    for dtype, wide in (("float16", 2), ("float32", 4), ("uint8", 1)):
        for planes in (True, False):
            plan = _kernels.DeviceImages(
                (224, 224), (224, 224), dtype, planes, [0.01] * 3, [-1.0] * 3, "bilinear", whole
            )
            for place, first, blocks in (("pinned", pinned.address, _kernels.BUS_BLOCKS), ("device", inside, 0)):
                addresses = table.array.view(np.uint64)
                addresses[:] = first + size * np.arange(images, dtype=np.uint64)
                work = plan.work(0, head.address, (0, table.address), result, images, blocks)
                took, _ = per_call(stream, lambda work=work: stream.launch(work))  # type: ignore[misc]
                # Out of pinned memory the bus is the limit, else what the device's memory moves, both ways.
                limit = copied if place == "pinned" else inner * (1 + wide) / 2
                yield {"rows": place, "to": dtype, "planes": planes, "us": took * 1e6, "share_of_limit": limit / took}


def overlap(device: Device, size: int) -> Iterator[Row]:
    """Copy in, and compute, first alone and then on two streams at once: T over the longer of the two.

    What computes is a kernel on all of the device's multiprocessors. What copies is the copy engine, and a kernel that
    reads pinned memory, as batches have it.
    """
    copying, computing = device.stream(), device.stream()
    pinned, first = device.pinned(size), device.memory(size)
    second, third = device.memory(size), device.memory(size)
    read = _gathering(device, pinned.address, first, size, _kernels.BUS_BLOCKS)
    inner = _gathering(device, second, third, size, 0)
    once, _ = per_call(computing, lambda: computing.launch(inner))
    ways: dict[str, Callable[[], None]] = {
        "copy engine": lambda: copying.copy(first, pinned.address, size),
        "kernel": lambda: copying.launch(read),
    }
    for way, copy in ways.items():
        alone, _ = per_call(copying, copy)
        repeats = max(1, round(alone / once))

        def compute(repeats: int = repeats) -> None:
            for _ in range(repeats):
                computing.launch(inner)

        worked, _ = per_call(computing, compute)
        both = _both(copying, copy, computing, compute)
        row = {"copied_by": way, "copy_us": alone * 1e6, "compute_us": worked * 1e6, "both_us": both * 1e6}
        yield row | {"factor": both / max(alone, worked)}


def _gathering(device: Device, source: int, to: int, size: int, blocks: int) -> Any:
    """Return a kernel that copies all of it, row by row."""
    each = 16_384
    head, table = device.pinned(16), device.pinned(8 * (size // each))
    table.array.view(np.uint64)[:] = source + each * np.arange(size // each, dtype=np.uint64)
    _kernels.write_head(int(head.array.ctypes.data), 1, size // each)
    return _kernels.gather_work(head.address, (0, table.address), to, each, size // each, blocks)


def _both(copying: Stream, copy: Callable[[], None], computing: Stream, compute: Callable[[], None]) -> float:
    count = 20
    begin = time.perf_counter()
    for _ in range(count):
        copy()
        compute()
    copying.synchronize()
    computing.synchronize()
    return (time.perf_counter() - begin) / count
