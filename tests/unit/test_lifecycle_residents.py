"""Which versions make room, and what is known of their use."""

import os
import time
from datetime import UTC, datetime
from pathlib import Path

from penstock.core.config import ModelConfig
from penstock.core.status import ModelState, ModelStatus, WorkerState, WorkerStatus
from penstock.registry.records import VersionRecord
from penstock.serve.lifecycle.residents import Resident, Residents, memory_of


def resident(name: str, memory: int, used_at: float = 0.0, **members: object) -> Resident:
    record = VersionRecord(name, "1", "0" * 64, 1, datetime.now(UTC), "somebody")
    return Resident(record, memory, used_at=used_at, **members)  # type: ignore[arg-type]


def residents(*each: Resident) -> Residents:
    table = Residents()
    for one in each:
        table.put(one)
    return table


def leaving(table: Residents, needed: int, budget: int) -> list[str]:
    return [one.record.model for one in table.to_make_room(needed, budget)]


def test_nothing_leaves_while_there_is_room() -> None:
    assert leaving(residents(resident("a", 40), resident("b", 40)), 20, 100) == []


def test_what_was_unused_longest_leaves_first() -> None:
    table = residents(resident("a", 40, used_at=2.0), resident("b", 40, used_at=1.0))
    assert leaving(table, 30, 100) == ["b"]
    assert leaving(table, 70, 100) == ["b", "a"]


def test_standbys_leave_before_anything_else() -> None:
    table = residents(resident("a", 40, used_at=1.0), resident("b", 40, used_at=2.0, standby_until=9e9))
    assert leaving(table, 30, 100) == ["b"]


def test_what_is_pinned_stays() -> None:
    table = residents(resident("a", 40, used_at=1.0, pinned=True), resident("b", 40, used_at=2.0))
    assert leaving(table, 90, 100) == ["b"]


def test_use_is_seen_in_the_counters() -> None:
    table = residents(resident("a", 1), resident("b", 1))
    before = time.monotonic()
    table.note_use({("a", "1"): 5})
    first = table.get(("a", "1"))
    assert first is not None
    assert first.used_at >= before
    first.used_at = 0.0
    table.note_use({("a", "1"): 5, ("b", "1"): 0})
    assert [one.used_at for one in table] == [0.0, 0.0]


def test_standbys_end() -> None:
    table = residents(resident("a", 1, standby_until=time.monotonic() - 1), resident("b", 1, standby_until=9e9))
    assert [one.record.model for one in table.past_standby()] == ["a"]


def test_memory_is_that_of_the_workers() -> None:
    workers = (WorkerStatus(0, os.getpid(), WorkerState.READY, 0), WorkerStatus(1, None, WorkerState.STOPPED, 0))
    config = ModelConfig(name="m", path=Path("m"))
    memory = memory_of(ModelStatus(config, ModelState.READY, True, workers))
    assert 10 << 20 < memory < 4 << 30
