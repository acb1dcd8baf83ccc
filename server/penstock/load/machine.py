"""The machine that figures are of."""

from __future__ import annotations

import os
import platform
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Machine", "machine"]


@dataclass(frozen=True, slots=True)
class Machine:
    """What of a machine changes figures."""

    cpu: str
    cores: int
    memory_bytes: int
    kernel: str
    congestion_control: str
    python: str

    def __str__(self) -> str:
        gib = self.memory_bytes / (1 << 30)
        return (
            f"{self.cores} x {self.cpu}, {gib:.0f} GiB, Linux {self.kernel}, congestion control "
            f"{self.congestion_control}, Python {self.python}"
        )


def machine() -> Machine:
    """Look at this machine."""
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    cpu = next((line.partition(":")[2].strip() for line in lines if "model name" in line), platform.machine())
    return Machine(
        cpu=cpu,
        cores=os.cpu_count() or 1,
        memory_bytes=os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"),
        kernel=platform.release(),
        congestion_control=Path("/proc/sys/net/ipv4/tcp_congestion_control").read_text().strip(),
        python=platform.python_version(),
    )
