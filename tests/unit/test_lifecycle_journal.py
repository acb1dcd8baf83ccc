"""What happened is recorded once each, whoever writes at the same time."""

import asyncio
from collections import Counter
from pathlib import Path

from penstock.registry.records import EventKind
from penstock.serve.lifecycle.journal import Journal
from tests.registries import opened


def test_events_that_are_written_at_the_same_time_are_recorded_once_each(tmp_path: Path) -> None:
    async def note_at_once() -> Counter[str]:
        async with opened(tmp_path) as (place, registry):
            record = await place.add(registry, "m", "1")
            journal = Journal(registry, "here")
            notes = [journal.note(record, EventKind.LOADING, "test", str(number)) for number in range(30)]
            await asyncio.gather(*notes, *(journal.flush() for _ in range(10)))
            return Counter(event.detail for event in await registry.history("m") if event.node == "here")

    assert asyncio.run(note_at_once()) == Counter(map(str, range(30)))
