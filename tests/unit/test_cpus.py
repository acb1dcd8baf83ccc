"""CPUs: how they are written, who gets which, and what a NUMA node is."""

from pathlib import Path

import pytest

from penstock.core.cpus import cpus_of_node, format_cpus, parse_cpus, share_of


@pytest.mark.parametrize(
    ("text", "cpus", "written"),
    [
        ("0", (0,), "0"),
        ("0-3,6", (0, 1, 2, 3, 6), "0-3,6"),
        ("6, 0-2 ,1-3", (0, 1, 2, 3, 6), "0-3,6"),
        ("4,2", (2, 4), "2,4"),
        ("", (), ""),
        ("8191", (8191,), "8191"),
    ],
)
def test_cpus_are_read_and_written(text: str, cpus: tuple[int, ...], written: str) -> None:
    assert parse_cpus(text) == cpus
    assert format_cpus(cpus) == written


@pytest.mark.parametrize("text", ["a", "1-", "-1", "3-1", "1,,2", "1;2", "0x1", "8192", "1.5"])
def test_what_is_no_cpu_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r".*"):
        parse_cpus(text)


@pytest.mark.parametrize(
    ("cpus", "count", "shares"),
    [
        (range(4), 1, [(0, 1, 2, 3)]),
        (range(4), 2, [(0, 1), (2, 3)]),
        (range(5), 2, [(0, 1), (2, 3, 4)]),
        (range(3), 3, [(0,), (1,), (2,)]),
        (range(2), 3, [(0, 1)] * 3),
        ((), 2, [(), ()]),
    ],
)
def test_cpus_are_shared_out(cpus: range, count: int, shares: list[tuple[int, ...]]) -> None:
    assert [share_of(cpus, number, count) for number in range(count)] == shares


def test_a_node_has_cpus(tmp_path: Path) -> None:
    for node, cpus in ((0, "0-1\n"), (2, "2-3,7\n")):
        (tmp_path / f"node{node}").mkdir()
        (tmp_path / f"node{node}" / "cpulist").write_text(cpus)
    assert cpus_of_node(2, tmp_path) == (2, 3, 7)
    with pytest.raises(LookupError, match="there is no NUMA node 1: this machine has nodes 0,2"):
        cpus_of_node(1, tmp_path)


def test_the_only_node_is_named_as_such(tmp_path: Path) -> None:
    (tmp_path / "node0").mkdir()
    with pytest.raises(LookupError, match="there is no NUMA node 7: this machine has node 0 only"):
        cpus_of_node(7, tmp_path)
    with pytest.raises(LookupError, match="this machine has none"):
        cpus_of_node(7, tmp_path / "missing")
