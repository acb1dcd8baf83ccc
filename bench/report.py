"""Results as text for people (Markdown) and as JSON for programs."""

import dataclasses
import json
import os
import platform
import subprocess
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from bench.compare import Sample, spread

__all__ = ["machine", "print_samples", "save"]

RESULTS = Path(__file__).parent / "results"


def machine() -> str:
    """Describe the machine and what of it changes figures."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if "model name" in line
        ),
        platform.machine(),
    )
    congestion = Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip()
    return f"{os.cpu_count()} x {model}, Linux {platform.release()}, congestion control {congestion}"


def print_samples(samples: Sequence[Sample]) -> None:
    """Print one line per cell and server: medians, with the spread of the rate."""
    print(f"\n{machine()}, {time.strftime('%Y-%m-%d %H:%M')}\n")
    columns = "cell, server, requests/s (least to most), p50 us, p99 us, CPU us/req, user, system, cores, batch, errors"
    titles = [*columns.split(", "), "foreign %"]
    print("| " + " | ".join(titles) + " |")
    print("|---|---|---|" + "--:|" * (len(titles) - 3))
    for cell, target in dict.fromkeys((str(sample.cell), sample.target) for sample in samples):
        runs = [sample for sample in samples if (str(sample.cell), sample.target) == (cell, target)]
        print("| " + " | ".join([cell, target, *_columns(runs)]) + " |")


def _columns(runs: Sequence[Sample]) -> list[str]:
    batches = [run.mean_batch for run in runs if run.mean_batch is not None]
    foreign = max(run.foreign for run in runs)
    return [
        str(spread(run.load.rps for run in runs)),
        f"{spread(run.load.p50_us for run in runs).median:,.0f}",
        f"{spread(run.load.p99_us for run in runs).median:,.0f}",
        f"{spread(run.cpu_us for run in runs).median:.2f}",
        f"{spread(run.user_us for run in runs).median:.2f}",
        f"{spread(run.system_us for run in runs).median:.2f}",
        f"{spread(run.cores for run in runs).median:.2f}",
        f"{spread(batches).median:.1f}" if batches else "",
        str(sum(run.load.errors for run in runs)),
        f"{foreign * 100:.0f}" + (" NOISY" if any(run.noisy for run in runs) else ""),
    ]


def save(name: str, results: Sequence[Any]) -> Path:
    """Write dataclasses as JSON into bench/results/, with the machine and the revision; the file's path."""
    RESULTS.mkdir(exist_ok=True)
    file = RESULTS / f"{name}-{time.strftime('%Y%m%d-%H%M%S')}.json"
    revision = subprocess.run(["git", "rev-parse", "HEAD"], capture_output=True, text=True, check=False).stdout.strip()
    document = {
        "machine": machine(),
        "revision": revision,
        "results": [dataclasses.asdict(result) for result in results],
    }
    file.write_text(json.dumps(document, indent=1, default=str))
    return file
