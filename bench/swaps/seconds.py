"""What each second of a load was like, and whether a version was being swapped in it."""

from __future__ import annotations

import statistics
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.load.kinds import answered, latencies_us

__all__ = ["Kind", "Second", "Swap", "median_p99", "p99_ratio", "seconds_of"]

SECOND_NS = 1_000_000_000
# Of so few requests the p99 would be the maximum.
REQUESTS_MIN = 100


class Kind(StrEnum):
    """What happened in a second."""

    STEADY = "steady"
    SWAP = "swap"


@dataclass(frozen=True, slots=True)
class Swap:
    """One change of the version that answers. Times are of the monotonic clock, in ns.

    `returned_ns`: the API said that the new version answers. `gone_ns`: nothing of the old one was left in memory.
    """

    version: str
    began_ns: int
    returned_ns: int
    gone_ns: int


@dataclass(frozen=True, slots=True)
class Second:
    """Latencies in us from the intended send time, of the requests that were due in one second."""

    kind: Kind
    requests: int
    p50: float
    p99: float
    max: float
    lag_p99: float


def seconds_of(records: NDArray[Any], started_ns: int, seconds: range, swaps: Sequence[Swap]) -> list[Second]:
    """Summarize the given seconds of a run that started at `started_ns`; those with too few requests are left out.

    A second is one of a swap when any part of a swap falls into it, from the call to when the old version was gone.
    """
    due = records["due_ns"] // SECOND_NS
    busy = {
        second
        for swap in swaps
        for second in range((swap.began_ns - started_ns) // SECOND_NS, (swap.gone_ns - started_ns) // SECOND_NS + 1)
    }
    found = []
    for second in seconds:
        chosen = records[due == second]
        latencies = latencies_us(answered(chosen))
        if len(latencies) < REQUESTS_MIN:
            continue
        p50, p99, most = (float(value) for value in np.percentile(latencies, [50, 99, 100], method="higher"))
        lag = float(np.percentile((chosen["noticed_ns"] - chosen["due_ns"]) / 1e3, 99))
        kind = Kind.SWAP if second in busy else Kind.STEADY
        found.append(Second(kind, len(latencies), p50, p99, most, lag))
    return found


def median_p99(seconds: Iterable[Second], kind: Kind) -> float | None:
    """Return the median of the p99 of the seconds of a kind; None when there was none."""
    found = [second.p99 for second in seconds if second.kind is kind]
    return statistics.median(found) if found else None


def p99_ratio(seconds: Sequence[Second]) -> float | None:
    """Return how many times the steady p99 that of seconds with a swap was; None when either was not seen."""
    steady, swap = median_p99(seconds, Kind.STEADY), median_p99(seconds, Kind.SWAP)
    return None if steady is None or swap is None else swap / steady
