"""Idle priority: a model that loads and warms up beside others takes only the time that they leave."""

from __future__ import annotations

import ctypes
import logging
import math
import os
import resource
import time
from collections.abc import Callable
from contextlib import suppress

__all__ = ["back_to_normal", "become_idle", "clock_without_preemption", "is_idle"]

logger = logging.getLogger("penstock.worker")

# RLIMIT_NICE counts 20 - nice: with 20 a thread may be given nice 0, which is what leaving SCHED_IDLE is to the kernel.
_NICE_LIMIT_FOR_ZERO = 20
_CAP_SYS_NICE = 23
_PASSES_MAX = 100
# user_namespaces(7): what /proc/self/uid_map says in the namespace that has not been made.
_ALL_USERS = ["0", "0", "4294967295"]


def become_idle(process: int = 0) -> bool:
    """Put this process, or a child of it, under SCHED_IDLE; False where there would be no way back from there.

    Its other threads are yet to come, and inherit it. Whoever did this to a child has to bring it back should it take
    long: on a machine without time to spare an idle process does not even get to look at its clock.

    The kernel derives the priority of reads and writes from it, too (ioprio class idle, unless a thread chose another),
    so that reading weights gives way to others under schedulers that know priorities.
    """
    if not _may_come_back():
        logger.debug("the model loads at normal priority: idle priority could not be left without CAP_SYS_NICE")
        return False
    try:
        os.sched_setscheduler(process, os.SCHED_IDLE, os.sched_param(0))
    except OSError as error:
        logger.debug("the model loads at normal priority: %s", error.strerror)
        return False
    return True


def is_idle() -> bool:
    """Tell whether this thread is under SCHED_IDLE."""
    return os.sched_getscheduler(0) == os.SCHED_IDLE


def back_to_normal(process: int | None = None) -> None:
    """Put every thread of this process, or of a child that is not reaped, under SCHED_OTHER."""
    # A thread that is started meanwhile inherits the policy of the one that starts it, which may be idle still: only a
    # pass that finds nothing to do was the last. A model may go on for ever making threads idle; it is not waited for.
    tasks = f"/proc/{'self' if process is None else process}/task"
    for _ in range(_PASSES_MAX):
        if not _raise_threads(tasks):
            return


def _raise_threads(tasks: str) -> bool:
    """Raise the threads that there are; whether any was idle."""
    found = False
    for thread in map(int, os.listdir(tasks)):
        with suppress(ProcessLookupError):  # it has ended
            if os.sched_getscheduler(thread) == os.SCHED_IDLE:
                os.sched_setscheduler(thread, os.SCHED_OTHER, os.sched_param(0))
                found = True
    return found


def _may_come_back() -> bool:
    """Tell whether this process may leave SCHED_IDLE, before it enters it (sched(7), "SCHED_IDLE")."""
    limit, _ = resource.getrlimit(resource.RLIMIT_NICE)
    if limit == resource.RLIM_INFINITY or limit >= _NICE_LIMIT_FOR_ZERO:
        return True
    return _has_capability(_CAP_SYS_NICE) and _in_first_user_namespace()


def _in_first_user_namespace() -> bool:
    """Tell whether this process has its capabilities where the kernel asks: root of a rootless container has not."""
    try:
        with open("/proc/self/uid_map") as uid_map:
            return uid_map.read().split() == _ALL_USERS
    except OSError:  # a kernel without user namespaces
        return True


def _has_capability(number: int) -> bool:
    """Tell whether this thread has a capability (capget(2), version 3: two words of 32 for each set)."""

    class Header(ctypes.Structure):
        _fields_ = (("version", ctypes.c_uint32), ("pid", ctypes.c_int))

    class Sets(ctypes.Structure):
        _fields_ = (("effective", ctypes.c_uint32), ("permitted", ctypes.c_uint32), ("inheritable", ctypes.c_uint32))

    header, sets = Header(0x20080522, 0), (Sets * 2)()
    if ctypes.CDLL(None).capget(ctypes.byref(header), ctypes.byref(sets)) != 0:
        return False
    return bool(sets[number // 32].effective >> number % 32 & 1)


def clock_without_preemption() -> Callable[[], float]:
    """Return a clock of this thread that stands still while the thread is ready to run and others run instead.

    Warm-ups at idle priority measure with it: the time on a busy machine would be that of the others. What the thread
    waits for by itself (a thread of its own, a device, a socket) still counts, as it would not by CPU time. Where
    threads of a framework do the work, their preemption is in the time, which then errs on the careful side.
    """
    try:
        schedule = os.open("/proc/thread-self/schedstat", os.O_RDONLY | os.O_CLOEXEC)
    except OSError:  # a kernel without CONFIG_SCHED_INFO
        return time.perf_counter

    def waited() -> int:
        # Nanoseconds on a CPU, nanoseconds on a run queue, time slices. A read costs 1 us.
        return int(os.pread(schedule, 64, 0).split()[1])

    latest = -math.inf

    def now() -> float:
        nonlocal latest
        # Others may run between two readings of one moment: then they belong to different moments, and time would
        # seem to go back.
        before = waited()
        while True:
            at, after = time.perf_counter(), waited()
            if after == before:
                break
            before = after
        # The scheduler's clock is not quite the other one, which is enough to go back by some microseconds.
        latest = max(latest, at - before * 1e-9)
        return latest

    return now
