"""The figures that the Python SDK has to keep, measured and judged."""

from __future__ import annotations

from pathlib import Path

from bench.models import write_mlp
from bench.sdk import MODEL, Ratios, time_async, time_blocking, times_table
from bench.sdk_large import LARGE_MODEL, time_large, write_large
from bench.server import penstock

__all__ = ["judge_sdk"]

# A small blocking call costs at most so many times what a bare loop of http.client costs.
CPU_RATIO_MAX = 1.3
# Either client reaches at least this share of the calls in a second that the bare library reaches.
THROUGHPUT_MIN = 0.8
# Next to nothing to compute, so that what is measured is the call.
SMALL_WIDTHS = (4, 3)
# For so many small calls one large one.
LARGE_SHARE = 40


def judge_sdk(folder: Path, rounds: int, calls: int, at_once: int) -> bool:
    """Print what each client takes; whether the SDK keeps its limits."""
    models = {MODEL: write_mlp(folder / f"{MODEL}.onnx", SMALL_WIDTHS), LARGE_MODEL: write_large(folder)}
    with penstock(folder, models) as server:
        blocking = time_blocking(server.port, rounds, calls)
        print(f"\nBlocking, one thread\n{times_table(blocking)}", flush=True)
        awaited = time_async(server.port, rounds, calls, at_once)
        print(f"\nasyncio, {at_once} tasks\n{times_table(awaited)}", flush=True)
        large = time_large(server.port, rounds, max(calls // LARGE_SHARE, 1))
        print(f"\n4 MiB there and back\n{times_table(large)}\n", flush=True)
    beside_http_client = Ratios.of(blocking, "penstock_client", "http.client")
    beside_aiohttp = Ratios.of(awaited, "penstock_client", "aiohttp")
    print(f"CPU of a call beside http.client: x{beside_http_client.cpu:.2f} (at most x{CPU_RATIO_MAX})")
    for bare, ratios in (("http.client", beside_http_client), ("aiohttp", beside_aiohttp)):
        print(f"calls in a second beside {bare}: {ratios.throughput:.0%} (at least {THROUGHPUT_MIN:.0%})")
    slowest = min(beside_http_client.throughput, beside_aiohttp.throughput)
    return beside_http_client.cpu <= CPU_RATIO_MAX and slowest >= THROUGHPUT_MIN
