"""The databases behind the registry: one contract, SQLite and PostgreSQL."""

from __future__ import annotations

from pathlib import Path

from penstock.core.errors import ConfigError
from penstock.store.contract import Database, Row, Statements, Value, clean
from penstock.store.migrate import migrate
from penstock.store.sqlite import SqliteDatabase

__all__ = ["Database", "Row", "Statements", "Value", "clean", "open_database"]

_SQLITE = "sqlite:///"
_POSTGRES = ("postgresql://", "postgres://")


async def open_database(url: str) -> Database:
    """Open 'sqlite:///PATH' or 'postgresql://USER@HOST/DATABASE' and bring it to the present schema.

    An absolute path has a slash of its own: 'sqlite:////var/lib/penstock/penstock.db'. Raises ConfigError for another
    URL, RegistryUnavailableError when the database cannot be used.
    """
    database = await _open(url)
    try:
        await migrate(database)
    except BaseException:
        await database.close()
        raise
    return database


async def _open(url: str) -> Database:
    if url.startswith(_SQLITE) and len(url) > len(_SQLITE):
        return await SqliteDatabase.open(Path(url.removeprefix(_SQLITE)).expanduser())
    if url.startswith(_POSTGRES):
        # Its driver is an extra that most do without.
        from penstock.store.postgres import PostgresDatabase

        return await PostgresDatabase.open(url)
    kind = url.partition(":")[0]
    raise ConfigError(f"store = {kind}:...: expected sqlite:///PATH or postgresql://USER@HOST/DATABASE")
