"""What a worker may use while it runs somebody else's model, and what is said when that is not enough."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from pathlib import Path

from penstock.core.errors import ModelLoadError
from penstock.worker.device_errors import DeviceMemoryError

__all__ = ["DeviceFullError", "OutOfMemoryError", "limit_this_process", "machine_bytes", "out_of_memory"]

_CGROUPS = Path("/sys/fs/cgroup")
_OWN_CGROUPS = Path("/proc/self/cgroup")

# How libraries that translate std::bad_alloc, or a refused mmap, say so.
_SAID_OF_MEMORY = (
    "bad_alloc",
    "cannot allocate memory",
    "can't allocate memory",
    "failed to allocate memory",
    "unable to allocate",
    "memory allocation failed",
    "memory allocation still failed",
    "out of memory",
    "oom when allocating",
    "failed to map segment",
)


class OutOfMemoryError(ModelLoadError):
    """A model needs more memory than its worker may have."""


class DeviceFullError(ModelLoadError):
    """A model needs more memory than its device has left."""


def limit_this_process(memory_bytes: int) -> None:
    """Bound what this process may allocate, 0 for what the machine or the container has; and leave no core files.

    The bound is RLIMIT_DATA, what is writable and private, and not RLIMIT_AS. Frameworks reserve address space that
    they never use, map their libraries, and files of weights: after its import torch 2.13 has 216 MiB of data in
    624 MiB of address space, TensorFlow 2.21 has 417 in 1,232. Both are imported under 512 MiB of RLIMIT_DATA, neither
    under 1 GiB of RLIMIT_AS. Nor do the rings count, which are shared.

    A core file would hold rows of users, and while the kernel writes one the worker's batches wait for their successor.
    """
    have = machine_bytes()
    wanted = min(memory_bytes or have, have)
    _, hard = resource.getrlimit(resource.RLIMIT_DATA)
    if hard != resource.RLIM_INFINITY:
        wanted = min(wanted, hard)
    # The hard limit, too: a model's code is not to lift it.
    resource.setrlimit(resource.RLIMIT_DATA, (wanted, wanted))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def machine_bytes(cgroups: Path = _CGROUPS, own: Path = _OWN_CGROUPS) -> int:
    """Return the memory of the machine, or of this process's control group (either version) where that is less."""
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return min([total, *_cgroup_limits(cgroups, own)])


def _cgroup_limits(cgroups: Path, own: Path) -> Iterator[int]:
    try:
        lines = own.read_text().splitlines()
    except OSError:  # without /proc nothing is known
        return
    for line in lines:
        _, controllers, path = line.split(":", 2)
        if "memory" in controllers.split(","):
            root, file = cgroups / "memory", "memory.limit_in_bytes"
        elif not controllers:
            root, file = cgroups, "memory.max"
        else:
            continue
        # Its group's ancestors bound it, too. A container may see the path of the host, of which it has the end only:
        # what does not exist is skipped, and its own group is the root that it sees.
        group = root / path.lstrip("/")
        while True:
            yield from _limit_of(group / file)
            if group == root:
                break
            group = group.parent


def _limit_of(file: Path) -> Iterator[int]:
    try:
        text = file.read_text().strip()
    except OSError:
        return
    if text.isdecimal():  # "max" is none
        yield int(text)


def out_of_memory(error: BaseException, memory_bytes: int) -> ModelLoadError | None:
    """Return what to say of an error that comes of a lack of memory, wherever it was translated; None for another."""
    causes = list(_causes(error))
    # A device that is full says "out of memory", too, and no setting of the host's memory helps it.
    full = next((cause for cause in causes if isinstance(cause, DeviceMemoryError)), None)
    if full is not None:
        return DeviceFullError(
            f"the model needs more memory than its device has left ({_first_line(full)}): lower max_batch_size, give "
            "it another device, or serve fewer models there"
        )
    for seen in causes:
        if _is_of_memory(seen):
            limit = resource.getrlimit(resource.RLIMIT_DATA)[0]
            setting, mend = f"memory_bytes is {memory_bytes}", "raise memory_bytes"
            if not memory_bytes:
                setting, mend = "all that there is: memory_bytes is 0", "give the machine or the container more"
            return OutOfMemoryError(
                f"the model needs more memory than its worker may have, {limit >> 20} MiB ({setting}): {mend}, or "
                f"serve a smaller model. A damaged file may want any amount: check that it is complete. What was said: "
                f"{_first_line(seen)}"
            )
    return None


def _causes(error: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = error
    while seen is not None:
        yield seen
        seen = seen.__cause__ or seen.__context__


def _is_of_memory(error: BaseException) -> bool:
    if isinstance(error, MemoryError) or (isinstance(error, OSError) and error.errno == errno.ENOMEM):
        return True
    text = str(error).lower()
    return any(said in text for said in _SAID_OF_MEMORY)


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0] or type(error).__name__
