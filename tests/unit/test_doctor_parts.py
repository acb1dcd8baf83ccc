"""The parts of `penstock doctor` that read what machines write: control groups, listeners, versions."""

import os
import socket
import threading
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from packaging.specifiers import SpecifierSet

from penstock.cli.doctor.checks import within
from penstock.cli.doctor.groups import cpu_quota, memory_limit
from penstock.cli.doctor.libraries import Requirement, is_within, requirements_of
from penstock.cli.doctor.listeners import holders_of, listeners


def tree(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_the_tightest_group_counts(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "0::/pods/one\n",
            "sys/fs/cgroup/pods/cpu.max": "150000 100000\n",
            "sys/fs/cgroup/pods/one/cpu.max": "max 100000\n",
            "sys/fs/cgroup/pods/one/memory.max": "1000\n",
            "sys/fs/cgroup/pods/one/memory.current": "400\n",
            "sys/fs/cgroup/pods/memory.max": "max\n",
            "sys/fs/cgroup/pods/memory.current": "500\n",
        },
    )
    assert cpu_quota(root) == 1.5
    assert memory_limit(root) == (1000, 400)


def test_groups_of_version_1_are_read(tmp_path: Path) -> None:
    root = tree(
        tmp_path,
        {
            "proc/self/cgroup": "5:cpu,cpuacct:/docker/x\n4:memory:/docker/x\n1:name=systemd:/docker/x\n",
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_quota_us": "50000\n",  # a container sees its own as the root
            "sys/fs/cgroup/cpu,cpuacct/cpu.cfs_period_us": "100000\n",
            "sys/fs/cgroup/memory/memory.limit_in_bytes": "2000\n",
            "sys/fs/cgroup/memory/memory.usage_in_bytes": "100\n",
        },
    )
    assert cpu_quota(root) == 0.5
    assert memory_limit(root) == (2000, 100)


def test_no_group_is_no_bound(tmp_path: Path) -> None:
    root = tree(tmp_path, {"proc/self/cgroup": "0::/\n", "sys/fs/cgroup/cpu.max": "max 100000\n"})
    assert cpu_quota(root) is None
    assert memory_limit(root) is None
    assert cpu_quota(tmp_path / "nowhere") is None


@pytest.mark.parametrize("address", ["127.0.0.1", "::1"])
def test_who_listens_is_found(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.create_server((address, 0), family=family) as listener:
        port = listener.getsockname()[1]
        holders = holders_of(listeners()[port])
    assert len(holders) == 1
    assert f"(pid {os.getpid()})" in holders[0]
    assert port not in listeners()


VERSIONS = st.lists(st.integers(0, 30), min_size=1, max_size=4).map(lambda parts: ".".join(map(str, parts)))
CLAUSES = st.tuples(st.sampled_from([">=", "<=", "<", ">", "==", "!="]), VERSIONS).map("".join)


@given(VERSIONS, st.lists(CLAUSES, max_size=3).map(",".join))
def test_versions_are_compared_as_pip_compares_them(version: str, versions: str) -> None:
    assert is_within(version, versions) == SpecifierSet(versions).contains(version)


@pytest.mark.parametrize(
    ("version", "versions", "well"),
    [
        ("2.13.0+cpu", ">=2.13,<3", True),
        ("3.2.0", "==3.2.*", True),
        ("3.3.0", "==3.2.*", False),
        ("2.4.1", "~=2.4", True),
        ("3.0", "~=2.4", False),
        ("1.0", "", True),
    ],
)
def test_versions_of_all_kinds(version: str, versions: str, well: bool) -> None:
    assert is_within(version, versions) is well


def test_requirements_are_read() -> None:
    assert requirements_of(
        [
            "numpy<3,>=2.0",
            'torch<3,>=2.13; extra == "torch"',
            "Nvidia_ml.py (>=13) ; extra == 'gpu'",
            "typer[all]>=0.15",
        ]
    ) == [
        Requirement("numpy", ">=2.0,<3"),
        Requirement("torch", ">=2.13,<3", "torch"),
        Requirement("nvidia-ml.py", ">=13", "gpu"),
        Requirement("typer", ">=0.15"),
    ]


def test_what_never_answers_is_left_behind() -> None:
    never = threading.Event()
    with pytest.raises(TimeoutError, match=r"no answer within 0\.01 s"):
        within(0.01, never.wait)
    never.set()
    assert within(60, lambda: "here") == "here"
    with pytest.raises(ValueError, match="wrong"):
        within(60, _raise)


def _raise() -> None:
    raise ValueError("wrong")
