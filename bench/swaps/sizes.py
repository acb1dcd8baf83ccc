"""What a server's main process holds: bytes, rings, descriptors."""

from __future__ import annotations

import os
import time
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Sizes", "rings_of", "settled_sizes"]

RING = "memfd:penstock-ring"
OWN = ("Pss_Anon:", "Pss_Shmem:")
LOOKS = 20
LOOK_SECONDS = 0.1


@dataclass(frozen=True, slots=True)
class Sizes:
    """Of one process: bytes that no file holds, mappings of rings, open descriptors.

    Bytes are those that it has written and its part of the rings. Its part of programs and libraries is left out: that
    depends on who else runs them, on a machine that others use by many MiB.
    """

    own: int
    rings: int
    descriptors: int


def rings_of(pid: int) -> int:
    """Count the mappings of rings."""
    return sum(RING in line for line in Path(f"/proc/{pid}/maps").read_text().splitlines())


def settled_sizes(pid: int) -> Sizes:
    """Look for a while and take the least: connections and versions that are on their way out are no leaks."""
    looks = []
    for _ in range(LOOKS):
        looks.append(Sizes(_own_bytes(pid), rings_of(pid), len(os.listdir(f"/proc/{pid}/fd"))))
        time.sleep(LOOK_SECONDS)
    return Sizes(
        min(look.own for look in looks), min(look.rings for look in looks), min(look.descriptors for look in looks)
    )


def _own_bytes(pid: int) -> int:
    lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith(OWN))
