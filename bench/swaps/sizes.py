"""What a server's main process holds: bytes, rings, descriptors."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

from penstock.load.accounting import memory_of

__all__ = ["Sizes", "rings_of", "settled_sizes"]

RING = "memfd:penstock-ring"
LOOKS = 20
LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of one process: bytes (shared pages divided among those that share them), mappings of rings, open descriptors."""

    pss: int
    rings: int
    descriptors: int


def rings_of(pid: int) -> int:
    """Count the mappings of rings."""
    return sum(RING in line for line in Path(f"/proc/{pid}/maps").read_text().splitlines())


def settled_sizes(pid: int) -> Sizes:
    """Look for a while and take the least: connections and versions that are on their way out are no leaks."""
    looks = []
    for _ in range(LOOKS):
        looks.append(Sizes(memory_of(pid).pss, rings_of(pid), len(os.listdir(f"/proc/{pid}/fd"))))
        time.sleep(LOOK_SECONDS)
    return Sizes(
        min(look.pss for look in looks), min(look.rings for look in looks), min(look.descriptors for look in looks)
    )
