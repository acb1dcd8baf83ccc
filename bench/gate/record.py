"""Records runs of one revision for the tests of the gate: `python -m bench.gate.record MODEL FILE`.

What the tests need is how the p99 of equal runs varies on a real machine. Each run starts a server afresh and loads it
with the open-loop generator; kept are a few quantiles of its latencies and how late the generator was. Its lateness is
a witness of other work that knows nothing of the server, so a run in which it exceeds a limit is repeated.

Two models: "w1" answers in microseconds, so that a busy machine decides its p99; "slow" takes 3 ms a batch.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from bench.models import W1_WIDTHS, write_models
from bench.priority import raise_priority
from bench.server import penstock
from penstock.load.corpus import Corpus, Traffic
from penstock.load.dialects import DIALECTS
from penstock.load.generator import Address, Load
from penstock.load.kinds import latencies_us
from penstock.load.measurement import measure
from penstock.load.rows import TensorSpec, random_rows
from penstock.load.schedule import poisson

__all__ = ["main"]

QUANTILES = (0.5, 0.75, 0.9, 0.95, 0.98, 0.985, 0.99, 0.995, 0.999, 1.0)
WARM_UP_SECONDS = 1.0
ROWS = 512
COLUMNS = ("x", W1_WIDTHS[0]), ("y", W1_WIDTHS[-1])

SLOW_MODEL = f'''\
"""Takes 3 ms a batch."""

import time

from penstock.worker import Tensor


class Model:
    inputs = {{"x": Tensor("float32", ({W1_WIDTHS[0]},))}}
    outputs = {{"y": Tensor("float32", ({W1_WIDTHS[-1]},))}}

    def predict(self, batch):
        time.sleep(0.003)
        return {{"y": batch["x"][:, :{W1_WIDTHS[-1]}]}}
'''


def main(arguments: Sequence[str] | None = None) -> int:
    """Record and write."""
    options = _parser().parse_args(arguments)
    if options.priority and not raise_priority():
        print("no right to raise the priority (root has it): going on without", file=sys.stderr)
    runs: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory(prefix="penstock-record-") as folder:
        model = _write_model(options.model, Path(folder))
        while len(runs) < options.runs:
            run = _record(model, Path(folder) / "run", options)
            print(f"{len(runs):3d} p99 {run['us'][QUANTILES.index(0.99)]} us, lag {run['lag_us_p99']} us", flush=True)
            if run["lag_us_p99"] <= options.lag_us_max:
                runs.append(run)
    given = " ".join(sys.argv[1:] if arguments is None else arguments).replace(str(options.file), "FILE")
    machine = f"{os.cpu_count()} cores, {platform.platform()}"
    document = {"machine": machine, "command": f"python -m bench.gate.record {given}", "quantiles": QUANTILES}
    lines = ",\n  ".join(json.dumps(run) for run in runs)
    options.file.write_text(json.dumps(document, indent=1)[:-2] + f',\n "runs": [\n  {lines}\n ]\n}}\n')
    return 0


def _write_model(name: str, folder: Path) -> Path:
    if name == "w1":
        return write_models(folder)["w1"]
    path = folder / "slow.py"
    path.write_text(SLOW_MODEL)
    return path


def _record(model: Path, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    x, y = (TensorSpec(name, "float32", (width,)) for name, width in COLUMNS)
    corpus = Corpus.of([Traffic("model", DIALECTS["json"], random_rows([x], ROWS), [y])])
    seconds = WARM_UP_SECONDS + options.seconds
    with penstock(folder, {"model": model}) as server:
        address = Address("127.0.0.1", server.port)
        load = Load(address, corpus, poisson(options.rate, seconds), options.connections, warm_up=WARM_UP_SECONDS)
        recording, measurement = measure(load, server.pid)
    if measurement.failed:
        raise RuntimeError(f"not every request was answered: {dict(measurement.errors)}")
    latencies = np.quantile(latencies_us(recording.measured), QUANTILES, method="higher")
    return {"us": [round(float(value)) for value in latencies], "lag_us_p99": round(measurement.lag_us_p99)}


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m bench.gate.record", description=__doc__)
    parser.add_argument("model", choices=("w1", "slow"))
    parser.add_argument("file", type=Path)
    parser.add_argument("--runs", type=int, default=60)
    parser.add_argument("--rate", type=float, default=1000.0, help="requests a second")
    parser.add_argument("--seconds", type=float, default=4.0, help="measured, after a warm-up of one")
    parser.add_argument("--connections", type=int, default=128)
    parser.add_argument("--lag-us-max", type=float, default=300.0, help="of the generator's p99")
    parser.add_argument("--priority", action="store_true", help="run before other work (root, on a shared machine)")
    return parser


if __name__ == "__main__":
    sys.exit(main())
