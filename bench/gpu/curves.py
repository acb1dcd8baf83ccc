"""What batches of each size cost, one by one and in flight."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import torch

from bench.gpu.limits import look_until, pause_of, per_call
from bench.gpu.networks import Shaped
from bench.gpu.placed import place_network, torch_device
from penstock.worker.devices import Device, DeviceArray
from penstock.worker.devices.contexts import BatchContext, Network
from penstock.worker.devices.feeds import row_bytes
from penstock.worker.model import TensorSpec

__all__ = ["curve", "plain_loop"]

Row = dict[str, Any]

LONGEST_S = 20.0


def curve(shaped: Shaped, device: Device, sizes: list[int], budget_s: float) -> Iterator[Row]:
    """Yield l(b): from launch to flag, of rows in pinned memory; and in flight, rows a second and the host's time.

    `overlap` is a batch's time in flight over the longer of its parts alone: reading its rows, and the network.
    """
    backend, _ = place_network(shaped, device)
    backend.prepare(sizes[-1], sizes, ())
    contexts = backend.contexts
    rows = [device.pinned(sizes[-1] * row_bytes(tensor)) for tensor in shaped.rows]

    def aim() -> None:
        for context in contexts:
            for tensor, table, pinned in zip(shaped.rows, context.tables(sizes[-1]), rows, strict=True):
                table[:] = pinned.address + row_bytes(tensor) * np.arange(sizes[-1], dtype=np.uint64)

    pause = pause_of(device)
    for size in sizes:
        feed_s = contexts[0].feed_seconds(size)
        network_s = _network_seconds(backend.network, device, size)
        aim()
        row = {"rows": size} | _one_by_one(contexts[0], size, budget_s, pause)
        row |= _in_flight(list(contexts), size, budget_s, pause)
        overlap = size / row["rows_per_s"] / max(feed_s, network_s)
        yield row | {"feed_ms": feed_s * 1e3, "network_ms": network_s * 1e3, "overlap": overlap}


def _network_seconds(network: Network, device: Device, size: int) -> float:
    """Return how long a batch takes without its rows' way in and its results' way out."""
    stream = network.stream()

    def arrays(tensors: Sequence[TensorSpec]) -> list[DeviceArray]:
        return [
            DeviceArray(device.memory(size * row_bytes(tensor)), (size, *tensor.shape), tensor.dtype)
            for tensor in tensors
        ]

    given, results = arrays(network.inputs), arrays(network.outputs)

    def body() -> None:
        network.enqueue(stream, given, results)

    body()
    stream.synchronize()
    once, _ = per_call(stream, network.graph(stream, body).launch)
    return once


def _one_by_one(context: BatchContext, size: int, budget_s: float, pause: Callable[[], object]) -> Row:
    took: list[float] = []
    until = time.perf_counter() + budget_s
    while len(took) < 10 or (time.perf_counter() < until and len(took) < 5000):
        begin = time.perf_counter()
        context.start(size)
        look_until(lambda: context.done, context.stream, pause)
        took.append(time.perf_counter() - begin)
    p50, p99, p999 = np.percentile(took, (50, 99, 99.9)) * 1e3
    return {"ms_p50": p50, "ms_p99": p99, "ms_p999": p999, "rows_per_s_alone": size / (p50 / 1e3)}


def _in_flight(contexts: list[BatchContext], size: int, budget_s: float, pause: Callable[[], object]) -> Row:
    """Keep all contexts busy, as under full load. The host's time is that of a start, and of finding the end."""
    for context in contexts:
        context.start(size)
    started, busy = len(contexts), 0.0
    begin = time.perf_counter()
    while time.perf_counter() - begin < budget_s or started < 20:
        if time.perf_counter() - begin > LONGEST_S:
            raise RuntimeError(f"{started} batches of {size} rows were not done within {LONGEST_S:.0f} s")
        for context in contexts:
            if context.done:
                before = time.perf_counter()
                context.results(size)
                context.start(size)
                busy += time.perf_counter() - before
                started += 1
        pause()
    for context in contexts:
        look_until(lambda context=context: context.done, context.stream, pause)  # type: ignore[misc]
    took = time.perf_counter() - begin
    return {"rows_per_s": started * size / took, "host_us": busy / (started - len(contexts)) * 1e6}


def plain_loop(shaped: Shaped, device: Device, sizes: list[int], budget_s: float) -> Iterator[Row]:
    """Yield what a plain loop of PyTorch does: copy in, run, copy out, one batch after the other."""
    for size in sizes:
        yield _plain(shaped, device, size, budget_s)


def _plain(shaped: Shaped, device: Device, size: int, budget_s: float) -> Row:
    where = torch_device(device)
    _, module = place_network(shaped, device)
    half = where.type != "cpu"
    rows = [torch.zeros((size, *tensor.shape), dtype=getattr(torch, tensor.dtype)) for tensor in shaped.rows]
    if half:
        rows = [tensor.pin_memory() for tensor in rows]
    mean = torch.tensor([0.485, 0.456, 0.406], device=where)
    deviation = torch.tensor([0.229, 0.224, 0.225], device=where)

    def batch() -> None:
        given = [tensor.to(where, non_blocking=True) for tensor in rows]
        if shaped.image is not None:
            normal = (given[0].float() / 255 - mean) / deviation
            given = [normal.half() if half else normal]
        elif half:
            given = [each.half() if each.is_floating_point() else each for each in given]
        module(*given).float().cpu()

    with torch.inference_mode():
        for _ in range(3):
            batch()
        begin, count = time.perf_counter(), 0
        while time.perf_counter() - begin < budget_s or count < 5:
            batch()
            count += 1
    return {"rows": size, "rows_per_s": count * size / (time.perf_counter() - begin)}
