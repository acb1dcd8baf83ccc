"""The statistics of the p99 gate: from paired runs to a verdict, and from their noise to the number of pairs.

The unit is the run, not the request: requests of one run share its queues, its neighbours and its place in memory. A
pair is one run of each revision, one after the other in random order; its difference is log p99(head) - log p99(base).

- Location is the mean of the middle half. On a shared machine some runs meet a neighbour, and a plain mean lets one
  such run decide. With normal noise this costs 3 pairs more where 14 would do; recorded on a machine that compiled
  meanwhile, it takes a fifth of the pairs that the plain mean would.
- The sign-flip test is exact whatever the noise looks like, because the order inside a pair is drawn by lot.
- The interval is the bootstrap's BCa (Efron 1987) over pairs, at levels widened for small samples (Hesterberg 2015,
  "What Teachers Should Know About the Bootstrap"), since at 10 pairs a plain one covers 92 % where it says 95 %.
- Pairs are added until both the spread and the interval's *width* are small enough for the power that is wanted. The
  rule never looks at where the interval lies, so it does not go on until a wish comes true. Asking for both makes up
  for what stopping at the first spread that happens to be small would lose.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

import numpy as np
from numpy.typing import NDArray

from bench.gate.quantiles import NORMAL, chi_square_quantile, student_quantile

__all__ = [
    "Interval",
    "Judgement",
    "Rules",
    "Spread",
    "Verdict",
    "bca_interval",
    "centre",
    "is_enough",
    "is_hopeless",
    "judge",
    "pairs_needed",
    "sign_flip_p",
    "spread",
    "too_noisy",
]

Sample = Sequence[float] | NDArray[np.float64]

EXACT_PAIRS_MAX = 14  # 16 384 ways to choose the signs


class Verdict(StrEnum):
    """What the gate says."""

    PASS = "pass"
    WARN = "warn"
    FAIL = "fail"
    TOO_NOISY = "too noisy"


@dataclass(frozen=True, slots=True)
class Rules:
    """What counts as slower, and how surely it must be known. Shares, not per cent."""

    slowdown_max: float = 0.03
    slowdown_found: float = 0.05  # a change of this size is found with `power`
    power: float = 0.9
    confidence: float = 0.95
    p_max: float = 0.01
    pairs_min: int = 10
    pairs_max: int = 60
    trimmed: float = 0.25  # of the pairs, on either side
    resamples: int = 10_000
    seed: int = 1

    @property
    def limit(self) -> float:
        """The log ratio that the interval's low end must not exceed."""
        return math.log1p(self.slowdown_max)

    @property
    def gap(self) -> float:
        """How far the log ratio to be found lies above the limit."""
        return math.log1p(self.slowdown_found) - self.limit


@dataclass(frozen=True, slots=True)
class Interval:
    """Two ends, as log ratios."""

    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Spread:
    """Standard deviation of one difference, made so that the centre's is `value / sqrt(pairs)`; degrees of freedom."""

    value: float
    freedom: int


@dataclass(frozen=True, slots=True)
class Judgement:
    """A verdict with what it rests on. Changes are shares: 0.05 is 5 % slower. None: not judged."""

    verdict: Verdict
    reason: str
    pairs: int
    pairs_needed: int
    change: float | None = None
    low: float | None = None
    high: float | None = None
    p: float | None = None

    def __str__(self) -> str:
        """One line for people."""
        if self.change is None or self.low is None or self.high is None:
            return f"{self.verdict.upper()}: {self.reason}"
        interval = f"p99 {self.change:+.1%} (95 % from {self.low:+.1%} to {self.high:+.1%}, p = {self.p:.2g})"
        return f"{self.verdict.upper()}: {interval} in {self.pairs} pairs: {self.reason}"


def judge(differences: Sample, base_differences: Sample, rules: Rules) -> Judgement:
    """Judge A/B differences; `base_differences` are of A/A pairs and tell a noisy machine from an unsteady revision.

    ValueError for fewer than `rules.pairs_min` pairs or numbers that are not finite.
    """
    values = _finite(differences)
    if values.size < rules.pairs_min:
        raise ValueError(f"{values.size} pairs are too few to judge: {rules.pairs_min} are needed")
    needed = pairs_needed(spread(values, rules), rules)
    steady = is_enough(values, rules)
    if not steady:
        machine = pairs_needed(spread(base_differences, rules), rules)
        if machine > rules.pairs_max:
            return too_noisy(values.size, max(needed, machine), rules)
    p = sign_flip_p(values, rules)
    interval = bca_interval(values, rules)
    change = centre(values, rules)
    if interval.low > rules.limit and p <= rules.p_max:
        verdict, reason = Verdict.FAIL, f"slower by more than {rules.slowdown_max:.0%}"
    elif change > rules.limit:
        verdict, reason = Verdict.WARN, f"perhaps slower by more than {rules.slowdown_max:.0%}"
    elif not steady:
        verdict, reason = Verdict.WARN, "the base's runs agree with each other and the head's do not"
    else:
        verdict, reason = Verdict.PASS, f"not slower by more than {rules.slowdown_max:.0%}"
    ends = math.expm1(change), math.expm1(interval.low), math.expm1(interval.high)
    return Judgement(verdict, reason, values.size, needed, *ends, p)


def too_noisy(pairs: int, needed: int, rules: Rules) -> Judgement:
    """Say that nothing was judged, and what it would take."""
    reason = (
        f"two runs of the same revision differ so much that finding {rules.slowdown_found:+.0%} "
        f"would take {needed} pairs, more than the {rules.pairs_max} allowed"
    )
    return Judgement(Verdict.TOO_NOISY, reason, pairs, needed)


