"""The short form of the gate, for CI: instruction counts of the fixed replay against a committed baseline.

Noise does not move them, so one run is enough; but they count instructions, not time, and know nothing of caches,
system calls and queues. `bench gate` judges those.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from bench.gate.callgrind import CountingError, Counts, count, toolchain
from bench.gate.revisions import WORKTREE, Product, RevisionError, Tree, build, find_revision, last_change

__all__ = ["BASELINE", "Baseline", "Change", "InstructionsOptions", "compare", "instructions", "read_baseline"]

BASELINE = Path(__file__).with_name("instructions.json")
INCREASE_MAX = 0.03
SHOWN_FROM = 0.001

PASSED, FAILED, NOT_JUDGED = 0, 1, 2


@dataclass(frozen=True, slots=True)
class InstructionsOptions:
    """What to count and what to do with it."""

    revision: str = WORKTREE
    update: bool = False  # write the baseline instead of comparing with it
    baseline: Path = BASELINE


@dataclass(frozen=True, slots=True)
class Baseline:
    """Counts, and the toolchain that they hold for."""

    toolchain: Mapping[str, str]
    counts: Counts


@dataclass(frozen=True, slots=True)
class Change:
    """One stage before and after; None: it is not there."""

    case: str
    stage: str
    before: float | None
    after: float | None

    @property
    def share(self) -> float:
        """The increase as a share."""
        return self.after / self.before - 1 if self.before and self.after is not None else 0.0

    @property
    def is_failure(self) -> bool:
        """Whether the stage got dearer than allowed, or came or went: then the baseline says nothing about it."""
        return self.before is None or self.after is None or self.share > INCREASE_MAX

    def __str__(self) -> str:
        """One row of the table."""
        before, after = (f"{value:,.1f}" if value is not None else "-" for value in (self.before, self.after))
        mark = "FAIL" if self.is_failure else ""
        return f"{self.case:<12} {self.stage:<10} {before:>12} {after:>12} {self.share:>+8.2%} {mark}".rstrip()


def instructions(options: InstructionsOptions) -> int:
    """Count, then judge or update; 0: fine, 1: a stage got dearer, 2: cannot be judged here."""
    try:
        tree = build(find_revision(options.revision), Product.REPLAY)
        counted = Baseline(toolchain(tree), count(tree))
        if options.update:
            write_baseline(options.baseline, counted)
            print(options.baseline)
            return PASSED
        return _judge(tree, counted, options.baseline)
    except (RevisionError, CountingError) as error:
        print(error, file=sys.stderr)
        return NOT_JUDGED


def compare(before: Counts, after: Counts) -> list[Change]:
    """Pair the stages of two counts, those that only one has included."""
    keys = dict.fromkeys((case, stage) for counts in (before, after) for case in counts for stage in counts[case])
    return [
        Change(case, stage, before.get(case, {}).get(stage), after.get(case, {}).get(stage)) for case, stage in keys
    ]


def read_baseline(path: Path) -> Baseline:
    """Read a committed baseline; CountingError when there is none."""
    try:
        document = json.loads(path.read_text())
        return Baseline(document["toolchain"], document["counts"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CountingError(f"{path} is no baseline ({error!r}): write one with --update") from error


def write_baseline(path: Path, baseline: Baseline) -> None:
    """Write a baseline that reads well in a diff."""
    document = {"toolchain": dict(baseline.toolchain), "counts": baseline.counts}
    path.write_text(json.dumps(document, indent=1) + "\n")


def _judge(tree: Tree, counted: Baseline, path: Path) -> int:
    baseline = read_baseline(path)
    if baseline.toolchain != counted.toolchain:
        for name, there in baseline.toolchain.items():
            here = counted.toolchain.get(name)
            if here != there:
                print(f"the baseline's {name} is '{there}', here it is '{here}'")
        baseline = _count_again(path)
    changes = compare(baseline.counts, counted.counts)
    print(f"instructions a request, {tree.revision}, {counted.toolchain['compiler']}")
    moved = [change for change in changes if change.is_failure or abs(change.share) > SHOWN_FROM]
    for change in moved:
        print(change)
    print(f"{len(changes) - len(moved)} of {len(changes)} stages are as they were")
    failures = [change for change in changes if change.is_failure]
    if failures:
        print(f"{len(failures)} stages got dearer by more than {INCREASE_MAX:.0%}, came or went: mend them, or accept")
        print("them with --update and say in the commit what they buy")
        return FAILED
    if any(change.share < -INCREASE_MAX for change in changes):
        print("some stages got cheaper: --update keeps them so")
    return PASSED


def _count_again(path: Path) -> Baseline:
    """Count the revision that the baseline was committed with, with the toolchain of this machine."""
    revision = last_change(path)
    print(f"so the baseline's own revision is built and counted here: {revision}")
    tree = build(revision, Product.REPLAY)
    return Baseline(toolchain(tree), count(tree))
