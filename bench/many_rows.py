"""Bodies of many rows to /predict/batch: rows a second, and the server's CPU time for each."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import orjson

from bench.scenario import load_scenario, prepare
from bench.server import Penstock, PenstockTarget, Settings
from bench.wire import Wire, request_bytes
from penstock.load.accounting import snapshot, usage

__all__ = ["ManyRowsResult", "run_many_rows"]

WIDTH = 32
RAW = "application/octet-stream"
JSON = "application/json"
# Requests under way at once: enough that decoding, running and encoding overlap.
CONNECTIONS = 3


@dataclass(frozen=True, slots=True)
class ManyRowsResult:
    """One encoding. CPU time is of the main process ("data plane") and of the workers, in nanoseconds a row."""

    encoding: str
    rows_per_second: float
    dataplane_ns: float
    worker_ns: float

    @property
    def rows_per_core_second(self) -> float:
        """Rows for each second of CPU time of the server."""
        return 1e9 / (self.dataplane_ns + self.worker_ns)


def run_many_rows(folder: Path, rows: int, seconds: float, batch_size: int) -> Iterator[ManyRowsResult]:
    """Send bodies of so many W1 rows in each encoding; every answer is compared with the first, that one by value."""
    prepared = prepare(load_scenario("w1"), folder / "models")
    (name, path), *_ = prepared.models.items()
    settings = Settings(models={name: {"max_batch_size": batch_size}})
    values = np.random.default_rng(1).standard_normal((rows, WIDTH), dtype=np.float32)
    with PenstockTarget(settings=settings).serve({name: path}, folder / "server") as server:
        for encoding, request in _requests(name, values).items():
            yield _measure(server, encoding, request, rows, seconds)


def _requests(model: str, values: np.ndarray) -> Mapping[str, bytes]:
    target = f"/predict/batch?model={model}"
    # NumPy's own: the shortest text of each float32, not of the float64 it would become.
    text = orjson.dumps({"model": model, "inputs": values}, option=orjson.OPT_SERIALIZE_NUMPY)
    return {
        "raw": request_bytes("POST", target, values.tobytes(), {"Content-Type": RAW, "Accept": RAW}),
        "json": request_bytes("POST", target, text, {"Content-Type": JSON}),
    }


def _measure(server: Penstock, encoding: str, request: bytes, rows: int, seconds: float) -> ManyRowsResult:
    wires = [Wire.connect("127.0.0.1", server.port) for _ in range(CONNECTIONS)]
    try:
        expected = _ask(wires, request, lambda: False)
        workers = server.worker_pids()
        before, begun = snapshot(server.pid), [snapshot(pid) for pid in workers]
        end = time.monotonic() + seconds
        answered = 0
        while time.monotonic() < end:
            answered += _ask(wires, request, lambda: time.monotonic() < end, expected)[0]
        total = usage(before, snapshot(server.pid))
        worker = sum(usage(first, snapshot(pid)).tree.total for first, pid in zip(begun, workers, strict=True))
    finally:
        for wire in wires:
            wire.close()
    count = answered * rows
    return ManyRowsResult(
        encoding=encoding,
        rows_per_second=count / total.seconds,
        dataplane_ns=(total.tree.total - worker) / count * 1e9,
        worker_ns=worker / count * 1e9,
    )


def _ask(
    wires: list[Wire], request: bytes, goes_on: Callable[[], bool], expected: tuple[int, bytes] | None = None
) -> tuple[int, bytes]:
    """Send over all connections, and again as replies come, until it should not go on; (answers, one of them)."""
    for wire in wires:
        wire.send(request)
    answered = 0
    body = b""
    waiting = list(wires)
    while waiting:
        wire = waiting.pop(0)
        reply = wire.reply()
        if reply.status != 200 or (expected is not None and reply.body != expected[1]):
            raise RuntimeError(f"answered {reply.status}, or otherwise than before: {reply.body[:200]!r}")
        body = reply.body
        answered += 1
        if goes_on():
            wire.send(request)
            waiting.append(wire)
    return answered, body
