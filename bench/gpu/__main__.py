"""`python -m bench.gpu`: everything that is to be known of a GPU, in under ten minutes, into one report.

Each section is measured by a process of its own, within a time: one that fails, hangs or loses the device costs the
others nothing. The report is written after each.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import suppress
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from bench.gpu.report import write_report
from bench.gpu.sections import LIMITS_S, names_of

__all__: list[str] = []

# What a section needs to start at all: PyTorch's import, and the device's.
START_S = 15.0
# Whose absence leaves something out, and what.
PACKAGES = {
    "cuda-bindings": "everything on a GPU",
    "torch": "networks: curves, plain loops, what is served",
    "onnxruntime-gpu": "ONNX models on a GPU",
    "tensorrt": "TensorRT models",
    "nvidia-ml-py": "a GPU's figures in /metrics",
}


def main() -> int:
    """Measure, and write the report."""
    arguments = _arguments()
    arguments.out.mkdir(parents=True, exist_ok=True)
    document: dict[str, Any] = {
        "device": arguments.device,
        "machine": f"{platform.platform()}, {os.cpu_count()} CPUs, Python {platform.python_version()}",
        "date": time.strftime("%Y-%m-%d"),
        "packages": {name: _version(name) for name in PACKAGES},
        "left_out": {name: what for name, what in PACKAGES.items() if not _version(name)},
        "sections": {},
        "failed": {},
    }
    end = time.monotonic() + arguments.budget_s
    for name in names_of(arguments.networks.split(",")):
        begin = time.monotonic()
        _measure(name, arguments, end, document)
        print(f"{name}: {time.monotonic() - begin:.1f} s {document['failed'].get(name, '')}", flush=True)
        # Written each time: a run that is cut short has told something.
        (arguments.out / "gpu.json").write_text(json.dumps(document, indent=1) + "\n")
        write_report(document, arguments.out / "gpu.md")
        if name == "device" and name in document["failed"]:
            return 1  # the others would say the same
    return 1 if document["failed"] else 0


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.gpu", description=__doc__)
    parser.add_argument("--device", default="cuda:0", help="cuda:0, or host to see that everything runs [cuda:0]")
    parser.add_argument("--networks", default="resnet50,bert,mlp", help="which networks [resnet50,bert,mlp]")
    parser.add_argument("--out", type=Path, default=Path("gpu-results"), help="folder of the report [gpu-results]")
    parser.add_argument("--quick", action="store_true", help="small sizes, for a test of the benchmark itself")
    parser.add_argument("--budget-s", type=float, default=420.0, help="seconds for all of it [420]")
    return parser.parse_args()


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return ""


def _measure(name: str, arguments: argparse.Namespace, end: float, document: dict[str, Any]) -> None:
    """Measure one section in a process of its own."""
    left = end - time.monotonic()
    # A test of the benchmark itself wants to see it through, however busy the machine is.
    limit = left if arguments.quick else min(LIMITS_S[name.split()[0]], left)
    if left < START_S:
        document["failed"][name] = "not run: the time is over (--budget-s)"
        return
    with tempfile.TemporaryDirectory() as folder, (arguments.out / "log.txt").open("a") as log:
        into = Path(folder, "section.json")
        log.write(f"--- {name}\n")
        log.flush()
        command = [sys.executable, "-m", "bench.gpu.sections", name, arguments.device, str(into)]
        command += ["quick"] if arguments.quick else []
        # A session of its own: what it started is ended with it.
        process = subprocess.Popen(command, stdout=log, stderr=log, stdin=subprocess.DEVNULL, start_new_session=True)
        try:
            process.wait(limit)
        except subprocess.TimeoutExpired:
            document["failed"][name] = f"not done within {limit:.0f} s"
        finally:
            _end(process)
        found = json.loads(into.read_text()) if into.is_file() else {}
    if found.get("rows"):
        document["sections"][name] = found["rows"]
    if "failed" in found:
        document["failed"][name] = found["failed"]
    elif not found and name not in document["failed"]:
        document["failed"][name] = f"its process ended with status {process.returncode}: see log.txt"
    if name == "device" and found.get("rows"):
        document["device"] = found["rows"][0]["title"]


def _end(process: subprocess.Popen[bytes]) -> None:
    with suppress(ProcessLookupError):  # it has ended
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


if __name__ == "__main__":
    raise SystemExit(main())
