"""Swaps of PyTorch models in short; tests/integration has those of ONNX, and `python -m bench swaps` times them."""

from pathlib import Path

import pytest

from bench.swaps import SwapOptions, judge_answers, judge_sizes, run_swaps

pytestmark = [pytest.mark.formats, pytest.mark.slow]


def test_twenty_swaps_lose_nothing_and_leave_nothing_behind(tmp_path: Path) -> None:
    result = run_swaps(SwapOptions(tmp_path, form="pytorch", swaps=20, rate=100, rest_seconds=0.5, rollbacks=0))
    assert result.swaps == 20
    missed = [verdict for verdict in [*judge_answers(result), *judge_sizes(result)] if not verdict.reached]
    assert not missed, result.problems
