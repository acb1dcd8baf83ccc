"""Where a worker runs and takes its memory from."""

from __future__ import annotations

import ctypes
import errno
import os
import platform
from dataclasses import dataclass

from penstock.core.cpus import format_cpus
from penstock.core.errors import ModelLoadError

__all__ = ["Placement", "place_this_process"]

# set_mempolicy(2): the C library has no function for it.
_SET_MEMPOLICY = {"x86_64": 238, "aarch64": 237, "riscv64": 237, "ppc64le": 261, "s390x": 269}
_MPOL_BIND = 2
_BITS_PER_WORD = 64


@dataclass(frozen=True, slots=True)
class Placement:
    """The CPUs that a worker may run on, none for all, and the NUMA node that all of its memory comes from."""

    cpus: tuple[int, ...] = ()
    numa_node: int | None = None


def place_this_process(placement: Placement) -> None:
    """Bind this process, whose other threads are yet to come; ModelLoadError when the kernel refuses."""
    if placement.cpus:
        try:
            os.sched_setaffinity(0, placement.cpus)
        except OSError as error:
            cpus = format_cpus(placement.cpus)
            raise ModelLoadError(f"the worker cannot run on the CPUs {cpus}: {error.strerror}") from error
    if placement.numa_node is not None:
        _bind_memory(placement.numa_node)


def _bind_memory(node: int) -> None:
    machine = platform.machine()
    if machine not in _SET_MEMPOLICY:
        raise ModelLoadError(f"memory cannot be bound to a NUMA node on {machine}: leave numa_node out, set cpus")
    words = node // _BITS_PER_WORD + 1
    mask = (ctypes.c_uint64 * words)()
    mask[node // _BITS_PER_WORD] = 1 << node % _BITS_PER_WORD
    libc = ctypes.CDLL(None, use_errno=True)
    number, policy = ctypes.c_long(_SET_MEMPOLICY[machine]), ctypes.c_long(_MPOL_BIND)
    # The kernel reads one bit less than it is told of.
    if libc.syscall(number, policy, mask, ctypes.c_ulong(words * _BITS_PER_WORD + 1)) != 0:
        code = ctypes.get_errno()
        # What a container's default profile forbids comes back as this.
        advice = ": give the container the capability SYS_NICE, or set cpus only" if code == errno.EPERM else ""
        raise ModelLoadError(f"the worker's memory cannot be bound to NUMA node {node}: {os.strerror(code)}{advice}")
