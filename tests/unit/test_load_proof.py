"""Early stopping: the counts of MLPerf Inference, checked against the binomial distribution itself."""

import math

import pytest

from penstock.load.proof import chance_of_at_most, is_proven, requests_needed


@pytest.mark.parametrize(
    ("percentile", "late", "needed"), [(0.99, 0, 459), (0.999, 0, 4603), (0.9, 0, 44), (0.5, 0, 7)]
)
def test_counts_without_a_late_request(percentile: float, late: int, needed: int) -> None:
    assert requests_needed(late, percentile) == needed


@pytest.mark.parametrize("percentile", [0.9, 0.99, 0.999])
@pytest.mark.parametrize("late", [0, 1, 10, 100])
def test_the_count_is_the_least_that_proves(percentile: float, late: int) -> None:
    needed = requests_needed(late, percentile)
    assert is_proven(needed + late, late, percentile)
    assert not is_proven(needed + late - 1, late, percentile)


@pytest.mark.parametrize(("successes", "trials"), [(0, 1), (1, 3), (3, 10), (10, 200), (30, 1000)])
@pytest.mark.parametrize("probability", [0.01, 0.05, 0.3])
def test_chance_is_the_sum_of_the_terms(successes: int, trials: int, probability: float) -> None:
    exact = sum(math.comb(trials, k) * probability**k * (1 - probability) ** (trials - k) for k in range(successes + 1))
    if successes <= trials * probability:
        assert chance_of_at_most(successes, trials, probability) == pytest.approx(exact, rel=1e-9)
    else:
        assert exact > 0.4


def test_long_runs_neither_overflow_nor_take_long() -> None:
    assert is_proven(50_000_000, 499_000 - 2_000, 0.99)
    assert not is_proven(50_000_000, 500_001, 0.99)
    assert not is_proven(0, 0, 0.99)
