"""The machine: Python, kernel, processors, memory, limits, clock."""

from __future__ import annotations

import ctypes
import fcntl
import os
import platform
import resource
import sys
from collections.abc import Iterator
from pathlib import Path

from penstock.cli.doctor.checks import Check, Checks, fault, ok, warning
from penstock.cli.doctor.groups import cpu_quota, memory_limit
from penstock.cli.tables import size
from penstock.core.config import ServerConfig
from penstock.core.devices import visible_gpus

__all__ = ["machine_checks"]

_PYTHON_MIN = (3, 11)
# Descriptors besides connections, as the server counts them.
_OTHER_DESCRIPTORS = 256
_MEMORY_MIN = 512 << 20
# Read by the processor itself, without a system call.
_FAST_CLOCKS = ("tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page")
_TIME_ERROR = 5


def machine_checks(config: ServerConfig) -> Checks:
    """Look at the machine."""
    yield _python()
    yield _platform()
    yield _processors()
    yield _memory()
    yield _huge_pages()
    yield _descriptors(config)
    yield _rings()
    yield _locked()
    yield from _clock()


def _python() -> Check:
    text = f"{platform.python_version()} at {sys.executable}"
    if sys.version_info[:2] < _PYTHON_MIN:
        return fault("python", f"{text}: 3.11 or later is needed", "python3.11 -m venv .venv")
    return ok("python", text)


def _platform() -> Check:
    text = f"{platform.system()} {platform.release()}, {platform.machine()}"
    if platform.system() != "Linux":
        return fault("platform", f"{text}: Penstock runs on Linux", "docker run --rm -it python:3.12 bash")
    return ok("platform", text)


def _processors() -> Check:
    usable = len(os.sched_getaffinity(0))
    text = f"{usable} of {os.cpu_count()} usable"
    quota = cpu_quota()
    if quota is None:
        return ok("cpus", text)
    text += f", of which the control group gives {quota:.3g}"
    if quota < 1:
        return warning(
            "cpus",
            f"{text}: with less than one, every request waits for the next period now and then",
            "docker update --cpus 2 CONTAINER",
        )
    return ok("cpus", text)


def _memory() -> Check:
    facts = dict(line.split(":", 1) for line in Path("/proc/meminfo").read_text().splitlines())
    total, free = (int(facts[name].split()[0]) * 1024 for name in ("MemTotal", "MemAvailable"))
    text = f"{size(free)} of {size(total)} free"
    limit = memory_limit()
    if limit is not None and limit[0] < total:
        left = max(limit[0] - limit[1], 0)
        text += f"; the control group gives {size(limit[0])}, {size(left)} of it free"
        free = min(free, left)
    if free < _MEMORY_MIN:
        return warning("memory", f"{text}: that is little", "penstock serve --queue-bytes 16MiB ...")
    return ok("memory", text)


def _huge_pages() -> Check:
    setting = _read("/sys/kernel/mm/transparent_hugepage/enabled")
    chosen = setting.partition("[")[2].partition("]")[0] or "unknown"
    return ok("huge pages", f"transparent ones: {chosen}; Penstock asks for none")


def _descriptors(config: ServerConfig) -> Check:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    needed = config.max_connections + _OTHER_DESCRIPTORS
    text = f"{_limit(soft)}, which a server may raise to {_limit(hard)}"
    if hard != resource.RLIM_INFINITY and hard < needed:
        return warning(
            "open files",
            f"{text}: max_connections = {config.max_connections} needs {needed}",
            f"ulimit -n {needed}  # as root, or LimitNOFILE={needed} in the unit of systemd",
        )
    return ok("open files", text)


def _rings() -> Check:
    # Rows lie in sealed memory without a file. /dev/shm and its size have nothing to do with it.
    name = "shared memory"
    try:
        descriptor = os.memfd_create("penstock-doctor", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    except OSError as error:
        text = f"memfd_create is not allowed here: {error.strerror}; rows of requests are kept in it"
        return fault(name, text, "docker run --security-opt seccomp=unconfined ...")
    try:
        os.ftruncate(descriptor, 1 << 20)
        fcntl.fcntl(descriptor, fcntl.F_ADD_SEALS, fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW)
    except OSError as error:
        text = f"memory cannot be made and sealed (memfd): {error.strerror}"
        return fault(name, text, "docker run --security-opt seccomp=unconfined ...")
    finally:
        os.close(descriptor)
    return ok(name, "memfd works, bounded by memory alone")


def _locked() -> Check:
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    unlimited = soft == resource.RLIM_INFINITY
    text = "no bound" if unlimited else f"{size(soft)} may be locked"
    if visible_gpus() and not unlimited and soft < (64 << 20):
        return warning(
            "locked memory", f"{text}: a GPU has the memory of rows pinned (queue_bytes)", "ulimit -l unlimited"
        )
    return ok("locked memory", text)


def _clock() -> Iterator[Check]:
    source = _read("/sys/devices/system/clocksource/clocksource0/current_clocksource").strip() or "unknown"
    if source in _FAST_CLOCKS or source == "unknown":
        yield ok("clock source", source)
    else:
        yield warning(
            "clock source",
            f"{source} is slow to read, and every request reads it several times",
            "echo tsc | sudo tee /sys/devices/system/clocksource/clocksource0/current_clocksource",
        )
    # struct timex is smaller than this everywhere; a mode of 0 asks and changes nothing.
    asked = ctypes.create_string_buffer(512)
    try:
        state = ctypes.CDLL(None).adjtimex(asked)
    except (OSError, AttributeError):
        return
    if state == _TIME_ERROR:
        yield warning(
            "clock", "not synchronised: times in history, logs and traces may be off", "timedatectl set-ntp true"
        )
    elif state >= 0:
        yield ok("clock", "synchronised")


def _limit(value: int) -> str:
    return "any number" if value == resource.RLIM_INFINITY else f"{value:,}"


def _read(path: str | Path) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""
