"""Devices that models run on: how they are written, and how many there seem to be."""

from __future__ import annotations

import os
import re
from pathlib import Path

__all__ = ["ALL_GPUS", "CPU", "HOST", "device_of", "is_device", "visible_gpus"]

CPU = "cpu"
# The pipeline of a GPU, run by a thread of the worker.
HOST = "host"
ALL_GPUS = "cuda:*"

_GPU = re.compile(r"cuda:([0-9]{1,3})")
_NODES = Path("/dev")


def is_device(text: str) -> bool:
    """Tell whether this is how a device is written."""
    return text in (CPU, HOST, ALL_GPUS) or _GPU.fullmatch(text) is not None


def device_of(device: str, instance: int, gpus: int) -> str:
    """Return the device of one of a model's instances: with all GPUs they take turns."""
    return f"cuda:{instance % max(gpus, 1)}" if device == ALL_GPUS else device


def visible_gpus(nodes: Path = _NODES) -> int:
    """Count the GPUs that a worker would see, without their driver: this process must not load it."""
    chosen = os.environ.get("CUDA_VISIBLE_DEVICES")
    if chosen is not None:
        # What follows an unknown one is invisible; CUDA_VISIBLE_DEVICES=-1 hides all.
        names = [name.strip() for name in chosen.split(",")]
        return next((place for place, name in enumerate(names) if name in ("", "-1")), len(names))
    return sum(re.fullmatch(r"nvidia\d+", node.name) is not None for node in nodes.glob("nvidia*"))
