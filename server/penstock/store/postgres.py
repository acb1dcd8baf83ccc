"""The door to PostgreSQL: a pool of connections through asyncpg."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager, contextmanager
from typing import TypeAlias
from urllib.parse import urlsplit

from penstock.core.errors import ConfigError, RegistryUnavailableError
from penstock.store.contract import Row, Statements, Value, cleaned_values

try:
    import asyncpg
except ImportError as error:
    raise ConfigError(
        "store names PostgreSQL, whose driver is not installed: run pip install 'penstock[postgres]'"
    ) from error

__all__ = ["PostgresDatabase", "schema_of_server"]

_Connection: TypeAlias = "asyncpg.pool.PoolConnectionProxy[asyncpg.Record]"

# The tables have a schema of their own, so that they can share a database.
_SCHEMA = "penstock"
_CONNECTIONS_MAX = 4
_TIMEOUT_SECONDS = 30.0
# The lock that makes transactions run one at a time: any number that others do not use.
_LOCK = 0x70656E73746F636B


class PostgresDatabase:
    """A PostgreSQL database. A connection that breaks is replaced with the next statement."""

    def __init__(self, pool: asyncpg.Pool[asyncpg.Record], where: str) -> None:
        self._pool = pool
        self._where = where

    @classmethod
    async def open(cls, url: str) -> PostgresDatabase:
        """Connect; RegistryUnavailableError."""
        where = _without_password(url)
        with _translated(where):
            pool = await asyncpg.create_pool(
                url,
                min_size=1,
                max_size=_CONNECTIONS_MAX,
                timeout=_TIMEOUT_SECONDS,
                command_timeout=_TIMEOUT_SECONDS,
                server_settings={"search_path": _SCHEMA, "application_name": "penstock"},
            )
        database = cls(pool, where)
        try:
            # Two that do this at once would run into each other, "IF NOT EXISTS" or not.
            async with database.transaction() as transaction:
                if await transaction.fetch_one("SELECT 1 FROM pg_namespace WHERE nspname = ?", _SCHEMA) is None:
                    await transaction.execute(f"CREATE SCHEMA {_SCHEMA}")
        except BaseException:
            await database.close()
            raise
        return database

    async def fetch(self, sql: str, *values: Value) -> Sequence[Row]:
        """Return all rows of a query."""
        with _translated(self._where):
            rows: list[Row] = await self._pool.fetch(_numbered(sql), *cleaned_values(values))
            return rows

    async def fetch_one(self, sql: str, *values: Value) -> Row | None:
        """Return the first row of a query, or None."""
        with _translated(self._where):
            row: Row | None = await self._pool.fetchrow(_numbered(sql), *cleaned_values(values))
            return row

    async def execute(self, sql: str, *values: Value) -> None:
        """Run a statement for its effect."""
        async with self.transaction() as transaction:
            await transaction.execute(sql, *values)

    def transaction(self) -> AbstractAsyncContextManager[Statements]:
        """Run statements as a whole, or not at all when the block raises."""
        return self._transaction()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Statements]:
        with _translated(self._where):
            async with self._pool.acquire() as connection, connection.transaction():
                # Each statement after this one sees what was committed before it ("read committed").
                await connection.execute("SELECT pg_advisory_xact_lock($1)", _LOCK)
                yield _Transaction(connection)

    async def close(self) -> None:
        """Give the connections back."""
        await self._pool.close()


def schema_of_server(url: str, timeout_s: float) -> int | None:
    """Return the number of the schema there, None for none yet, and change nothing; RegistryUnavailableError."""

    async def look() -> int | None:
        with _translated(_without_password(url)):
            connection = await asyncpg.connect(url, timeout=timeout_s, command_timeout=timeout_s)
            try:
                number = await connection.fetchval(f"SELECT COALESCE(MAX(number), 0) FROM {_SCHEMA}.migrations")
                return int(number)
            except (asyncpg.UndefinedTableError, asyncpg.InvalidSchemaNameError):
                return None
            finally:
                await connection.close(timeout=timeout_s)

    return asyncio.run(look())


class _Transaction:
    def __init__(self, connection: _Connection) -> None:
        self._connection = connection

    async def fetch(self, sql: str, *values: Value) -> Sequence[Row]:
        rows: list[Row] = await self._connection.fetch(_numbered(sql), *cleaned_values(values))
        return rows

    async def fetch_one(self, sql: str, *values: Value) -> Row | None:
        row: Row | None = await self._connection.fetchrow(_numbered(sql), *cleaned_values(values))
        return row

    async def execute(self, sql: str, *values: Value) -> None:
        await self._connection.execute(_numbered(sql), *cleaned_values(values))


@functools.lru_cache(maxsize=256)
def _numbered(sql: str) -> str:
    """Write $1, $2 ... for the places of values."""
    first, *parts = sql.split("?")
    return first + "".join(f"${number}{part}" for number, part in enumerate(parts, 1))


@contextmanager
def _translated(where: str) -> Iterator[None]:
    """Say in a sentence what PostgreSQL, or the way there, has against it."""
    try:
        yield
    except (asyncpg.InvalidPasswordError, asyncpg.InvalidAuthorizationSpecificationError) as error:
        raise RegistryUnavailableError(
            f"PostgreSQL at {where} refuses the user or the password: {error}. Give them in store, or in PGPASSWORD"
        ) from error
    except asyncpg.InvalidCatalogNameError as error:
        raise RegistryUnavailableError(f"PostgreSQL at {where}: {error}: make it with createdb") from error
    except asyncpg.InsufficientPrivilegeError as error:
        raise RegistryUnavailableError(
            f"PostgreSQL at {where}: {error}: its user must own the database, or a schema {_SCHEMA!r} in it"
        ) from error
    except asyncpg.DiskFullError as error:
        raise RegistryUnavailableError(f"PostgreSQL at {where} has no room left: {error}; make some") from error
    except (asyncpg.PostgresError, asyncpg.InterfaceError) as error:
        raise RegistryUnavailableError(f"PostgreSQL at {where} failed: {error}") from error
    except TimeoutError as error:
        raise RegistryUnavailableError(f"PostgreSQL at {where} did not answer for {_TIMEOUT_SECONDS:.0f} s") from error
    except OSError as error:
        raise RegistryUnavailableError(
            f"PostgreSQL at {where} cannot be reached: {error.strerror or error}. Is it running there?"
        ) from error


def _without_password(url: str) -> str:
    parts = urlsplit(url)
    user = f"{parts.username}@" if parts.username else ""
    return f"{user}{parts.netloc.rpartition('@')[2] or 'the local socket'}{parts.path}"
