"""What each stage of a request costs: the fixed replay of bench/replay, timed."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping

from bench.gate.revisions import WORKTREE, Product, build, find_revision

__all__ = ["time_stages"]


def time_stages(revision: str = WORKTREE) -> Mapping[str, Mapping[str, float]]:
    """Build and run the replay: nanoseconds a request by case and stage. RevisionError when it does not build."""
    tree = build(find_revision(revision), Product.REPLAY)
    program = tree.binaries / "bench" / "replay"
    found: Mapping[str, Mapping[str, float]] = json.loads(
        subprocess.run([str(program)], capture_output=True, text=True, check=True).stdout
    )
    return found
