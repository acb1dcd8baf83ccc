"""What is asked of a run with swaps, and what it saw."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from bench.swaps.seconds import Second, Swap
from bench.swaps.sizes import Sizes
from penstock.load.generator import Progress
from penstock.load.measurement import Measurement

__all__ = ["LEVEL_AFTER", "WARM_UP_SECONDS", "Round", "SwapOptions", "SwapResult"]

# The first seconds of a load: connections are made, and the server learns what batches cost.
WARM_UP_SECONDS = 2
ROUND_SWAPS_MAX = 24
ROUND_SECONDS_MAX = 60
# After so many swaps memory has reached its level.
LEVEL_AFTER = 50


@dataclass(frozen=True, slots=True)
class SwapOptions:
    """How much and how hard. `rate`: requests per second, else `load` times the capacity that is found first.

    `note` is told what was seen so far, after each load: a long run that is cut short has said something.
    """

    folder: Path
    form: str = "onnx"
    swaps: int = 1000
    rate: float | None = None
    load: float = 0.5
    connections: int = 64
    clients: int = 3
    burst: int = 12
    rest_seconds: float = 3.5
    rollbacks: int = 20
    watch: Callable[[str, Progress], None] = lambda _, __: None
    note: Callable[[str], None] = lambda _: None

    @property
    def round_swaps(self) -> int:
        """Swaps in one load at most: memory is looked at between loads, so there must be several."""
        return max(1, min(ROUND_SWAPS_MAX, self.swaps // 4))

    def round_seconds(self, swap_seconds: float, longest_seconds: float = 0.0) -> int:
        """Return how long one load is, when most swaps take so long and one may take the longest."""
        rests = -(-self.round_swaps // self.burst) + 1
        seconds = WARM_UP_SECONDS + rests * self.rest_seconds + self.round_swaps * swap_seconds
        # A second more than that, or one so slow would have to begin at the very moment when it may.
        one = WARM_UP_SECONDS + self.rest_seconds + longest_seconds + 1
        return math.ceil(max(min(ROUND_SECONDS_MAX, seconds), one))


@dataclass(frozen=True, slots=True)
class Round:
    """One load with swaps in it."""

    swaps: tuple[Swap, ...]
    seconds: tuple[Second, ...]
    measurement: Measurement


@dataclass(slots=True)
class SwapResult:
    """What was seen.

    The main process's sizes: `start` after the first load, `level` after LEVEL_AFTER swaps, `end` after the last.

    `wrong` answers are not those of the version that they name; `outdated` ones are of a version that, as the API had
    said before they were asked for, does not answer any more.
    """

    form: str
    rate: float
    requests: int = 0
    checked: int = 0
    errors: Counter[str] = field(default_factory=Counter)
    wrong: int = 0
    outdated: int = 0
    problems: list[str] = field(default_factory=list)
    rounds: list[Round] = field(default_factory=list)
    start: Sizes | None = None
    level: Sizes | None = None
    end: Sizes | None = None
    rollback_seconds: list[float] = field(default_factory=list)

    @property
    def swaps(self) -> int:
        """Swaps that were done."""
        return sum(len(each.swaps) for each in self.rounds)

    def __str__(self) -> str:
        failed = sum(self.errors.values())
        mixed = self.wrong + self.outdated
        return (
            f"{self.form}: {self.swaps:,} swaps, {failed} of {self.requests:,} requests failed, {mixed} answers mixed"
        )
