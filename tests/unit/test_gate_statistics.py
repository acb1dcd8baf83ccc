"""The p99 gate: does it find 5 % and keep quiet about nothing, on recorded runs and under noise of other kinds?"""

import json
import math
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from bench.gate.quantiles import chi_square_quantile, student_quantile
from bench.gate.runs import Measure, Pair, Protocol, Side, run_pairs
from bench.gate.statistics import (
    Judgement,
    Rules,
    Spread,
    Verdict,
    bca_interval,
    centre,
    is_enough,
    is_hopeless,
    judge,
    pairs_needed,
    sign_flip_p,
    spread,
)

RULES = Rules()
# Fewer resamples than the gate takes: hundreds of experiments are to run in seconds, and the ends move by little.
QUICK = Rules(resamples=400)
STEADY = [0.001, -0.001, 0.0005, -0.0005, 0.0]
EXPERIMENTS = 300

Noise = Callable[[np.random.Generator, int], NDArray[np.float64]]


def recorded_runs(name: str) -> list[dict[float, float]]:
    """Quantiles of the latencies of runs, in the order in which they were recorded (bench/gate/record.py)."""
    document = json.loads((Path(__file__).parent / "data" / f"gate_runs_{name}.json").read_text())
    return [dict(zip(document["quantiles"], run["us"], strict=True)) for run in document["runs"]]


class Recorded:
    """Answers with the p99 of recorded runs, two neighbours a pair; the head's latencies are longer by `slowdown`."""

    def __init__(self, runs: list[dict[float, float]], slowdown: float, seed: int) -> None:
        self._runs = runs
        self._factor = 1 + slowdown
        self._lots = np.random.default_rng(seed)
        self._next: list[dict[float, float]] = []

    def __call__(self, side: Side) -> float:
        if not self._next:
            first = int(self._lots.integers(len(self._runs) - 1))
            self._next = [self._runs[first], self._runs[first + 1]]
        return self._next.pop(0)[0.99] * (self._factor if side is Side.HEAD else 1.0)


def finish(measure: Measure, protocol: Protocol) -> tuple[Judgement, list[Pair]]:
    pairs = []
    runs = run_pairs(measure, protocol)
    while True:
        try:
            pairs.append(next(runs))
        except StopIteration as stopped:
            return stopped.value, pairs


def recorded_verdicts(name: str, slowdown: float, experiments: int) -> list[Verdict]:
    runs = recorded_runs(name)
    return [
        finish(Recorded(runs, slowdown, seed), Protocol(QUICK, seed=seed))[0].verdict for seed in range(experiments)
    ]


def test_a_planted_slowdown_of_5_per_cent_is_found_on_recorded_runs() -> None:
    verdicts = recorded_verdicts("slow", 0.05, EXPERIMENTS)
    judged = EXPERIMENTS - verdicts.count(Verdict.TOO_NOISY)
    assert judged >= 0.9 * EXPERIMENTS
    assert verdicts.count(Verdict.FAIL) >= 0.9 * judged


def test_equal_revisions_fail_in_at_most_one_of_a_hundred_gates_on_recorded_runs() -> None:
    verdicts = recorded_verdicts("slow", 0.0, EXPERIMENTS)
    assert verdicts.count(Verdict.FAIL) <= 0.01 * EXPERIMENTS


