"""The protocol of the p99 gate: what runs when, and when it ends."""

import itertools
import math
from collections.abc import Iterator

import numpy as np
import pytest

from bench.gate.runs import Measure, Pair, Protocol, Side, run_pairs
from bench.gate.statistics import Judgement, Rules, Verdict

QUICK = Rules(resamples=200)


def finish(measure: Measure, protocol: Protocol) -> tuple[Judgement, list[Pair]]:
    pairs = []
    runs = run_pairs(measure, protocol)
    while True:
        try:
            pairs.append(next(runs))
        except StopIteration as stopped:
            return stopped.value, pairs


class Machine:
    """A p99 for each run: the side's own, times noise."""

    def __init__(self, base_us: float, head_us: float, noise: float, seed: int = 1) -> None:
        self._us = {Side.BASE: base_us, Side.HEAD: head_us}
        self._noise = noise
        self._lots = np.random.default_rng(seed)
        self.calls: list[Side] = []

    def __call__(self, side: Side) -> float:
        self.calls.append(side)
        return self._us[side] * math.exp(self._noise * self._lots.standard_normal())


def test_the_warm_up_and_the_guard_come_first() -> None:
    machine = Machine(100, 100, 0.002)
    judgement, pairs = finish(machine, Protocol(QUICK))
    assert judgement.verdict is Verdict.PASS
    assert machine.calls[:2] == [Side.BASE, Side.HEAD]
    assert machine.calls[2:12] == [Side.BASE] * 10
    assert [pair.is_guard for pair in pairs[:6]] == [True] * 5 + [False]
    assert judgement.pairs == sum(not pair.is_guard for pair in pairs) == 10


def test_the_order_inside_a_pair_is_drawn_by_lot_and_known_beforehand() -> None:
    def orders(seed: int) -> list[Side]:
        _, pairs = finish(Machine(100, 100, 0.02), Protocol(QUICK, seed=seed))
        return [pair.first for pair in pairs if not pair.is_guard]

    assert {Side.BASE, Side.HEAD} == set(orders(1))
    assert orders(1) == orders(1)
    assert orders(1) != orders(2)


def test_the_difference_is_the_heads_whatever_the_order() -> None:
    assert Pair(Side.BASE, Side.HEAD, 100, 110, swapped=False).difference == pytest.approx(math.log(1.1))
    assert Pair(Side.HEAD, Side.BASE, 110, 100, swapped=True).difference == pytest.approx(math.log(1.1))


def test_more_noise_takes_more_pairs() -> None:
    quiet, _ = finish(Machine(100, 100, 0.005), Protocol(QUICK))
    noisy, pairs = finish(Machine(100, 100, 0.018), Protocol(QUICK))
    assert quiet.pairs == 10 < noisy.pairs < QUICK.pairs_max
    # A guard pair after every four others, to see noise that comes later.
    assert sum(pair.is_guard for pair in pairs) == 5 + (noisy.pairs - 1) // 4


def test_a_slowdown_is_found() -> None:
    judgement, _ = finish(Machine(100, 106, 0.01), Protocol(QUICK))
    assert judgement.verdict is Verdict.FAIL
    assert judgement.low is not None and judgement.low > 0.03


def test_a_hopeless_machine_is_given_up_after_the_guard() -> None:
    machine = Machine(100, 100, 0.5)
    judgement, pairs = finish(machine, Protocol(QUICK))
    assert judgement.verdict is Verdict.TOO_NOISY
    assert judgement.pairs == 0
    assert len(pairs) == 5
    assert judgement.pairs_needed > QUICK.pairs_max


def test_a_machine_that_gets_noisy_later_is_given_up_at_the_end() -> None:
    quiet, loud = Machine(100, 100, 0.002), Machine(100, 100, 0.4)
    count = itertools.count()
    judgement, _ = finish(lambda side: (quiet if next(count) < 20 else loud)(side), Protocol(QUICK))
    assert judgement.verdict is Verdict.TOO_NOISY
    assert judgement.pairs == QUICK.pairs_max


def test_a_head_that_is_unsteady_on_a_steady_machine_is_a_warning() -> None:
    quiet, loud = Machine(100, 100, 0.002), Machine(100, 100, 0.4)
    judgement, _ = finish(lambda side: (quiet if side is Side.BASE else loud)(side), Protocol(QUICK))
    assert judgement.verdict is Verdict.WARN


@pytest.mark.parametrize("wrong", [0.0, -1.0, math.nan, math.inf])
def test_a_run_without_a_p99_ends_the_gate(wrong: float) -> None:
    runs: Iterator[float] = itertools.chain([100.0] * 14, itertools.repeat(wrong))
    with pytest.raises(ValueError, match="gave no p99"):
        finish(lambda _: next(runs), Protocol(QUICK))


def test_errors_of_a_run_pass_through() -> None:
    def broken(side: Side) -> float:
        raise RuntimeError("the server did not get ready")

    with pytest.raises(RuntimeError, match="did not get ready"):
        finish(broken, Protocol(QUICK))
