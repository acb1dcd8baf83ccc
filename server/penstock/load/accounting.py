"""What processes cost: CPU time and memory of a tree of processes, and the share of everything else on the machine.

The total of a process is exact (the scheduler's own sum of nanoseconds, threads that have ended included); its split
into user and system is sampled by the kernel's tick (250 Hz on most machines), so it needs seconds of load to mean
something. What children took that have ended, and all else from /proc, is counted in ticks too.
"""

import os
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

__all__ = [
    "CpuTime",
    "Memory",
    "Snapshot",
    "TreeMemory",
    "Usage",
    "busy_seconds",
    "descendants",
    "memory_of",
    "snapshot",
    "tree_memory",
    "usage",
]

TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")
CPUCLOCK_SCHED = 2


@dataclass(frozen=True, slots=True)
class CpuTime:
    """Seconds of CPU: `total` by the scheduler, `user` and `system` by ticks."""

    total: float = 0.0
    user: float = 0.0
    system: float = 0.0

    def __add__(self, other: "CpuTime") -> "CpuTime":
        return CpuTime(self.total + other.total, self.user + other.user, self.system + other.system)

    def __sub__(self, other: "CpuTime") -> "CpuTime":
        return CpuTime(self.total - other.total, self.user - other.user, self.system - other.system)

    @property
    def user_share(self) -> float:
        """Part of the ticks that fell into user space."""
        ticks = self.user + self.system
        return self.user / ticks if ticks > 0 else 0.0


@dataclass(frozen=True, slots=True)
class Memory:
    """Bytes of one process: resident, and proportional (shared pages divided among those that share them)."""

    rss: int
    pss: int


@dataclass(frozen=True, slots=True)
class TreeMemory:
    """Bytes of a tree of processes. `rss` counts a shared page in every process that has it, `pss` once in all."""

    rss: int
    pss: int
    processes: int


@dataclass(frozen=True, slots=True)
class Snapshot:
    """CPU clocks at one moment. `threads` are those of the tree by name, "main/" before those of its root."""

    when: float
    tree: CpuTime
    machine_busy: float
    threads: Mapping[str, CpuTime]


@dataclass(frozen=True, slots=True)
class Usage:
    """What happened between two snapshots."""

    seconds: float
    tree: CpuTime
    machine_busy: float
    threads: Mapping[str, CpuTime]

    def foreign_share(self, others_of_ours: float) -> float:
        """Part of all cores that neither the tree nor our other processes (CPU seconds) took, nor was idle."""
        foreign = self.machine_busy - self.tree.total - others_of_ours
        return max(0.0, foreign / (self.seconds * (os.cpu_count() or 1)))


def busy_seconds(stat: str) -> float:
    """Read off /proc/stat how long all cores were not idle: at work, or taken away by the hypervisor."""
    user, nice, system, _idle, _iowait, irq, softirq, steal, *_ = (
        int(field) for field in stat.split("\n", 1)[0].split()[1:]
    )
    return (user + nice + system + irq + softirq + steal) / TICKS_PER_SECOND


def descendants(pid: int) -> list[int]:
    """Return the process and all that descend from it."""
    found = [pid]
    for parent in found:
        found.extend(_children_of(parent))
    return found


def snapshot(pid: int | None) -> Snapshot:
    """Read the clocks of a process tree, if there is one, and of the machine."""
    tree = CpuTime()
    threads: dict[str, CpuTime] = {}
    for member in [] if pid is None else descendants(pid):
        tree += _cpu_of(member)
        for name, clock in _threads_of(member):
            label = ("main/" if member == pid else "child/") + name
            threads[label] = threads.get(label, CpuTime()) + clock
    return Snapshot(time.monotonic(), tree, busy_seconds(Path("/proc/stat").read_text()), threads)


def usage(before: Snapshot, after: Snapshot) -> Usage:
    """Subtract two snapshots of the same tree."""
    threads = {name: clock - before.threads.get(name, CpuTime()) for name, clock in after.threads.items()}
    return Usage(after.when - before.when, after.tree - before.tree, after.machine_busy - before.machine_busy, threads)


def memory_of(pid: int) -> Memory:
    """Read a process's resident and proportional size."""
    fields = {}
    for line in Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()[1:]:
        name, _, value = line.partition(":")
        fields[name] = int(value.split()[0]) * 1024
    return Memory(fields["Rss"], fields["Pss"])


def tree_memory(pid: int) -> TreeMemory:
    """Read the size of a process and all that descend from it."""
    sizes = []
    for member in descendants(pid):
        try:
            sizes.append(memory_of(member))
        except (OSError, KeyError):
            continue  # it has ended, or is about to
    return TreeMemory(sum(size.rss for size in sizes), sum(size.pss for size in sizes), len(sizes))


def _children_of(pid: int) -> list[int]:
    children: list[int] = []
    for task in _tasks_of(pid):
        try:
            children += [int(child) for child in (task / "children").read_text().split()]
        except OSError:
            continue  # the thread has ended
    return children


def _tasks_of(pid: int) -> list[Path]:
    try:
        return list(Path(f"/proc/{pid}/task").iterdir())
    except OSError:
        return []  # the process has ended


def _cpu_of(pid: int) -> CpuTime:
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        # The clock of another process's CPU time. Source: MAKE_PROCESS_CPUCLOCK in Linux's posix-timers.h.
        total = time.clock_gettime(~pid << 3 | CPUCLOCK_SCHED)
    except OSError:
        return CpuTime()
    user, system = int(fields[11]) / TICKS_PER_SECOND, int(fields[12]) / TICKS_PER_SECOND
    # Children that have ended are in their parent's clocks, by ticks: a worker that was killed has cost what it did.
    ended_user, ended_system = int(fields[13]) / TICKS_PER_SECOND, int(fields[14]) / TICKS_PER_SECOND
    return CpuTime(total, user, system) + CpuTime(ended_user + ended_system, ended_user, ended_system)


def _threads_of(pid: int) -> Iterator[tuple[str, CpuTime]]:
    """Give the name and the clocks of each thread that lives."""
    for task in _tasks_of(pid):
        try:
            head, _, tail = (task / "stat").read_text().rpartition(")")
            nanoseconds = int((task / "schedstat").read_text().split()[0])
        except OSError:
            continue
        fields = tail.split()
        user, system = int(fields[11]) / TICKS_PER_SECOND, int(fields[12]) / TICKS_PER_SECOND
        yield head.partition("(")[2], CpuTime(nanoseconds / 1e9, user, system)
