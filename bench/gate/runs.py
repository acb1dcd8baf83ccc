"""The protocol of the p99 gate: which revision runs when, and when to stop. It knows nothing of servers.

1. Warm-up: one run of each, thrown away.
2. Guard: A/A pairs. If their noise is hopeless the gate says so and judges nothing.
3. A/B pairs, in each the order by lot, until they are enough (statistics.is_enough) or `pairs_max` is reached. After
   every few of them comes another A/A pair, since the machine may get noisy later.
4. The verdict.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from enum import StrEnum

import numpy as np

from bench.gate.statistics import Judgement, Rules, is_enough, is_hopeless, judge, pairs_needed, spread, too_noisy

__all__ = ["Measure", "Pair", "Protocol", "Side", "run_pairs"]


class Side(StrEnum):
    """Which revision a run is of."""

    BASE = "base"
    HEAD = "head"


# One run: p99 latency in microseconds. Starts what it measures afresh, since the luck of a start is part of the noise.
Measure = Callable[[Side], float]


@dataclass(frozen=True, slots=True)
class Pair:
    """Two runs, one after the other. In an A/A pair both are of the base."""

    first: Side
    second: Side
    first_us: float
    second_us: float
    swapped: bool  # the second run counts as the base's

    @property
    def is_guard(self) -> bool:
        """Whether it is an A/A pair."""
        return self.first is self.second

    @property
    def difference(self) -> float:
        """Log ratio of the head's p99 to the base's; not finite when a run gave no positive number."""
        base_us, head_us = (self.second_us, self.first_us) if self.swapped else (self.first_us, self.second_us)
        if not (math.isfinite(base_us) and math.isfinite(head_us) and base_us > 0 and head_us > 0):
            return math.nan
        return math.log(head_us / base_us)

    def __str__(self) -> str:
        """One line of progress."""
        kind = "A/A" if self.is_guard else "A/B"
        first, second = f"{self.first} {self.first_us:,.0f}", f"{self.second} {self.second_us:,.0f}"
        return f"{kind}  p99 {first} us, {second} us: {math.expm1(self.difference):+.1%}"


@dataclass(frozen=True, slots=True)
class Protocol:
    """How the runs are laid out."""

    rules: Rules = field(default_factory=Rules)
    warm_up_runs: int = 1  # of each revision
    guard_pairs: int = 5
    pairs_between_guards: int = 4
    seed: int = 1


def run_pairs(measure: Measure, protocol: Protocol) -> Generator[Pair, None, Judgement]:
    """Measure until there is a verdict, which is the generator's value; yields each pair when it is done.

    ValueError when a run gives no p99. Errors of `measure` pass through.
    """
    rules = protocol.rules
    lots = np.random.default_rng(protocol.seed)
    for _ in range(protocol.warm_up_runs):
        measure(Side.BASE)
        measure(Side.HEAD)
    guards: list[float] = []
    differences: list[float] = []
    for _ in range(protocol.guard_pairs):
        guards.append((yield from _pair(measure, Side.BASE, lots)))
    if is_hopeless(guards, rules):
        return too_noisy(0, pairs_needed(spread(guards, rules), rules), rules)
    while len(differences) < rules.pairs_max:
        differences.append((yield from _pair(measure, Side.HEAD, lots)))
        if len(differences) >= rules.pairs_min and is_enough(differences, rules):
            break
        if len(differences) % protocol.pairs_between_guards == 0:
            guards.append((yield from _pair(measure, Side.BASE, lots)))
    return judge(differences, guards, rules)


def _pair(measure: Measure, other: Side, lots: np.random.Generator) -> Generator[Pair, None, float]:
    """Run the base and `other` in an order drawn by lot; the difference."""
    swapped = bool(lots.integers(2))
    first, second = (other, Side.BASE) if swapped else (Side.BASE, other)
    pair = Pair(first, second, measure(first), measure(second), swapped)
    if not math.isfinite(pair.difference):
        raise ValueError(f"a run gave no p99: {first} {pair.first_us} us, {second} {pair.second_us} us")
    yield pair
    return pair.difference
