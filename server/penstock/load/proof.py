"""How many requests prove that a latency is kept: MLPerf Inference's early stopping.

A run proves "at most the part 1 - p of all requests is late" with confidence C when, if that part were late, the chance
of so few late ones as were seen would be at most 1 - C. Requests are taken as independent, which those of one queue are
not quite, so the counts are a lower bound. Source: MLPerf Inference, loadgen/early_stopping.
"""

from __future__ import annotations

from math import exp, lgamma, log, log1p

__all__ = ["CONFIDENCE", "is_proven", "requests_needed"]

CONFIDENCE = 0.99


def is_proven(total: int, late: int, percentile: float, confidence: float = CONFIDENCE) -> bool:
    """Tell whether `late` of `total` requests prove that the `percentile` (as 0.99) lies within the limit."""
    return total > 0 and chance_of_at_most(late, total, 1 - percentile) <= 1 - confidence


def requests_needed(late: int, percentile: float, confidence: float = CONFIDENCE) -> int:
    """Return the least number of requests in time that prove the percentile beside `late` late ones."""
    low, high = 0, 1
    while not is_proven(high + late, late, percentile, confidence):
        low, high = high, high * 2
    while high - low > 1:
        middle = (low + high) // 2
        if is_proven(middle + late, late, percentile, confidence):
            high = middle
        else:
            low = middle
    return high


def chance_of_at_most(successes: int, trials: int, probability: float) -> float:
    """Return the binomial distribution's cumulative probability, summed from its largest term down."""
    if successes >= trials:
        return 1.0
    if successes > trials * probability:  # at least about a half, and far from any bound of interest
        return 1.0
    total = 0.0
    term = exp(_log_term(successes, trials, probability))
    for count in range(successes, -1, -1):
        total += term
        if term < total * 1e-16 or count == 0:
            break
        term *= count / (trials - count + 1) * (1 - probability) / probability
    return min(1.0, total)


def _log_term(count: int, trials: int, probability: float) -> float:
    choose = lgamma(trials + 1) - lgamma(count + 1) - lgamma(trials - count + 1)
    return choose + count * log(probability) + (trials - count) * log1p(-probability)
