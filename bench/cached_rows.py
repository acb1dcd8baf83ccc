"""What the result cache saves and costs: CPU time of the server for a row, by the share of rows that are known."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.scenario import load_scenario, prepare
from bench.server import Penstock, PenstockTarget, Settings
from bench.wire import Wire, request_bytes
from penstock.load.accounting import snapshot, usage

__all__ = ["CachedRowsResult", "run_cached_rows"]

WIDTH = 32
RAW = "application/octet-stream"
HEADERS = {"Content-Type": RAW, "Accept": RAW}
CACHE_BYTES = "512MiB"
# Single rows are pipelined, so that the kernel's part is the same in every line and small.
PIPELINED = 32
SHARES = (1.0, 0.9, 0.5, 0.0)


@dataclass(frozen=True, slots=True)
class CachedRowsResult:
    """One way of asking. CPU time of main process and workers together, in nanoseconds a row; `hits` is their share."""

    way: str
    rows: int  # of a request
    known: float | None  # share of the rows that were asked for before; None: the cache is off
    cpu_ns: float
    hits: float


def run_cached_rows(folder: Path, rows: int, seconds: float) -> Iterator[CachedRowsResult]:
    """Ask for W1 rows one by one and many at a time, with the cache off and on."""
    prepared = prepare(load_scenario("w1"), folder / "models")
    (name, path), *_ = prepared.models.items()
    for ttl_s in (0, 3600):
        settings = Settings(models={name: {"cache_ttl_s": ttl_s}}, server={"cache_bytes": CACHE_BYTES})
        with PenstockTarget(settings=settings).serve({name: path}, folder / f"server{ttl_s}") as server:
            for many in (1, rows):
                for known in SHARES if ttl_s else (None,):
                    yield _measure(server, many, known, seconds)


def _measure(server: Penstock, rows: int, known: float | None, seconds: float) -> CachedRowsResult:
    # Of its own for each line, so that what is new there has not been asked for by another one.
    random = np.random.default_rng([rows, round(100 * (2 if known is None else known))])
    pool = random.standard_normal((max(rows, 1000), WIDTH), dtype=np.float32)
    wire = Wire.connect("127.0.0.1", server.port)
    try:
        _ask(wire, pool.reshape(-1, rows, WIDTH))
        hits, before = _hits(server), snapshot(server.pid)
        asked, end = 0, time.monotonic() + seconds
        while time.monotonic() < end:
            some = pool.copy()
            if known is not None and known < 1:
                new = random.random(len(some)) >= known
                some[new] = random.standard_normal((int(new.sum()), WIDTH), dtype=np.float32)
            _ask(wire, some.reshape(-1, rows, WIDTH))
            asked += len(some)
        spent = usage(before, snapshot(server.pid)).tree.total
    finally:
        wire.close()
    way = "/predict" if rows == 1 else "/predict/batch"
    return CachedRowsResult(way, rows, known, spent / asked * 1e9, (_hits(server) - hits) / asked)


def _hits(server: Penstock) -> float:
    return server.metrics().total("penstock_cache_hits_total")


def _ask(wire: Wire, requests: np.ndarray) -> None:
    """Send requests of so many rows each, some at a time, and read the answers."""
    target = "/predict" if requests.shape[1] == 1 else "/predict/batch"
    for begin in range(0, len(requests), PIPELINED):
        some = requests[begin : begin + PIPELINED]
        wire.send(b"".join(request_bytes("POST", target, each.tobytes(), HEADERS) for each in some))
        for _ in some:
            reply = wire.reply()
            if reply.status != 200:
                raise RuntimeError(f"answered {reply.status}: {reply.body[:200]!r}")
