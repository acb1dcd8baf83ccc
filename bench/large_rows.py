"""Rows of 128 B, 600 KB and 10 MB beside each other, over 1,024 connections: memory, and how long the loop is away."""

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.models import write_extremes
from bench.server import Penstock, penstock
from bench.wire import Wire, request_bytes
from penstock.load.accounting import memory_of

__all__ = ["LargeRowsResult", "run_large_rows"]

# Floats a row, and connections that send such rows.
SIZES = {"small": (32, 960), "medium": (150_000, 48), "large": (2_500_000, 16)}
THREADS = {"small": 4, "medium": 2, "large": 4}
MIB = 1 << 20
BODY_POOL_BYTES = 128 * MIB
QUEUE_BYTES = 64 * MIB
CONNECTION_BYTES = 64 * 1024  # two buffers of 16 KiB, and the state of 32 requests
SAMPLE_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class LargeRowsResult:
    """What was seen. Bytes are of the main process, the rings' shared memory included."""

    answered: dict[str, int]
    failed: dict[str, int]
    rss_before: int
    rss_max: int
    budget: int
    longest_pass_ms: float
    longest_pass_before_ms: float


def run_large_rows(folder: Path, seconds: float) -> LargeRowsResult:
    """Open all connections, send over all of them in turn for `seconds`, and watch the main process."""
    folder.mkdir(parents=True, exist_ok=True)
    models = {name: write_extremes(folder / f"{name}.onnx", width) for name, (width, _) in SIZES.items()}
    with penstock(folder / "server", models) as server:
        before = memory_of(server.pid).rss
        longest_before = _longest_pass_ms(server)
        with _load(server) as (answered, failed):
            rss_max = _watch(server, seconds)
        connections = sum(count for _, count in SIZES.values())
        return LargeRowsResult(
            answered=dict(answered),
            failed=dict(failed),
            rss_before=before,
            rss_max=rss_max,
            budget=before + BODY_POOL_BYTES + len(SIZES) * QUEUE_BYTES + connections * CONNECTION_BYTES,
            longest_pass_ms=_longest_pass_ms(server),
            longest_pass_before_ms=longest_before,
        )


@contextmanager
def _load(server: Penstock) -> Iterator[tuple[Counter[str], Counter[str]]]:
    """Send from threads until the block ends; what was answered and what failed, by size."""
    stop = threading.Event()
    answered: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    with ExitStack() as wires:
        senders = []
        for name, (width, count) in SIZES.items():
            connections = [wires.enter_context(Wire.connect("127.0.0.1", server.port)) for _ in range(count)]
            share = THREADS[name]
            senders += [_Sender(name, width, connections[part::share], answered, failed) for part in range(share)]
        threads = [threading.Thread(target=sender.run, args=[stop]) for sender in senders]
        for thread in threads:
            thread.start()
        try:
            yield answered, failed
        finally:
            stop.set()
            for thread in threads:
                thread.join()


class _Sender:
    """Asks over its connections in turn, several at once where rows are small, and checks the answers."""

    def __init__(self, name: str, width: int, wires: list[Wire], answered: Counter[str], failed: Counter[str]) -> None:
        row = np.zeros(width, dtype=np.float32)
        row[width // 3], row[width // 2] = -7, 9
        headers = {"Content-Type": "application/octet-stream"}
        self._name = name
        self._request = request_bytes("POST", f"/predict?model={name}", row.tobytes(), headers)
        self._wires = wires
        self._group = min(len(wires), 64)
        self._count: Callable[[bool], None] = lambda right: (answered if right else failed).update([name])

    def run(self, stop: threading.Event) -> None:
        """Send until told to stop."""
        turn = 0
        while not stop.is_set():
            group = [self._wires[(turn + offset) % len(self._wires)] for offset in range(self._group)]
            turn += self._group
            for wire in group if self._name == "small" else group[:1]:
                wire.send(self._request)
            for wire in group if self._name == "small" else group[:1]:
                reply = wire.reply()
                self._count(reply.status == 200 and reply.json()["outputs"]["y"] == [-7, 9])


def _watch(server: Penstock, seconds: float) -> int:
    largest = 0
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        largest = max(largest, memory_of(server.pid).rss)
        time.sleep(SAMPLE_SECONDS)
    return largest


def _longest_pass_ms(server: Penstock) -> float:
    return server.metrics().total("penstock_loop_longest_pass_seconds") * 1e3