def test_a_machine_that_was_too_noisy_when_it_was_recorded_is_not_judged() -> None:
    for slowdown in (0.0, 0.05):
        verdicts = recorded_verdicts("w1", slowdown, EXPERIMENTS // 3)
        assert verdicts.count(Verdict.TOO_NOISY) >= 0.9 * len(verdicts)
        assert verdicts.count(Verdict.FAIL) <= 0.01 * len(verdicts)


# ---- noise of other kinds --------------------------------------------------------------------------------------------


def normal(lots: np.random.Generator, count: int) -> NDArray[np.float64]:
    return lots.standard_normal(count)


def disturbed(lots: np.random.Generator, count: int) -> NDArray[np.float64]:
    """One pair in ten is five times as noisy: a neighbour's doing."""
    return lots.standard_normal(count) * np.where(lots.random(count) < 0.1, 5, 1)


def heavy(lots: np.random.Generator, count: int) -> NDArray[np.float64]:
    return lots.standard_t(3, count)


def grow(lots: np.random.Generator, noise: Noise, scale: float, change: float) -> list[float]:
    """Take pairs as the protocol does, without its guards."""
    differences = [*(noise(lots, QUICK.pairs_min) * scale + change)]
    while not is_enough(differences, QUICK) and len(differences) < QUICK.pairs_max:
        differences.append(float(noise(lots, 1)[0]) * scale + change)
    return differences


@pytest.mark.parametrize(("noise", "scale"), [(normal, 0.01), (normal, 0.02), (disturbed, 0.015), (heavy, 0.015)])
def test_power_and_false_alarms_hold_for_other_noise(noise: Noise, scale: float) -> None:
    lots = np.random.default_rng(5)
    found = [judge(grow(lots, noise, scale, math.log(1.05)), STEADY, QUICK) for _ in range(EXPERIMENTS)]
    assert sum(judgement.verdict is Verdict.FAIL for judgement in found) >= 0.9 * len(found)
    quiet = [judge(grow(lots, noise, scale, 0.0), STEADY, QUICK) for _ in range(EXPERIMENTS)]
    assert sum(judgement.verdict is Verdict.FAIL for judgement in quiet) <= 0.01 * len(quiet)
    # At the limit itself a failure is wrong in no more than the interval's one-sided 2.5 %, plus chance.
    limit = [judge(grow(lots, noise, scale, RULES.limit), STEADY, QUICK) for _ in range(EXPERIMENTS)]
    assert sum(judgement.verdict is Verdict.FAIL for judgement in limit) <= 0.05 * len(limit)


def test_the_interval_covers_as_often_as_it_says() -> None:
    lots = np.random.default_rng(11)
    samples = lots.normal(0.02, 0.02, (600, 12))
    intervals = [bca_interval(sample, QUICK) for sample in samples]
    covered = sum(interval.low <= 0.02 <= interval.high for interval in intervals)
    assert 0.93 <= covered / len(intervals) <= 0.98


def test_the_sign_flip_test_is_exact_under_skewed_noise_and_a_drawn_order() -> None:
    lots = np.random.default_rng(3)
    p = np.array([sign_flip_p(lots.exponential(1, 10) * lots.choice([-1, 1], 10), RULES) for _ in range(EXPERIMENTS)])
    assert np.mean(p <= 0.05) <= 0.05 + 3 * math.sqrt(0.05 * 0.95 / EXPERIMENTS)


# ---- rules -----------------------------------------------------------------------------------------------------------


def around(change: float, noise: float, pairs: int = 20) -> list[float]:
    """Differences that lie evenly around a change."""
    return [math.log1p(change) + noise * (2 * i / (pairs - 1) - 1) for i in range(pairs)]


def test_verdicts_follow_the_interval() -> None:
    assert judge(around(0.06, 0.01), STEADY, RULES).verdict is Verdict.FAIL
    assert judge(around(0.035, 0.02), STEADY, RULES).verdict is Verdict.WARN
    assert judge(around(0.02, 0.01), STEADY, RULES).verdict is Verdict.PASS
    assert judge(around(-0.3, 0.01), STEADY, RULES).verdict is Verdict.PASS


def test_a_noisy_machine_is_told_from_an_unsteady_head() -> None:
    wild = around(0.0, 0.5)
    noisy = judge(wild, [0.3, -0.2, 0.4, -0.5, 0.1], RULES)
    assert noisy.verdict is Verdict.TOO_NOISY
    assert noisy.change is None
    assert noisy.pairs_needed > RULES.pairs_max
    assert str(noisy.pairs_needed) in str(noisy)
    unsteady = judge(wild, STEADY, RULES)
    assert unsteady.verdict is Verdict.WARN
    assert "the head's do not" in str(unsteady)


def test_a_large_slowdown_of_an_unsteady_head_fails() -> None:
    assert judge(around(2.0, 0.5), STEADY, RULES).verdict is Verdict.FAIL


def test_equal_differences_have_an_interval_of_no_width() -> None:
    judgement = judge([0.1] * 10, STEADY, RULES)
    assert judgement.verdict is Verdict.FAIL
    assert judgement.low == judgement.high == pytest.approx(math.expm1(0.1))
    assert judge([0.0] * 10, [0.0, 0.0], RULES).verdict is Verdict.PASS
    assert sign_flip_p([0.0] * 10, RULES) == 1.0


@pytest.mark.parametrize("wrong", [math.nan, math.inf])
def test_a_run_without_a_p99_is_an_error(wrong: float) -> None:
    with pytest.raises(ValueError, match="not a finite number"):
        judge([wrong] + [0.0] * 9, STEADY, RULES)


def test_few_pairs_are_not_judged() -> None:
    with pytest.raises(ValueError, match="too few"):
        judge([0.0] * 9, STEADY, RULES)
    with pytest.raises(ValueError, match="fewer than two"):
        spread([0.1], RULES)


def test_few_pairs_have_an_exact_p() -> None:
    assert sign_flip_p([0.1] * 10, RULES) == 2 / 2**10
    assert sign_flip_p([0.1] * 20, RULES) == 1 / (RULES.resamples + 1)


def test_the_same_numbers_give_the_same_judgement() -> None:
    differences = [*np.random.default_rng(1).normal(0.03, 0.02, 25)]
    assert judge(differences, STEADY, RULES) == judge(differences, STEADY, RULES)


def test_trimming_ignores_what_a_neighbour_did() -> None:
    clean = around(0.0, 0.01, 10)
    assert centre([*clean[:-1], 5.0], RULES) == pytest.approx(centre(clean, RULES), abs=0.005)


# ---- planning --------------------------------------------------------------------------------------------------------


def test_the_number_of_pairs_follows_the_noise() -> None:
    needed = [pairs_needed(Spread(noise, 9), RULES) for noise in (0.0, 0.005, 0.02, 0.04, 0.4)]
    assert needed[:2] == [10, 10]
    assert needed == sorted(needed)
    # Ten times the noise takes a hundred times the pairs.
    assert needed[4] == pytest.approx(100 * needed[3], rel=0.1)


def test_no_fewer_pairs_would_do() -> None:
    for noise in (0.02, 0.03, 0.1, 1.0):
        pairs = pairs_needed(Spread(noise, 9), RULES)
        assert pairs == 10 or pairs_needed(Spread(noise, 9), Rules(pairs_min=pairs - 1)) == pairs


def test_only_noise_that_is_surely_too_much_is_hopeless() -> None:
    assert not is_hopeless(STEADY, RULES)
    assert not is_hopeless([0.05, -0.05, 0.03, -0.04, 0.02], RULES)
    assert is_hopeless([0.3, -0.3, 0.2, -0.25, 0.1], RULES)


def test_quantiles_are_those_of_the_tables() -> None:
    assert student_quantile(0.975, 5) == pytest.approx(2.571, rel=1e-3)
    assert student_quantile(0.9, 20) == pytest.approx(1.325, rel=1e-3)
    assert chi_square_quantile(0.9, 4) == pytest.approx(7.779, rel=1e-2)
