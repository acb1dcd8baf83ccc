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

__all__ = ["WARM_UP_SECONDS", "Round", "SwapOptions", "SwapResult"]

# The first seconds of a load: connections are made, and the server learns what batches cost.
WARM_UP_SECONDS = 2
ROUND_SWAPS_MAX = 25
ROUND_SECONDS_MAX = 60


@dataclass(frozen=True, slots=True)
class SwapOptions:
    """How much and how hard. `rate`: requests per second, else `load` times the capacity that is found first."""

    folder: Path
    form: str = "onnx"
    swaps: int = 1000
    rate: float | None = None
    load: float = 0.5
    connections: int = 64
    clients: int = 3
    burst: int = 5
    rest_seconds: float = 4.0
    rollbacks: int = 20
    watch: Callable[[str, Progress], None] = lambda _, __: None

    @property
    def round_swaps(self) -> int:
        """Swaps in one load at most: memory is looked at between loads, so there must be several."""
        return max(1, min(ROUND_SWAPS_MAX, self.swaps // 4))

    @property
    def round_seconds(self) -> int:
        """Seconds of one load: as many as its swaps take where they are slow, up to a limit."""
        rests = -(-self.round_swaps // self.burst)
        return min(ROUND_SECONDS_MAX, math.ceil(WARM_UP_SECONDS + rests * self.rest_seconds + self.round_swaps * 6))


@dataclass(frozen=True, slots=True)
class Round:
    """One load with swaps in it."""

    swaps: tuple[Swap, ...]
    seconds: tuple[Second, ...]
    measurement: Measurement


@dataclass(slots=True)
class SwapResult:
    """What was seen. `level` and `end` are the main process's sizes after the first swaps and after the last.

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
    level: Sizes | None = None
    end: Sizes | None = None
    rollback_seconds: list[float] = field(default_factory=list)

    @property
    def swaps(self) -> int:
        """Swaps that were done."""
        return sum(len(each.swaps) for each in self.rounds)
