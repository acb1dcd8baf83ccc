"""Which objectives are said to be out of reach, and in what words."""

from pathlib import Path
from typing import Any

import pytest

from penstock.core.config import ModelConfig
from penstock.serve.objectives import Priced, unkeepable_objectives

CURVE = ((1, 0.004), (2, 0.006), (4, 0.010), (64, 0.130), (256, 0.514))


def priced(name: str = "m", curve: tuple[tuple[int, float], ...] = CURVE, most: int = 256, **settings: Any) -> Priced:
    return Priced(ModelConfig(name=name, path=Path("m.onnx"), **settings), most, curve)


def told(*models: Priced) -> list[tuple[str, str]]:
    return [(config.name, reason) for config, reason in unkeepable_objectives(models)]


def test_a_curve_is_linear_in_between_and_starts_at_the_smallest_size() -> None:
    assert [priced().milliseconds(rows) for rows in (1, 3, 34, 256)] == pytest.approx([4, 8, 70, 514])
    assert priced(batch_sizes=(4, 256)).milliseconds(1) == pytest.approx(10)
    assert priced(curve=((1, 0.004),), most=1).milliseconds(1) == pytest.approx(4)


@pytest.mark.parametrize(("slo_ms", "warnings"), [(0, 0), (3, 1), (4, 0), (500, 0)])
def test_a_row_that_takes_longer_than_its_objective(slo_ms: int, warnings: int) -> None:
    reasons = told(priced(slo_ms=slo_ms))
    assert len(reasons) == warnings
    for name, reason in reasons:
        assert name == "m"
        assert "1 row takes 4 ms at the 99th percentile and slo_ms is 3:" in reason
        assert "Set slo_ms to at least twice" in reason


def test_padding_counts_as_part_of_a_row() -> None:
    ((_, reason),) = told(priced(slo_ms=9, batch_sizes=(4, 256)))
    assert "1 row takes 10 ms" in reason


def test_a_block_that_is_in_another_models_way() -> None:
    fast = priced("fast", ((1, 0.001), (256, 0.002)), slo_ms=8)
    ((name, reason),) = told(priced("slow"), fast)
    assert name == "fast"
    assert "model 'slow' of the same group, 4 rows, takes 10 ms" in reason
    assert "slo_ms of 'fast' is 8" in reason
    assert "lower max_batch_size of 'slow', or raise slo_ms of 'fast'" in reason
    assert told(priced("slow", most=64), fast) == [], "its blocks are of one row"


def test_a_block_of_one_row_cannot_be_made_smaller() -> None:
    ((_, reason),) = told(priced("slow", most=64), priced("fast", ((1, 0.001), (64, 0.002)), slo_ms=2))
    assert "1 row, takes 4 ms" in reason
    assert "Give the two models different groups, or raise" in reason


def test_rows_that_vary_are_as_long_as_may_be() -> None:
    slow = priced("slow", lengths=(8, 512), max_batch_tokens=65_536, slo_ms=3)
    (_, own), (_, between) = told(slow, priced("fast", ((1, 0.001), (256, 0.002)), slo_ms=5))
    assert "1 row of length 512 takes 4 ms" in own
    assert "2 rows of length 512, takes 6 ms" in between
