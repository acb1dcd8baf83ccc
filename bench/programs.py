"""The native programs of the benchmarks: the fixed replay, and the micro-benchmarks."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from bench.gate.revisions import WORKTREE, Product, build, find_revision

__all__ = ["micro_json", "run_micro", "time_stages"]


def time_stages(revision: str = WORKTREE) -> Mapping[str, Mapping[str, float]]:
    """Build and run the replay: nanoseconds a request by case and stage. RevisionError when it does not build."""
    tree = build(find_revision(revision), Product.REPLAY)
    program = tree.binaries / "bench" / "replay"
    found: Mapping[str, Mapping[str, float]] = json.loads(
        subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout
    )
    return found


def run_micro(names: Sequence[str] = ()) -> Iterator[str]:
    """Build and run the micro-benchmarks of the working tree, giving the table of each; RevisionError as above."""
    tree = build(find_revision(WORKTREE), Product.MICRO)
    for target in Product.MICRO.targets:
        if not names or target.removesuffix("_bench") in names:
            yield subprocess.run(
                [str(tree.binaries / "bench" / target)], capture_output=True, text=True, check=True
            ).stdout


def micro_json(target: str) -> Any:
    """Build and run one micro-benchmark of the working tree; its lines as JSON has them. RevisionError as above."""
    tree = build(find_revision(WORKTREE), Product.MICRO)
    command = [str(tree.binaries / "bench" / target), "--json"]
    return json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
