"""Who runs where: the generator on a core of its own, servers on the others."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager

__all__ = ["pin", "placement", "spawning"]

_server_cores: set[int] = set()


def pin() -> bool:
    """Keep this process, so its generator, to the last core and servers to the rest; False when there is only one."""
    global _server_cores
    cores = os.sched_getaffinity(0)
    if len(cores) < 2:
        return False
    own = max(cores)
    _server_cores = cores - {own}
    os.sched_setaffinity(0, {own})
    return True


@contextmanager
def spawning() -> Iterator[None]:
    """Give processes that the block starts the servers' cores: a child has those of the thread that starts it."""
    if not _server_cores:
        yield
        return
    own = os.sched_getaffinity(0)
    os.sched_setaffinity(0, _server_cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, own)


def placement() -> str:
    """Say it for the record."""
    if not _server_cores:
        return "server and generator share all cores"
    own = ", ".join(map(str, sorted(os.sched_getaffinity(0))))
    return f"server on core {', '.join(map(str, sorted(_server_cores)))}, generator on core {own}"