def centre(differences: Sample, rules: Rules) -> float:
    """Return the trimmed mean."""
    return float(_centres(_finite(differences)[None, :], rules)[0])


def spread(differences: Sample, rules: Rules) -> Spread:
    """Estimate the spread from winsorised values (Tukey and McLaughlin 1963); ValueError for fewer than two."""
    values = np.sort(_finite(differences))
    if values.size < 2:
        raise ValueError("the spread of fewer than two differences is unknown")
    cut = _cut(values.size, rules)
    kept = values.size - 2 * cut
    winsorised = np.clip(values, values[cut], values[values.size - cut - 1])
    return Spread(float(winsorised.std(ddof=1)) * values.size / kept, kept - 1)


def pairs_needed(noise: Spread, rules: Rules) -> int:
    """Return how many pairs of this noise find `slowdown_found`, by an interval wholly above `slowdown_max`."""
    pairs = rules.pairs_min
    while True:
        wanted = math.ceil((sum(_quantiles(pairs, rules)) * noise.value / rules.gap) ** 2)
        if pairs >= wanted:
            return pairs
        # More pairs have smaller quantiles, but never by so much that half of `wanted` would do.
        pairs = max(pairs + 1, wanted // 2)


def is_enough(differences: Sample, rules: Rules) -> bool:
    """Whether these A/B pairs suffice to find `slowdown_found`: by their spread and by the width of their interval."""
    values = _finite(differences)
    if values.size < pairs_needed(spread(values, rules), rules):
        return False
    interval = bca_interval(values, rules)
    confidence, power = _quantiles(values.size, rules)
    return (interval.high - interval.low) / 2 <= rules.gap * confidence / (confidence + power)


def is_hopeless(base_differences: Sample, rules: Rules) -> bool:
    """Whether the A/A noise is surely more than `rules.pairs_max` pairs can bear.

    Takes the lower 90 % bound of the spread, since a few A/A pairs say little and going on costs only time.
    """
    noise = spread(base_differences, rules)
    lowest = noise.value * math.sqrt(noise.freedom / chi_square_quantile(0.9, noise.freedom))
    return pairs_needed(Spread(lowest, noise.freedom), rules) > rules.pairs_max


def sign_flip_p(differences: Sample, rules: Rules) -> float:
    """Two-sided p of "each sign is chance": over all signs up to 14 pairs, then over random ones, fixed seed.

    The statistic is the mean of differences cut off at a quantile of their sizes. Trimming would not do: it would drop
    flipped signs, and a clear change of ten pairs could reach no p below 0.008.
    """
    values = _finite(differences)
    sizes = np.minimum(np.abs(values), np.quantile(np.abs(values), 1 - rules.trimmed))
    if values.size <= EXACT_PAIRS_MAX:
        numbers = np.arange(1 << values.size)[:, None]
        signs = 1.0 - 2.0 * ((numbers >> np.arange(values.size)) & 1)
        added = 0  # the signs as they were are among these
    else:
        generator = np.random.default_rng(rules.seed)
        signs = 1.0 - 2.0 * generator.integers(0, 2, (rules.resamples, values.size))
        added = 1
    observed = abs(float(np.sign(values) @ sizes))
    # Rounding must not make the observed value exceed its own copies.
    reached = int(np.count_nonzero(np.abs(signs @ sizes) >= observed * (1 - 1e-12)))
    return (reached + added) / (len(signs) + added)


def bca_interval(differences: Sample, rules: Rules) -> Interval:
    """Bias-corrected and accelerated bootstrap interval of the centre, over pairs, fixed seed."""
    values = _finite(differences)
    observed = centre(values, rules)
    generator = np.random.default_rng(rules.seed + 1)
    drawn = values[generator.integers(0, values.size, (rules.resamples, values.size))]
    centres = np.sort(_centres(drawn, rules))
    below = (np.count_nonzero(centres < observed) + np.count_nonzero(centres <= observed)) / 2 / len(centres)
    if centres[0] == centres[-1] or not 0 < below < 1:
        return Interval(float(centres[0]), float(centres[-1]))
    bias = NORMAL.inv_cdf(below)
    acceleration = _acceleration(values, rules)
    reach = _quantiles(values.size, rules)[0] * math.sqrt(values.size / (values.size - 1))

    def end(z: float) -> float:
        shifted = bias + (bias + z) / max(1 - acceleration * (bias + z), 0.1)
        return float(np.quantile(centres, NORMAL.cdf(shifted)))

    return Interval(end(-reach), end(reach))


def _quantiles(pairs: int, rules: Rules) -> tuple[float, float]:
    """Student's quantiles of the confidence (two-sided) and of the power."""
    freedom = pairs - 2 * _cut(pairs, rules) - 1
    return student_quantile((1 + rules.confidence) / 2, freedom), student_quantile(rules.power, freedom)


def _acceleration(values: NDArray[np.float64], rules: Rules) -> float:
    """Skewness of the centre, by the jackknife."""
    others = ~np.eye(values.size, dtype=bool)
    left = _centres(np.broadcast_to(values, (values.size, values.size))[others].reshape(values.size, -1), rules)
    deviations = left.mean() - left
    scale = float(np.sum(deviations**2))
    return float(np.sum(deviations**3)) / (6 * scale**1.5) if scale > 0 else 0.0


def _centres(rows: NDArray[np.float64], rules: Rules) -> NDArray[np.float64]:
    count = rows.shape[1]
    cut = _cut(count, rules)
    return np.asarray(np.sort(rows, axis=1)[:, cut : count - cut].mean(axis=1))


def _cut(count: int, rules: Rules) -> int:
    return int(count * rules.trimmed)


def _finite(sample: Sample) -> NDArray[np.float64]:
    values = np.asarray(sample, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("a difference is not a finite number: a run gave no p99, or one of zero")
    return values
