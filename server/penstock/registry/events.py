"""What happened, append-only: events with a number that grows, and which version was active when."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from penstock.registry.records import EventKind, EventRecord
from penstock.store import Row, Statements, clean

__all__ = ["active_at", "append", "count", "counted", "micros", "moment", "newest", "now", "revise", "revision"]

_COLUMNS = "number, at, model, version, kind, actor, node, detail"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)
# What servers follow.
_FOLLOWED = {EventKind.REGISTERED, EventKind.REMOVED, EventKind.ALIAS, EventKind.WANTED}


def now() -> datetime:
    """Return the time, UTC."""
    return datetime.now(UTC)


def micros(at: datetime) -> int:
    """Return a time as the database has it; one without a zone is UTC."""
    return ((at if at.tzinfo else at.replace(tzinfo=UTC)) - _EPOCH) // _MICROSECOND


def moment(value: int) -> datetime:
    """Read a time of the database."""
    return _EPOCH + timedelta(microseconds=value)


async def append(statements: Statements, event: EventRecord) -> EventRecord:
    """Append an event, in a transaction, under the next number; the number in `event` is not looked at.

    One that servers follow also makes a new revision.
    """
    number = await count(statements, "event")
    row = (
        number,
        micros(event.at),
        event.model,
        event.version,
        event.kind.value,
        clean(event.by),
        clean(event.node),
        clean(event.detail),
    )
    await statements.execute(f"INSERT INTO events ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?)", *row)
    if event.kind in _FOLLOWED:
        await revise(statements)
    return _event(row)


async def revise(statements: Statements) -> None:
    """Say that something changed which servers follow."""
    await count(statements, "revision")


async def revision(statements: Statements) -> int:
    """Return how often something changed which servers follow."""
    return await counted(statements, "revision")


async def count(statements: Statements, counter: str) -> int:
    """Count on, in a transaction, and return the new value."""
    await statements.execute("UPDATE counters SET value = value + 1 WHERE name = ?", counter)
    return await counted(statements, counter)


async def counted(statements: Statements, counter: str) -> int:
    """Return the value of a counter."""
    row = await statements.fetch_one("SELECT value FROM counters WHERE name = ?", counter)
    assert row is not None
    return int(row[0])


async def newest(statements: Statements, model: str, limit: int, before: int | None) -> list[EventRecord]:
    """Return events of a model, the newest first."""
    earlier, values = ("AND number < ?", (before,)) if before is not None else ("", ())
    rows = await statements.fetch(
        f"SELECT {_COLUMNS} FROM events WHERE model = ? {earlier} ORDER BY number DESC LIMIT ?", model, *values, limit
    )
    return [_event(row) for row in rows]


async def active_at(statements: Statements, model: str, at: datetime) -> list[EventRecord]:
    """Return for each node the event that made the version active which was active on it at a time.

    A version stays active until another one becomes so on that node, or until it becomes inactive itself.
    """
    rows = await statements.fetch(
        f"""SELECT {_COLUMNS} FROM events e WHERE e.model = ? AND e.kind = 'active' AND e.at <= ? AND NOT EXISTS (
                SELECT 1 FROM events later
                WHERE later.model = e.model AND later.node = e.node AND later.at >= e.at AND later.at <= ?
                AND (later.at > e.at OR later.number > e.number)
                AND (later.kind = 'active' OR (later.kind = 'inactive' AND later.version = e.version))
            ) ORDER BY number DESC""",
        model,
        micros(at),
        micros(at),
    )
    return [_event(row) for row in rows]


def _event(row: Row) -> EventRecord:
    number, at, model, version, kind, by, node, detail = row
    return EventRecord(number, moment(at), model, version, EventKind(kind), by, node, detail)
