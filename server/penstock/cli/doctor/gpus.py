"""GPUs: the driver, what it finds, and what Penstock needs beside it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

from penstock import native
from penstock.cli.doctor.checks import Check, Checks, State, ok, warning
from penstock.cli.tables import size
from penstock.core.config import ServerConfig
from penstock.core.devices import visible_gpus

__all__ = ["gpu_checks"]

_SECONDS = 60.0
_NVML_SECONDS = 3.0
_VERSION = Path("/proc/driver/nvidia/version")
_CAPABILITY_MIN = (8, 0)
# In a process of its own: a driver may hang, and it is not to be loaded here.
_SURVEY = "import json, sys; from penstock.worker.devices.cuda import survey; json.dump(survey(), sys.stdout)"


def gpu_checks(config: ServerConfig) -> Checks:
    """Look at GPUs, where there are any or the settings want some."""
    models = [model.name for model in config.models if model.device.startswith("cuda")]
    found = visible_gpus()
    if not found and not models:
        yield ok("gpu", "none here; models run on the CPU")
        return
    yield _driver()
    if not (Path(native.__path__[0]) / "kernels.fatbin").is_file():
        text = "this Penstock was built without nvcc and has no kernels for a GPU"
        yield _as_needed(models, "kernels for GPUs", text, "make nvcc native")
    else:
        yield ok("kernels for GPUs", "built")
    yield from _devices(models)
    yield from _readings()


def _driver() -> Check:
    try:
        line = _VERSION.read_text().splitlines()[0]
        return ok("gpu driver", line.partition("NVRM version:")[2].strip() or line)
    except (OSError, IndexError):
        text = "there is no NVIDIA driver on this machine, or this container was given no GPU"
        return warning("gpu driver", text, "docker run --gpus all ...  # or install NVIDIA's driver")


def _devices(models: list[str]) -> Checks:
    around = {**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)}
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-c", _SURVEY],
            capture_output=True,
            text=True,
            timeout=_SECONDS,
            check=False,
            env=around,
        )
        document: dict[str, Any] = json.loads(done.stdout)
    except subprocess.TimeoutExpired:
        yield _as_needed(models, "gpu", f"the driver does not answer within {_SECONDS:g} s", "nvidia-smi")
        return
    except ValueError:
        said = (done.stderr.strip().splitlines() or ["the process ended"])[-1]
        yield _as_needed(models, "gpu", f"the driver cannot be asked: {said}", "nvidia-smi")
        return
    if document["missing"]:
        mend = "pip install 'penstock[gpu]'" if document["bindings"] is False else "nvidia-smi"
        yield _as_needed(models, "gpu", document["missing"], mend)
    for number, device in enumerate(document["devices"]):
        capability = tuple(device["capability"])
        text = f"cuda:{number} is {device['name']}, compute capability {capability[0]}.{capability[1]}"
        if capability < _CAPABILITY_MIN:
            yield _as_needed(models, "gpu", f"{text}: 8.0 or later is needed", "penstock serve --device cpu ...")
        else:
            yield ok("gpu", text)


def _readings() -> Checks:
    from penstock.telemetry.gpus import GpuWatch

    watch = GpuWatch().start()
    if not watch.wait(_NVML_SECONDS):
        yield warning("gpu metrics", f"NVML does not answer within {_NVML_SECONDS:g} s", "nvidia-smi")
        return
    readings = watch.last()
    if not readings:
        yield warning("gpu metrics", "NVML tells nothing: no GPU will be in /metrics", "pip install 'penstock[gpu]'")
    for reading in readings:
        figures = reading.figures
        memory = (
            f"{size(int(figures.get('memory_used_bytes', 0)))} of {size(int(figures.get('memory_total_bytes', 0)))}"
        )
        yield ok("gpu metrics", f"{reading.name}: {memory} in use, {figures.get('temperature_celsius', 0):g} degrees")


def _as_needed(models: list[str], name: str, text: str, mend: str) -> Check:
    """Return a fault where a model is to run on a GPU, else a warning."""
    return Check(name, State.FAULT if models else State.WARNING, text, mend)
