"""The instruction gate: reading callgrind's file, comparing with the baseline, and that the counts do not move."""

import shutil
from pathlib import Path

import pytest

from bench.gate.callgrind import CountingError, Counts, count, stage_costs
from bench.gate.instructions import (
    BASELINE,
    Baseline,
    Change,
    InstructionsOptions,
    compare,
    instructions,
    read_baseline,
    write_baseline,
)
from bench.gate.latency import GateOptions, gate
from bench.gate.revisions import REPOSITORY, Product, RevisionError, build, find_revision, last_change

# A function's costs, a call's inclusive cost after "calls=", names given once, positions relative or repeated.
CALLGRIND = """\
# callgrind format
version: 1
positions: line
events: Ir

ob=(1) /tmp/replay
fl=(1) ???
fn=(1) main
0 7
cfn=(2) penstock::replay::stage_head(penstock::replay::Pieces&)
calls=2 0
* 130

fn=(2)
0 10
+3 20
cfn=(3) penstock::dataplane::parse_head(char const*)
calls=16 0
-1 70
* 30

fn=(3)
0 100

fn=(4) penstock::replay::stage_path_in(penstock::replay::Path&) [clone .isra.0]
12 2
cfn=(5) penstock::replay::stage_path_in(penstock::replay::Path&) [clone .isra.0] [clone .part.0]
calls=1 0
12 3

fn=(5)
13 3
totals: 242
"""


def counts(**stages: float) -> Counts:
    return {"w1-json": dict(stages)}


def test_costs_are_inclusive_and_of_stages_only() -> None:
    assert stage_costs(CALLGRIND.splitlines(keepends=True)) == {"head": 130, "path_in": 5}


def test_a_stage_that_got_dearer_fails() -> None:
    head, decode = compare(counts(head=1000, decode=1000), counts(head=1029, decode=1031))
    assert not head.is_failure
    assert decode.is_failure
    assert decode.share == pytest.approx(0.031)
    assert "FAIL" in str(decode)
    assert "FAIL" not in str(head)


def test_a_stage_that_got_cheaper_passes() -> None:
    (change,) = compare(counts(head=1000), counts(head=100))
    assert not change.is_failure


def test_stages_that_came_or_went_fail() -> None:
    assert compare(counts(old=1), counts(new=1)) == [
        Change("w1-json", "old", 1, None),
        Change("w1-json", "new", None, 1),
    ]
    assert all(change.is_failure for change in compare(counts(old=1), counts(new=1)))


def test_a_baseline_is_read_as_it_was_written(tmp_path: Path) -> None:
    baseline = Baseline({"compiler": "c++ 12", "libc": "glibc"}, counts(head=3959.6))
    write_baseline(tmp_path / "baseline.json", baseline)
    assert read_baseline(tmp_path / "baseline.json") == baseline


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"counts": {}}'])
def test_what_is_no_baseline_is_said_to_be_none(tmp_path: Path, text: str) -> None:
    (tmp_path / "baseline.json").write_text(text)
    with pytest.raises(CountingError, match="--update"):
        read_baseline(tmp_path / "baseline.json")


def test_the_committed_baseline_has_every_case_and_stage() -> None:
    baseline = read_baseline(BASELINE)
    assert set(baseline.toolchain) == {"compiler", "libc", "processor"}
    assert set(baseline.counts) == {f"{model}-{name}" for model in ("w1", "w2") for name in ("json", "msgpack", "raw")}
    stages = {"head", "decode", "submit", "work", "answer", "path_in", "path_out"}
    assert all(set(case) == stages for case in baseline.counts.values())


# ---- revisions -------------------------------------------------------------------------------------------------------

in_a_clone = pytest.mark.skipif(not (REPOSITORY / ".git").exists(), reason="not a clone")


@in_a_clone
@pytest.mark.parametrize("name", ["no-such-branch", "--help", "", "HEAD:README.md"])
def test_an_unknown_revision_is_named(name: str) -> None:
    with pytest.raises(RevisionError, match="no revision that git knows"):
        find_revision(name)


@in_a_clone
def test_revisions_are_found_by_every_name() -> None:
    head = find_revision("HEAD")
    assert head.hash is not None
    assert find_revision(head.hash[:12]).hash == head.hash
    assert find_revision(".").hash is find_revision("WORKTREE").hash is None
    assert find_revision(".").folder != head.folder


@in_a_clone
def test_a_file_that_was_never_committed_has_no_revision(tmp_path: Path) -> None:
    with pytest.raises(RevisionError):
        last_change(REPOSITORY / "bench" / "gate" / "no-such-baseline.json")


@in_a_clone
def test_an_unknown_revision_is_not_judged(capsys: pytest.CaptureFixture[str]) -> None:
    assert gate("no-such-branch", "HEAD", GateOptions(measure=lambda tree: 1.0)) == 2
    assert instructions(InstructionsOptions(revision="no-such-branch")) == 2
    assert "no-such-branch" in capsys.readouterr().err


# ---- counting --------------------------------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("valgrind") is None, reason="needs valgrind")
def test_counts_are_the_same_twice() -> None:
    tree = build(find_revision("WORKTREE"), Product.REPLAY)
    assert count(tree) == count(tree)
