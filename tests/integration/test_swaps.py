"""Swaps in short: `python -m bench swaps` does a thousand of them, and looks at times."""

from pathlib import Path

import pytest

from bench.swaps import SwapOptions, judge_answers, judge_sizes, run_swaps

pytestmark = pytest.mark.slow


def test_twenty_swaps_lose_nothing_and_leave_nothing_behind(tmp_path: Path) -> None:
    result = run_swaps(SwapOptions(tmp_path, swaps=20, rate=1000, rest_seconds=0.5, rollbacks=3))
    assert result.swaps == 20
    assert len(result.rollback_seconds) == 3
    missed = [verdict for verdict in [*judge_answers(result), *judge_sizes(result)] if not verdict.reached]
    assert not missed, result.problems
