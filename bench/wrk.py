"""The load generator: wrk, one thread, keep-alive, closed loop, one fixed request."""

import json
import os
import resource
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

from bench.workloads import Encoding

__all__ = ["Load", "LoadResult", "run_wrk"]

SCRIPT = Path(__file__).with_name("wrk.lua")


@dataclass(frozen=True, slots=True)
class Load:
    """How much to send, and where."""

    url: str
    body: Path
    encoding: Encoding
    connections: int
    seconds: float


@dataclass(frozen=True, slots=True)
class LoadResult:
    """What wrk saw. `errors` counts socket errors, time-outs and replies that were not 2xx or 3xx."""

    requests: int
    rps: float
    p50_us: int
    p90_us: int
    p99_us: int
    p999_us: int
    max_us: int
    errors: int
    generator_cpu_seconds: float


def run_wrk(load: Load) -> LoadResult:
    """Run wrk to its end; RuntimeError when it is missing or fails."""
    if shutil.which("wrk") is None:
        raise RuntimeError("wrk is not installed: apt-get install wrk")
    seconds = max(1, round(load.seconds))
    command = ["wrk", "-t1", f"-c{load.connections}", f"-d{seconds}s", "--timeout", "10s", "-s", str(SCRIPT), load.url]
    command += ["--", str(load.body), load.encoding.media_type, load.encoding.media_type]
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    finished = subprocess.run(command, capture_output=True, text=True, check=False, env={**os.environ, "LC_ALL": "C"})
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    if finished.returncode != 0:
        raise RuntimeError(f"wrk failed: {finished.stderr or finished.stdout}")
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return _read(json.loads(finished.stdout.strip().splitlines()[-1]), cpu)


def _read(report: dict[str, int], generator_cpu_seconds: float) -> LoadResult:
    errors = ("connect_errors", "read_errors", "write_errors", "status_errors", "timeouts")
    return LoadResult(
        requests=report["requests"],
        rps=report["requests"] / (report["duration_us"] / 1e6),
        p50_us=report["p50_us"],
        p90_us=report["p90_us"],
        p99_us=report["p99_us"],
        p999_us=report["p999_us"],
        max_us=report["max_us"],
        errors=sum(report[name] for name in errors),
        generator_cpu_seconds=generator_cpu_seconds,
    )
