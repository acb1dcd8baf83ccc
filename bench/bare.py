"""The yardstick for computing: ONNX Runtime's session.run in a bare loop, in a process of its own."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from bench.scenario import open_session

__all__ = ["BareResult", "run_bare"]

WARM_UP_SECONDS = 0.5
DTYPES = {"tensor(float)": np.float32, "tensor(uint8)": np.uint8, "tensor(int64)": np.int64}


@dataclass(frozen=True, slots=True)
class BareResult:
    """How fast the loop was."""

    model: str
    batch: int
    rows_per_second: float
    call_us: float
    cpu_us_per_row: float


def run_bare(path: Path, batch: int, seconds: float) -> BareResult:
    """Run the loop in a fresh process, so that nothing of ours shares its interpreter."""
    arguments = [str(path), str(batch), str(seconds)]
    finished = subprocess.run(
        [sys.executable, "-m", "bench.bare", *arguments], capture_output=True, text=True, check=True
    )
    return BareResult(**json.loads(finished.stdout))


def measure(path: Path, batch: int, seconds: float) -> BareResult:
    """Call session.run with `batch` rows for `seconds`, after a warm-up."""
    session = open_session(path)
    generator = np.random.default_rng(3)
    feed = {}
    for given in session.get_inputs():
        shape = (batch, *given.shape[1:])
        feed[given.name] = generator.uniform(0, 2, shape).astype(DTYPES[given.type])
    _loop(session.run, feed, WARM_UP_SECONDS)
    cpu_before = time.process_time()
    calls, elapsed = _loop(session.run, feed, seconds)
    cpu = time.process_time() - cpu_before
    return BareResult(path.stem, batch, calls * batch / elapsed, elapsed / calls * 1e6, cpu / (calls * batch) * 1e6)


def _loop(run: Callable[..., object], feed: Mapping[str, NDArray[Any]], seconds: float) -> tuple[int, float]:
    """Call until the time is over; (calls, seconds)."""
    clock = time.perf_counter
    started = clock()
    calls = 0
    while (elapsed := clock() - started) < seconds:
        run(None, feed)
        calls += 1
    return calls, elapsed


if __name__ == "__main__":
    path, batch, seconds = sys.argv[1:]
    print(json.dumps(asdict(measure(Path(path), int(batch), float(seconds)))))
