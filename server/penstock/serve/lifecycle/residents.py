"""The registered versions that this server has in memory, and which of them makes room first."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field

from penstock.core.status import ModelStatus
from penstock.registry.records import VersionRecord

__all__ = ["Key", "Resident", "Residents", "memory_of"]

Key = tuple[str, str]  # model, version


@dataclass(slots=True)
class Resident:
    """A version in memory. Times are monotonic. `standby_until`: when it goes, unless it is wanted again.

    One that is `pinned` is wanted in memory always: it does not make room.
    """

    record: VersionRecord
    memory_bytes: int
    pinned: bool = False
    standby_until: float | None = None
    used_at: float = field(default_factory=time.monotonic)
    rows_claimed: int = 0

    @property
    def key(self) -> Key:
        """Model and version."""
        return self.record.model, self.record.version


class Residents:
    """Residents by model and version. Used on one loop."""

    def __init__(self) -> None:
        self._by_key: dict[Key, Resident] = {}

    def __contains__(self, key: Key) -> bool:
        return key in self._by_key

    def __iter__(self) -> Iterator[Resident]:
        return iter(list(self._by_key.values()))

    def get(self, key: Key) -> Resident | None:
        """Return the resident, or None."""
        return self._by_key.get(key)

    def put(self, resident: Resident) -> None:
        """Take in a version that has been loaded."""
        self._by_key[resident.key] = resident

    def drop(self, key: Key) -> None:
        """Forget a version."""
        self._by_key.pop(key, None)

    def of_model(self, model: str) -> list[Resident]:
        """Return the residents of a model."""
        return [resident for resident in self if resident.record.model == model]

    def past_standby(self) -> list[Resident]:
        """Return those whose time as a standby is over."""
        now = time.monotonic()
        return [resident for resident in self if resident.standby_until is not None and resident.standby_until <= now]

    def note_use(self, rows_claimed: Mapping[Key, int]) -> None:
        """Take note of the rows that each version has been given so far."""
        now = time.monotonic()
        for resident in self:
            rows = rows_claimed.get(resident.key, resident.rows_claimed)
            if rows != resident.rows_claimed:
                resident.rows_claimed, resident.used_at = rows, now

    def to_make_room(self, bytes_needed: int, budget: int) -> list[Resident]:
        """Return what has to go for `bytes_needed` more to fit: standbys, then what was unused longest.

        What comes out may not be enough: the others are pinned.
        """
        excess = sum(resident.memory_bytes for resident in self) + bytes_needed - budget
        leaving: list[Resident] = []
        for resident in sorted(self, key=lambda each: (each.standby_until is None, each.used_at)):
            if excess <= 0:
                break
            if not resident.pinned:
                leaving.append(resident)
                excess -= resident.memory_bytes
        return leaving


def memory_of(status: ModelStatus) -> int:
    """Return the bytes that a version's workers have to themselves, plus their part of what they share."""
    return sum(_proportional_set_size(worker.pid) for worker in status.workers if worker.pid is not None)


def _proportional_set_size(pid: int) -> int:
    with suppress(OSError, ValueError), open(f"/proc/{pid}/smaps_rollup", encoding="ascii") as rollup:
        return _kilobytes(rollup, "Pss:") * 1024
    return 0


def _kilobytes(lines: Iterable[str], field_name: str) -> int:
    for line in lines:
        if line.startswith(field_name):
            return int(line.split()[1])
    return 0
