"""Where the server's threads and workers run: CPUs and NUMA nodes, checked before anything is started."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from penstock.core.config import ModelConfig, ServerConfig
from penstock.core.cpus import cpus_of_node, format_cpus, share_of
from penstock.core.errors import ConfigError
from penstock.worker.placement import Placement

__all__ = ["check_placement", "place_io_threads", "placement_of"]

# What the data plane calls its I/O threads.
_IO_THREAD = "penstock-io"


def check_placement(config: ServerConfig) -> None:
    """Raise ConfigError for a CPU or a NUMA node that this process cannot use."""
    _check_cpus("io_cpus", config.io_cpus)
    for model in config.models:
        where = f"model {model.name!r}"
        _check_cpus(f"{where}: cpus", model.cpus)
        if model.numa_node is None:
            continue
        beside = _usable_cpus_of_node(where, model.numa_node)
        if not set(model.cpus) <= set(beside):
            raise ConfigError(
                f"{where}: cpus = {format_cpus(model.cpus)!r} are not all on NUMA node {model.numa_node}, which has "
                f"{format_cpus(beside)}"
            )


def placement_of(config: ModelConfig, instance: int | None) -> Placement:
    """Say where a worker runs; `instance` is None for one that is not among the model's instances.

    `cpus` are shared out among the instances. Those of `numa_node` are not: there the kernel may move a worker within
    the node.
    """
    cpus = config.cpus
    if cpus and instance is not None:
        cpus = share_of(cpus, instance, config.workers)
    elif not cpus and config.numa_node is not None:
        cpus = _usable_cpus_of_node(f"model {config.name!r}", config.numa_node)
    return Placement(cpus, config.numa_node)


def place_io_threads(cpus: Sequence[int], threads: Path = Path("/proc/self/task")) -> None:
    """Share the CPUs out among the I/O threads, which are running. Does nothing without CPUs."""
    if not cpus:
        return
    found = sorted(
        int(thread.name) for thread in threads.iterdir() if (thread / "comm").read_text().strip() == _IO_THREAD
    )
    for number, thread in enumerate(found):
        os.sched_setaffinity(thread, share_of(cpus, number, len(found)))


def _check_cpus(where: str, cpus: Sequence[int]) -> None:
    usable = sorted(os.sched_getaffinity(0))
    missing = sorted(set(cpus) - set(usable))
    if missing:
        raise ConfigError(
            f"{where} = {format_cpus(cpus)!r}: this process may not run on {format_cpus(missing)}; it may on "
            f"{format_cpus(usable)}"
        )


def _usable_cpus_of_node(where: str, node: int) -> tuple[int, ...]:
    try:
        beside = cpus_of_node(node)
    except LookupError as error:
        raise ConfigError(f"{where}: numa_node = {node}: {error.args[0]}") from error
    usable = tuple(cpu for cpu in beside if cpu in os.sched_getaffinity(0))
    if not usable:
        raise ConfigError(f"{where}: numa_node = {node}: this process may not run on any CPU of that node")
    return usable
