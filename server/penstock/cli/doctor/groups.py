"""What the control groups of this process give it, of both versions of the kernel's interface."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

__all__ = ["cpu_quota", "memory_limit"]

_ROOT = Path("/")


def cpu_quota(root: Path = _ROOT) -> float | None:
    """Return how many CPUs' time there is; None without a bound. `root` is where /proc and /sys are."""
    quotas = []
    for folder in _groups(root, "cpu"):
        # Version 2 has "max 100000" or "50000 100000" in one file, version 1 a file for each, with -1 for none.
        quota, _, period = _read(folder / "cpu.max").partition(" ")
        quota = quota or _read(folder / "cpu.cfs_quota_us")
        period = period or _read(folder / "cpu.cfs_period_us")
        if quota.isdecimal() and period.isdecimal() and int(period):
            quotas.append(int(quota) / int(period))
    return min(quotas, default=None)


def memory_limit(root: Path = _ROOT) -> tuple[int, int] | None:
    """Return the tightest bound in bytes and what of it is in use; None without one."""
    limits = []
    for folder in _groups(root, "memory"):
        limit = _read(folder / "memory.max") or _read(folder / "memory.limit_in_bytes")
        used = _read(folder / "memory.current") or _read(folder / "memory.usage_in_bytes")
        if limit.isdecimal() and used.isdecimal():
            limits.append((int(limit), int(used)))
    return min(limits, default=None)


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Yield the folders of this process's group and of those around it."""
    for line in _read(root / "proc/self/cgroup").splitlines():
        _, names, path = line.split(":", 2)
        if names and controller not in names.split(","):
            continue
        base = root / "sys/fs/cgroup" / names
        folder = base / path.lstrip("/")
        yield folder
        # In a container the path may lead out of what is mounted there.
        while folder != base and base in folder.parents:
            folder = folder.parent
            yield folder


def _read(path: Path) -> str:
    try:
        return path.read_text().strip()
    except OSError:
        return ""
