"""What a process takes: CPU time and memory, as the kernel tells them."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ProcessUse", "use_of"]

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
# Of /proc/PID/stat (proc(5)), counted from what stands behind the name.
_USER_TICKS, _SYSTEM_TICKS, _RESIDENT_PAGES = 11, 12, 21


@dataclass(frozen=True, slots=True)
class ProcessUse:
    """`cpu_seconds` since it was started, in user and kernel; `resident_bytes` with what it shares with others."""

    cpu_seconds: float
    resident_bytes: int


def use_of(pid: int) -> ProcessUse | None:
    """Return what a process takes, from one file of /proc; None when it is gone."""
    try:
        stat = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return None
    # The name may hold blanks and brackets.
    fields = stat.rpartition(b")")[2].split()
    ticks = int(fields[_USER_TICKS]) + int(fields[_SYSTEM_TICKS])
    return ProcessUse(ticks / _TICKS_PER_SECOND, int(fields[_RESIDENT_PAGES]) * _PAGE_BYTES)
