"""Brings a database to the schema that this Penstock knows. Migrations are numbered and never changed once released."""

from __future__ import annotations

import re
import time
from dataclasses import dataclass
from importlib import resources

from penstock.core.errors import RegistryUnavailableError
from penstock.store.contract import Database

__all__ = ["known_schema", "migrate"]

_FILE = re.compile(r"(\d{4})_\w+\.sql")


@dataclass(frozen=True, slots=True)
class _Migration:
    number: int
    name: str
    statements: tuple[str, ...]


async def migrate(database: Database) -> None:
    """Apply what is missing, in one transaction; RegistryUnavailableError when the database is newer than this.

    Several processes may do so at once: the transactions run one after the other.
    """
    known = _migrations()
    async with database.transaction() as transaction:
        await transaction.execute(
            "CREATE TABLE IF NOT EXISTS migrations (number BIGINT PRIMARY KEY, name TEXT NOT NULL, at BIGINT NOT NULL)"
        )
        row = await transaction.fetch_one("SELECT COALESCE(MAX(number), 0) FROM migrations")
        present = 0 if row is None else int(row[0])
        if present > known[-1].number:
            raise RegistryUnavailableError(
                f"the registry's database has schema {present}, which a newer Penstock made; this one knows "
                f"{known[-1].number}: upgrade Penstock, or choose another database with store"
            )
        for migration in known[present:]:
            for statement in migration.statements:
                await transaction.execute(statement)
            await transaction.execute(
                "INSERT INTO migrations (number, name, at) VALUES (?, ?, ?)",
                migration.number,
                migration.name,
                time.time_ns() // 1000,
            )


def known_schema() -> int:
    """Return the number of the schema that a database is brought to."""
    return _migrations()[-1].number


def _migrations() -> list[_Migration]:
    found = []
    for file in (resources.files("penstock.store") / "migrations").iterdir():
        if match := _FILE.fullmatch(file.name):
            found.append(_Migration(int(match[1]), file.name, _statements(file.read_text(encoding="utf-8"))))
    return sorted(found, key=lambda migration: migration.number)


def _statements(text: str) -> tuple[str, ...]:
    """Split a file at the semicolons that end its lines."""
    code = re.sub(r"^\s*--.*$", "", text, flags=re.MULTILINE)
    return tuple(part.strip() for part in re.split(r";\s*$", code, flags=re.MULTILINE) if part.strip())
