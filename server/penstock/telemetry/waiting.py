"""Records that wait to be exported: a bounded number of them, the newest lost first."""

from __future__ import annotations

import threading
from collections import deque

from penstock.telemetry.packets import RECORD_BYTES

__all__ = ["Waiting"]


class Waiting:
    """What one thread puts in and another takes out; neither waits for the other's work. Nobody wakes for nothing."""

    def __init__(self, records_max: int) -> None:
        self._records_max = records_max
        self._packets: deque[bytes] = deque()
        self._records = 0
        self._enough = 1  # records for which whoever takes is woken
        self._changed = threading.Condition()
        self._closed = False
        self.dropped = 0

    def put(self, packet: bytes) -> None:
        """Add whole records as far as there is room; the others are counted in `dropped`. ValueError for halves."""
        records, rest = divmod(len(packet), RECORD_BYTES)
        if rest:
            raise ValueError(f"{len(packet)} bytes are no whole records of {RECORD_BYTES}")
        with self._changed:
            room = min(records, self._records_max - self._records)
            self.dropped += records - room
            if room:
                self._packets.append(packet[: room * RECORD_BYTES])
                self._records += room
            if self._records >= self._enough:
                self._changed.notify()

    def close(self) -> None:
        """No more will come."""
        with self._changed:
            self._closed = True
            self._changed.notify()

    def take(self, records_max: int, seconds: float) -> bytes | None:
        """Return records that lie one after the other; None when all are taken and no more will come.

        Waits for the first as long as it takes, and then so many seconds for more, to `records_max` or a packet beyond.
        """
        with self._changed:
            self._wait_for(1, None)
            self._wait_for(records_max, seconds)
            packets: list[bytes] = []
            taken = 0
            while self._packets and taken < records_max:
                packets.append(self._packets.popleft())
                taken += len(packets[-1]) // RECORD_BYTES
            self._records -= taken
            return b"".join(packets) if packets else None

    def _wait_for(self, records: int, seconds: float | None) -> None:
        self._enough = records
        self._changed.wait_for(lambda: self._closed or self._records >= records, seconds)
