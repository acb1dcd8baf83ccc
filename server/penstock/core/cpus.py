"""CPUs and the memory beside them: how they are written, which ones there are, and who gets which."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

__all__ = ["CPU_MAX", "cpus_of_node", "format_cpus", "parse_cpus", "share_of"]

CPU_MAX = 8191  # the largest number that a kernel can be built for (CONFIG_NR_CPUS)

_NODES = Path("/sys/devices/system/node")
_ITEM = re.compile(r"\s*(\d{1,4})(?:-(\d{1,4}))?\s*")


def parse_cpus(text: str) -> tuple[int, ...]:
    """Read "0-3,6" as the kernel writes it; the numbers ascend. ValueError for anything else."""
    found: set[int] = set()
    for item in text.split(",") if text.strip() else ():
        match = _ITEM.fullmatch(item)
        if match is None:
            raise ValueError(text)
        first, last = int(match[1]), int(match[2] or match[1])
        if not first <= last <= CPU_MAX:
            raise ValueError(text)
        found.update(range(first, last + 1))
    return tuple(sorted(found))


def format_cpus(cpus: Sequence[int]) -> str:
    """Write ascending numbers of CPUs as "0-3,6"."""
    runs: list[list[int]] = []
    for cpu in cpus:
        if runs and cpu == runs[-1][1] + 1:
            runs[-1][1] = cpu
        else:
            runs.append([cpu, cpu])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in runs)


def cpus_of_node(node: int, nodes: Path = _NODES) -> tuple[int, ...]:
    """Return the CPUs beside the memory of a NUMA node; LookupError, which names the nodes, when it is none."""
    try:
        return parse_cpus((nodes / f"node{node}" / "cpulist").read_text())
    except (FileNotFoundError, NotADirectoryError):
        numbers = (re.fullmatch(r"node(\d+)", path.name) for path in nodes.glob("node*"))
        known = sorted(int(number[1]) for number in numbers if number)
        raise LookupError(f"there is no NUMA node {node}: this machine has {_said_of_nodes(known)}") from None


def _said_of_nodes(nodes: Sequence[int]) -> str:
    if not nodes:
        return "none"
    return f"node {nodes[0]} only" if len(nodes) == 1 else f"nodes {format_cpus(nodes)}"


def share_of(cpus: Sequence[int], number: int, count: int) -> tuple[int, ...]:
    """Return the CPUs of one of `count` equals, `number` counting from 0.

    Each gets neighbours of its own, as many as the others or one more; where there are fewer CPUs than takers, all
    share all of them.
    """
    if len(cpus) < count:
        return tuple(cpus)
    return tuple(cpus[number * len(cpus) // count : (number + 1) * len(cpus) // count])
