"""What a worker may allocate, and what is said when it wants more."""

import os
import subprocess
import sys
import textwrap
from itertools import pairwise
from pathlib import Path

import pytest

from penstock.core.errors import ModelLoadError
from penstock.worker.device_errors import DeviceMemoryError
from penstock.worker.limits import DeviceFullError, machine_bytes, out_of_memory

MIB = 1 << 20


def in_a_process(program: str) -> str:
    """Run a program by itself, since limits are of a process and for good; what it prints."""
    done = subprocess.run([sys.executable, "-c", textwrap.dedent(program)], capture_output=True, text=True, check=True)
    return done.stdout.strip()


def test_what_is_allocated_is_bounded_and_what_is_reserved_is_not() -> None:
    program = """
        import mmap, resource
        from penstock.worker.limits import limit_this_process
        limit_this_process(64 << 20)
        mmap.mmap(-1, 1 << 30, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, prot=mmap.PROT_READ)
        mmap.mmap(-1, 1 << 30, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS)
        try:
            bytearray(128 << 20)
        except MemoryError:
            print("refused", resource.getrlimit(resource.RLIMIT_CORE))
    """
    assert in_a_process(program) == "refused (0, 0)"


def test_a_model_cannot_lift_the_bound() -> None:
    program = """
        import os, resource
        from penstock.worker.limits import limit_this_process
        limit_this_process(64 << 20)
        print(resource.getrlimit(resource.RLIMIT_DATA))
        limit_this_process(256 << 20)
        print(resource.getrlimit(resource.RLIMIT_DATA))
    """
    assert in_a_process(program).splitlines() == [f"({64 * MIB}, {64 * MIB})"] * 2


def test_without_a_setting_the_machine_is_the_bound() -> None:
    program = """
        import resource
        from penstock.worker.limits import limit_this_process, machine_bytes
        limit_this_process(0)
        print(resource.getrlimit(resource.RLIMIT_DATA)[0] == machine_bytes())
    """
    assert in_a_process(program) == "True"


def cgroups(folder: Path, own: str, **limits: str) -> tuple[Path, Path]:
    """Make files as the kernel shows them; `limits` are what these files hold, "__" between folders."""
    (folder / "own").write_text(own)
    for name, limit in limits.items():
        file = folder.joinpath("cgroup", *name.split("__"))
        file = file.with_name(file.name.replace("_dot_", "."))
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(limit + "\n")
    return folder / "cgroup", folder / "own"


def test_a_control_group_bounds_what_is_in_it(tmp_path: Path) -> None:
    total = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    new = cgroups(tmp_path, "0::/a/b\n", a__b__memory_dot_max="max", a__memory_dot_max=str(100 * MIB))
    assert machine_bytes(*new) == 100 * MIB
    (tmp_path / "cgroup/a/b/memory.max").write_text("max\n")
    (tmp_path / "cgroup/a/memory.max").write_text(f"{total * 2}\n")
    assert machine_bytes(*new) == total


def test_a_control_group_of_the_first_version(tmp_path: Path) -> None:
    old = cgroups(tmp_path, "4:cpu:/x\n3:memory:/host/path\n0::/\n", memory__memory_dot_limit_in_bytes=str(50 * MIB))
    assert machine_bytes(*old) == 50 * MIB
    assert machine_bytes(tmp_path / "none", tmp_path / "none") == os.sysconf("SC_PAGE_SIZE") * os.sysconf(
        "SC_PHYS_PAGES"
    )


def chained(*errors: Exception) -> Exception:
    for outer, inner in pairwise(errors):
        outer.__cause__ = inner
    return errors[0]


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        OSError(12, "Cannot allocate memory"),
        ModelLoadError("onnxruntime cannot load x: std::bad_alloc"),
        ModelLoadError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
        chained(ModelLoadError("class Model raised while it loaded"), MemoryError()),
    ],
    ids=str,
)
def test_a_lack_of_memory_names_the_setting(error: Exception) -> None:
    told = out_of_memory(error, 5 * MIB)
    assert told is not None
    assert f"memory_bytes is {5 * MIB}" in str(told) and "raise memory_bytes" in str(told)
    told = out_of_memory(error, 0)
    assert told is not None and "raise memory_bytes" not in str(told)


def test_other_errors_are_not_about_memory() -> None:
    assert out_of_memory(chained(ModelLoadError("no class Model"), KeyError("x")), MIB) is None


def test_a_device_that_is_full_is_not_taken_for_the_host() -> None:
    full = DeviceMemoryError("CUDA_ERROR_OUT_OF_MEMORY: out of memory")
    wrapped = ModelLoadError("the model fails for 8 rows of zeros: out of memory")
    wrapped.__cause__ = full
    for error in (full, wrapped):
        told = out_of_memory(error, 0)
        assert isinstance(told, DeviceFullError)
        assert "CUDA_ERROR_OUT_OF_MEMORY" in str(told)
        assert "lower max_batch_size" in str(told)
        assert "memory_bytes" not in str(told)
