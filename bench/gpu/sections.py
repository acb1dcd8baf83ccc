"""The parts of the report, each measured by a process of its own: `python -m bench.gpu.sections NAME DEVICE FILE`.

What is measured so far is in the file at any time; PyTorch is imported by the sections that need it.
"""

from __future__ import annotations

import json
import os
import sys
import traceback
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from penstock.worker.devices import Device, close_devices, open_device

__all__ = ["LIMITS_S", "names_of"]

SHARES = (0.95, 0.90, 0.97, 0.80)  # the ones that are to be reached first
SIZES = (1, 2, 4, 8, 16, 32, 64, 128, 256)

Rows = Iterable[dict[str, Any]]

# Seconds that a section may take. They are about three times what it should.
LIMITS_S = {
    "device": 60.0,
    "copies": 60.0,
    "launches": 45.0,
    "host": 45.0,
    "preprocessing": 45.0,
    "overlap": 45.0,
    "curve": 90.0,
    "plain": 60.0,
    "served": 120.0,
}


def names_of(networks: Sequence[str]) -> list[str]:
    """Return the sections in order: what the device does by itself, then the networks, the one part after the other."""
    first = ["device", "host", "preprocessing", "overlap", "launches", "copies"]
    return first + [f"{part} {network}" for part in ("served", "curve", "plain") for network in networks]


def device_itself(device: Device) -> Rows:
    """Say what it is, and what runs on it."""
    row: dict[str, Any] = {"title": device.title}
    if device.name != "host":
        from penstock.worker.devices.cuda import CudaDevice

        assert isinstance(device, CudaDevice)
        free, total = device.memory_bytes()
        row |= {"memory_mib": total >> 20, "free_mib": free >> 20} | device.driver_facts()
    yield row


def measures(name: str, device: Device, quick: bool) -> Callable[[], Rows]:
    """Return what measures a section."""
    largest = 1 << (18 if quick else 26)
    part, _, network = name.partition(" ")
    if part == "device":
        return lambda: device_itself(device)
    if network:
        return _of_network(part, network, device, quick)
    from bench.gpu import host, limits

    found: dict[str, Callable[[], Rows]] = {
        "copies": lambda: limits.copies(device, largest),
        "launches": lambda: limits.launches(device),
        "host": lambda: host.host_time(device, (1, 16, 64), 50 if quick else 3000),
        "preprocessing": lambda: limits.preprocessing(device, 2 if quick else 1024),
        "overlap": lambda: limits.overlap(device, largest),
    }
    return found[part]


def _of_network(part: str, network: str, device: Device, quick: bool) -> Callable[[], Rows]:
    from bench.gpu.curves import curve, plain_loop
    from bench.gpu.networks import NETWORKS
    from bench.gpu.served import serve

    shaped = NETWORKS[network]
    budget_s, seconds = (0.02, 0.3) if quick else (0.4, 5.0)
    sizes = [1, 2] if quick else [size for size in SIZES if size <= shaped.rows_max]
    if part == "curve":
        return lambda: curve(shaped, device, sizes, budget_s)
    if part == "plain":
        return lambda: plain_loop(shaped, device, sizes[-2:], budget_s)
    return lambda: serve(shaped, device.name, SHARES[:1] if quick else SHARES, seconds, sizes[-1])


def main(name: str, device: str, into: Path, quick: bool) -> int:
    """Measure a section, row by row."""
    found: dict[str, Any] = {"rows": []}
    status = 0
    try:
        for row in measures(name, open_device(device), quick)():
            found["rows"].append(row)
            _write(into, found)
        close_devices()
    except Exception as error:  # the others are worth having; what failed is in the report, and its stack in the log
        traceback.print_exc()
        found["failed"] = f"{type(error).__name__}: {error}"
        status = 1
    _write(into, found)
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(status)  # a library's way out may wait for a device that is lost


def _write(into: Path, found: dict[str, Any]) -> None:
    made = into.with_suffix(".new")
    made.write_text(json.dumps(found, default=float))
    made.replace(into)


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2], Path(sys.argv[3]), sys.argv[4:] == ["quick"])
