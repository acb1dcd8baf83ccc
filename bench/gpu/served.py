"""A network behind a ring: a producer with an open-loop load here, a worker with batches in flight in a process beside.

Rows come from host memory one by one at the times of a Poisson process, whatever the answers do; a row's latency is
from when it was due to when its answer was seen.
"""

from __future__ import annotations

import os
import select
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from bench.gpu.networks import Shaped
from penstock.native._batcher import Ring
from penstock.worker.devices.feeds import row_bytes
from penstock.worker.model import TensorSpec

__all__ = ["Beside", "serve"]

Row = dict[str, Any]

LATE_S = 20.0
READY_S = 90.0
LOOKS = 1 << 14  # without an answer, before it is looked whether the worker lives
_ALIGNMENT = 64


def serve(shaped: Shaped, device: str, shares: Sequence[float], seconds: float, rows_max: int) -> Iterator[Row]:
    """Yield what goes through at full load, then latency at shares of it, about the greatest whose p99 is in bounds."""
    with Beside(shaped, device, rows_max) as beside:
        beside.offer(None, seconds / 2)  # warm
        offline = beside.offer(None, seconds)["rows_per_s"]
        yield {"network": shaped.name, "bound_ms": shaped.bound_ms, "offline_rows_per_s": offline}
        share = min(shares, key=lambda share: abs(share - shaped.target))
        reached = None
        while True:
            row = beside.offer(share * offline, seconds)
            within = row["ms_p99"] <= shaped.bound_ms and not row["refused"]
            yield row | {"share": share, "within_bound": within}
            if within != reached and reached is not None:
                return
            reached = within
            further = [other for other in shares if (other > share if within else other < share)]
            if not further:
                return
            share = min(further, key=lambda other: abs(other - share))


class Beside:
    """The ring, and a worker process that serves it."""

    def __init__(self, shaped: Shaped, device: str, rows_max: int) -> None:
        self._shaped = shaped
        self._row = b"".join(_packed(tensor) for tensor in shaped.rows)
        bytes_each = len(self._row)
        self._ring = Ring(
            [(tensor.name, tensor.dtype, tensor.shape) for tensor in shaped.rows],
            [(tensor.name, tensor.dtype, tensor.shape) for tensor in shaped.outputs],
            max_batch_size=rows_max,
            queue_bytes=max(1 << 26, 8 * rows_max * bytes_each),
        )
        self._event = os.eventfd(0, os.EFD_NONBLOCK)
        command = [sys.executable, "-m", "bench.gpu.worker", shaped.name, device, str(self._ring.fd), str(self._event)]
        fds = (self._ring.fd, self._event)
        self._process = subprocess.Popen(command, pass_fds=fds, stdout=subprocess.PIPE, stdin=subprocess.PIPE)

    def __enter__(self) -> Beside:
        assert self._process.stdout is not None
        ready, _, _ = select.select([self._process.stdout], [], [], READY_S)
        line = self._process.stdout.readline() if ready else b""
        if line.strip() != b"ready":
            said = f"was not ready within {READY_S:.0f} s"
            if ready:  # its output has ended, or it said something else
                said = f"ended in place of getting ready, and said {line!r}"
            self._process.kill()
            raise RuntimeError(f"the worker beside {said}: see the log")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()  # which ends it
        try:
            self._process.wait(LATE_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
        os.close(self._event)

    def offer(self, rate: float | None, seconds: float) -> Row:
        """Offer rows at a rate, or as many as fit."""
        ring, row = self._ring, [self._row]
        generator = np.random.default_rng(1)
        dues = np.cumsum(generator.exponential(1 / rate, int(rate * seconds))) if rate else np.empty(0)
        due_of: dict[tuple[int, int], float] = {}
        latencies: list[float] = []
        refused = next_row = idle = 0
        begin = time.perf_counter()
        until = begin + seconds
        while True:
            now = time.perf_counter()
            while (now < until) if rate is None else (next_row < len(dues) and begin + dues[next_row] <= now):
                claim = ring.claim()
                if claim is None:
                    if rate is None:
                        break
                    refused, next_row = refused + 1, next_row + 1
                    continue
                ring.publish(claim, row)
                due_of[claim.sequence, claim.row] = now if rate is None else begin + dues[next_row]
                next_row += 1
                if rate is None:
                    break
            ring.ring_bell()
            idle += 1
            while (block := ring.poll_done()) is not None:
                idle = 0
                seen = time.perf_counter()
                latencies += [seen - due_of.pop((block.sequence, place)) for place in range(block.rows)]
                ring.handled(block, range(block.rows))
            over = now >= until if rate is None else next_row >= len(dues)
            if over and not due_of:
                break
            if idle > LOOKS and self._process.poll() is not None:
                raise RuntimeError(f"the worker beside ended with status {self._process.returncode}: see the log")
            if now > until + LATE_S:
                raise RuntimeError(f"{len(due_of)} rows were not answered within {LATE_S:.0f} s of the last one")
        took = time.perf_counter() - begin
        p50, p99, p999 = np.percentile(latencies or [0.0], (50, 99, 99.9)) * 1e3
        figures = {"rate": rate or 0.0, "rows_per_s": len(latencies) / took, "refused": refused}
        return figures | {"ms_p50": float(p50), "ms_p99": float(p99), "ms_p999": float(p999)}


def _packed(tensor: TensorSpec) -> bytes:
    size = row_bytes(tensor)
    ones = np.ones(tensor.shape, tensor.dtype).tobytes()
    return ones + bytes(-size % _ALIGNMENT)
