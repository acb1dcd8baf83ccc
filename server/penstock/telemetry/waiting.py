"""Records that wait to be exported: a bounded number of them, the newest lost first."""

from __future__ import annotations

import threading
from collections import deque

from penstock.telemetry.record import TapRecord

__all__ = ["Waiting"]


class Waiting:
    """What one thread puts in and another takes out; neither waits for the other's work."""

    def __init__(self, records_max: int) -> None:
        self._records_max = records_max
        self._records: deque[TapRecord] = deque()
        self._changed = threading.Condition()
        self._closed = False
        self.dropped = 0

    def put(self, records: list[TapRecord]) -> None:
        """Add records as far as there is room; the others are counted in `dropped`."""
        with self._changed:
            room = max(0, self._records_max - len(self._records))
            self._records.extend(records[:room])
            self.dropped += max(0, len(records) - room)
            self._changed.notify()

    def close(self) -> None:
        """No more will come."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def take(self, records_max: int, seconds: float) -> list[TapRecord] | None:
        """Return some, at the latest when so many seconds are over; None when all are taken and no more will come."""
        with self._changed:
            self._changed.wait_for(lambda: self._closed or len(self._records) >= records_max, seconds)
            if self._closed and not self._records:
                return None
            return [self._records.popleft() for _ in range(min(records_max, len(self._records)))]
