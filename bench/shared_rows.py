"""What a lookup in Redis costs a request: latencies of single W1 rows that are known here, there, or nowhere."""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.cached_rows import HEADERS, WIDTH
from bench.scenario import load_scenario, prepare
from bench.server import Penstock, PenstockTarget, Settings
from bench.wire import Wire

__all__ = ["SharedRowsResult", "run_shared_rows"]

UP_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class SharedRowsResult:
    """How long answers took, one request at a time, in microseconds."""

    what: str
    p50_us: float
    p90_us: float


def run_shared_rows(folder: Path, redis_url: str, rows: int) -> Iterator[SharedRowsResult]:
    """Ask two servers, one after the other, that share a Redis; it is left with the answers, for ten minutes."""
    prepared = prepare(load_scenario("w1"), folder / "models")
    (name, path), *_ = prepared.models.items()
    values = np.random.default_rng(secrets.randbits(64)).standard_normal((rows, WIDTH), dtype=np.float32)
    off = Settings(models={name: {}})
    on = Settings(
        models={name: {"cache_ttl_s": 600, "cache_shared": True}},
        server={"cache_redis": redis_url, "cache_redis_timeout_ms": 1000},
    )
    with PenstockTarget(settings=off).serve({name: path}, folder / "off") as server:
        yield _measure(server, "run, no cache", values)
    with PenstockTarget(settings=on).serve({name: path}, folder / "first") as server:
        _await(server, "penstock_cache_redis_up", 1)
        yield _measure(server, "known nowhere: looked for, then run", values)
        yield _measure(server, "known here", values)
        _await(server, "penstock_cache_redis_writes_total", rows)
    with PenstockTarget(settings=on).serve({name: path}, folder / "second") as server:
        _await(server, "penstock_cache_redis_up", 1)
        yield _measure(server, "known in Redis", values)


def _await(server: Penstock, metric: str, value: float) -> None:
    end = time.monotonic() + UP_SECONDS
    while server.metrics().total(metric) < value:
        if time.monotonic() > end:
            raise RuntimeError(f"{metric} is still below {value:g}: see {server.log}")


def _measure(server: Penstock, what: str, values: np.ndarray) -> SharedRowsResult:
    wire = Wire.connect("127.0.0.1", server.port)
    taken = []
    try:
        for row in values:
            begun = time.perf_counter()
            reply = wire.ask("POST", "/predict", row.tobytes(), HEADERS)
            taken.append((time.perf_counter() - begun) * 1e6)
            if reply.status != 200:
                raise RuntimeError(f"answered {reply.status}: {reply.body[:200]!r}")
    finally:
        wire.close()
    return SharedRowsResult(what, *np.percentile(taken, [50, 90]).tolist())
