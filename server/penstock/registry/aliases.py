"""Aliases: names that point to versions, and the append-only history of where they pointed."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.core.errors import RequestError
from penstock.core.settings import Name
from penstock.registry.events import append, micros, moment, now
from penstock.registry.records import UNSET, AliasRecord, EventKind, EventRecord, Unset
from penstock.registry.versions import is_version
from penstock.registry.versions_table import touch
from penstock.store import Row, Statements, clean

__all__ = ["Change", "aliases_of", "before_present", "change", "changes", "check_alias"]

_NAME = Name(reserved=("latest",))
_COLUMNS = "number, model, alias, version, previous, at, actor, reason, restores"


@dataclass(frozen=True, slots=True)
class Change:
    """Where an alias is to point, who says so and why. `restores`: the change whose value a rollback goes back to."""

    model: str
    alias: str
    version: str | None
    by: str
    reason: str = ""
    restores: int | None = None


def check_alias(alias: str) -> None:
    """Raise RequestError for what cannot be an alias."""
    try:
        _NAME.parse(alias, text=True)
    except ValueError:
        raise RequestError("invalid_input", f"{alias!r} cannot be an alias: expected {_NAME.expected}") from None
    if is_version(alias):
        raise RequestError(
            "invalid_input", f"{alias!r} cannot be an alias, for it could be the name of a version: choose a word"
        )


async def aliases_of(statements: Statements, model: str) -> dict[str, str]:
    """Return where the aliases of a model point."""
    rows = await statements.fetch("SELECT alias, version FROM aliases WHERE model = ? ORDER BY alias", model)
    return {row[0]: row[1] for row in rows}


async def change(statements: Statements, wanted: Change, expected: str | Unset | None = UNSET) -> AliasRecord:
    """Point an alias elsewhere, in a transaction; RequestError (`conflict`) when it is not where it was expected.

    When it points there already nothing is written, and the last change is returned.
    """
    row = await statements.fetch_one(
        "SELECT version FROM aliases WHERE model = ? AND alias = ?", wanted.model, wanted.alias
    )
    present = row[0] if row is not None else None
    if not isinstance(expected, Unset) and present != expected:
        raise RequestError(
            "conflict",
            f"alias {wanted.alias!r} of {wanted.model!r} {_points_to(present)}, not {expected or 'nowhere'}: somebody "
            "moved it meanwhile. Look at it again",
        )
    if present == wanted.version:
        return await _last(statements, wanted)
    return await _write(statements, wanted, present)


def _points_to(version: str | None) -> str:
    return f"points to {version}" if version is not None else "points nowhere"


async def _last(statements: Statements, wanted: Change) -> AliasRecord:
    done = await changes(statements, wanted.model, wanted.alias, limit=1)
    if done:
        return done[0]
    raise RequestError(
        "conflict", f"model {wanted.model!r} has no alias {wanted.alias!r}: there is nothing to take away"
    )


async def _write(statements: Statements, wanted: Change, present: str | None) -> AliasRecord:
    by, reason, at = clean(wanted.by), clean(wanted.reason), now()
    detail = f"{wanted.alias}: {present or 'nowhere'} -> {wanted.version or 'nowhere'}" + (
        f" ({reason})" if reason else ""
    )
    event = await append(
        statements, EventRecord(0, at, wanted.model, wanted.version or present, EventKind.ALIAS, by, detail=detail)
    )
    model, alias, version = wanted.model, wanted.alias, wanted.version
    if present is not None:
        await statements.execute("DELETE FROM aliases WHERE model = ? AND alias = ?", model, alias)
    if version is not None:
        await statements.execute(
            "INSERT INTO aliases (model, alias, version, number) VALUES (?, ?, ?, ?)",
            model,
            alias,
            version,
            event.number,
        )
    await statements.execute(
        f"INSERT INTO alias_changes ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        *(event.number, model, alias, version, present, micros(at), by, reason, wanted.restores),
    )
    await touch(statements, model, present, version)
    return AliasRecord(model, alias, version, present, at, by, reason)


async def changes(statements: Statements, model: str, alias: str, limit: int) -> list[AliasRecord]:
    """Return the changes of an alias, the newest first."""
    rows = await statements.fetch(
        f"SELECT {_COLUMNS} FROM alias_changes WHERE model = ? AND alias = ? ORDER BY number DESC LIMIT ?",
        *(model, alias, limit),
    )
    return [_record(row) for row in rows]


async def before_present(statements: Statements, model: str, alias: str) -> tuple[str, int]:
    """Return the version that an alias had before its present one, and the number of the change that had set it.

    A rollback counts as the change that it went back to. So rollbacks in a row go further back, one change each, and
    setting the alias starts again from there: after A, B, C they give B, then A; after A, B, a rollback, C they give A.
    RequestError (`conflict`) when there is nothing before.
    """
    row = await statements.fetch_one("SELECT number, version FROM aliases WHERE model = ? AND alias = ?", model, alias)
    if row is None:
        raise RequestError("conflict", f"alias {alias!r} of {model!r} points nowhere: set it instead")
    number = await _origin(statements, int(row[0]))
    found = await statements.fetch_one(
        "SELECT number, version FROM alias_changes WHERE model = ? AND alias = ? AND number < ? AND version <> ? "
        "ORDER BY number DESC LIMIT 1",
        *(model, alias, number, row[1]),
    )
    if found is None:
        raise RequestError(
            "conflict", f"alias {alias!r} of {model!r} pointed nowhere before: set it to a version instead"
        )
    return str(found[1]), await _origin(statements, int(found[0]))


async def _origin(statements: Statements, number: int) -> int:
    row = await statements.fetch_one("SELECT restores FROM alias_changes WHERE number = ?", number)
    return number if row is None or row[0] is None else int(row[0])


def _record(row: Row) -> AliasRecord:
    _, model, alias, version, previous, at, by, reason, _ = row
    return AliasRecord(model, alias, version, previous, moment(at), by, reason)
