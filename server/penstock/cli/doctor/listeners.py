"""Who listens on which TCP port of this machine, as /proc tells. Nothing is bound to find out."""

from __future__ import annotations

import os
from collections.abc import Collection
from pathlib import Path

__all__ = ["holders_of", "listeners"]

_LISTENING = "0A"


def listeners(proc: Path = Path("/proc")) -> dict[int, set[str]]:
    """Return the ports on which somebody listens, and the inodes of the sockets."""
    found: dict[int, set[str]] = {}
    for table in ("tcp", "tcp6"):
        try:
            lines = (proc / "net" / table).read_text().splitlines()[1:]
        except OSError:
            continue
        for line in lines:
            fields = line.split()
            if fields[3] == _LISTENING:
                port = int(fields[1].rpartition(":")[2], 16)
                found.setdefault(port, set()).add(fields[9])
    return found


def holders_of(inodes: Collection[str], proc: Path = Path("/proc")) -> list[str]:
    """Return the processes that have one of these sockets, as far as this user may look."""
    wanted = {f"socket:[{inode}]" for inode in inodes}
    holders = []
    for process in proc.iterdir():
        if process.name.isdecimal() and _has(process, wanted):
            holders.append(f"{_name(process)} (pid {process.name})")
    return sorted(holders)


def _has(process: Path, wanted: Collection[str]) -> bool:
    try:
        with os.scandir(process / "fd") as descriptors:
            return any(os.readlink(descriptor.path) in wanted for descriptor in descriptors)
    except OSError:  # it has ended, or is another user's
        return False


def _name(process: Path) -> str:
    try:
        words = (process / "cmdline").read_bytes().split(b"\0")
        text = (process / "comm").read_text().strip()
    except OSError:
        return "a process"
    # An interpreter's name says little: `python -m penstock serve` is penstock.
    return "penstock" if any(b"penstock" in os.path.basename(word) for word in words) else text
