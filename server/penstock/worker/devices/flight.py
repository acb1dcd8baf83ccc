"""Batches in flight: which contexts are free, and when the next batch may be taken.

Taking a batch closes it to rows that are still to come. So the next one is taken as late as it can be without the
device having to wait for it: not before what flies will end within the lead, the time from a taken batch to its first
kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Generic, TypeVar

__all__ = ["Flight", "Flying"]

T = TypeVar("T")

# The share of a new measurement in what a batch is expected to take.
_WEIGHT = 0.2


@dataclass(slots=True)
class Flying(Generic[T]):
    """A batch that was started, and when it is expected to end."""

    what: T
    kind: Hashable
    started_s: float  # or when the one before it ended, if that was later
    due_s: float


class Flight(Generic[T]):
    """The order of batches on one device. Batches of a kind, a model's of one size, take about as long as each other.

    `depth` is the most that fly at once.
    """

    def __init__(self, depth: int, lead_s: float, clock: Callable[[], float]) -> None:
        self._depth = depth
        self._lead_s = lead_s
        self._clock = clock
        self._flying: list[Flying[T]] = []
        self._takes_s: dict[Hashable, float] = {}
        self._last_end_s = 0.0

    @property
    def flying(self) -> tuple[Flying[T], ...]:
        """What flies, the first one to have started first."""
        return tuple(self._flying)

    @property
    def next_s(self) -> float:
        """When something is to be done: the first of them is expected to end, or another batch may be taken."""
        first = min(flying.due_s for flying in self._flying)
        return first if len(self._flying) >= self._depth else min(first, self._flying[-1].due_s - self._lead_s)

    def may_take(self) -> bool:
        """Tell whether it is time to take another batch."""
        if len(self._flying) >= self._depth:
            return False
        return not self._flying or self._clock() >= self._flying[-1].due_s - self._lead_s

    def start(self, what: T, kind: Hashable) -> Flying[T]:
        """Count a batch that was just started in."""
        now = self._clock()
        # The device comes to it when it has finished what was started before.
        begins = max(now, self._flying[-1].due_s) if self._flying else now
        flying = Flying(what, kind, now, begins + self._takes_s.get(kind, 0.0))
        self._flying.append(flying)
        return flying

    def end(self, flying: Flying[T]) -> float:
        """Count a batch out that is done; when the device began with it, as far as that can be told."""
        now = self._clock()
        began = max(flying.started_s, self._last_end_s)
        self._flying.remove(flying)
        self._last_end_s = now
        before = self._takes_s.get(flying.kind)
        took = now - began
        self._takes_s[flying.kind] = took if before is None else before + _WEIGHT * (took - before)
        for other, previous in zip(self._flying, [None, *self._flying][:-1], strict=True):
            starts = max(other.started_s, now if previous is None else previous.due_s)
            other.due_s = starts + self._takes_s.get(other.kind, 0.0)
        return began

    def drop(self, flying: Flying[T]) -> None:
        """Count a batch out that failed: it says nothing about how long such batches take."""
        self._flying.remove(flying)
        self._last_end_s = self._clock()
