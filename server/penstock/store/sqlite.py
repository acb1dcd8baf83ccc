"""The door to SQLite: a file, shared by processes, behind one thread."""

from __future__ import annotations

import asyncio
import os
import sqlite3
import time
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager, suppress
from pathlib import Path
from typing import TypeVar

from penstock.core.errors import RegistryUnavailableError
from penstock.store.contract import Row, Statements, Value, cleaned_values

__all__ = ["SqliteDatabase"]

_T = TypeVar("_T")

# How long a transaction waits for that of another process.
_BUSY_SECONDS = 30.0


class SqliteDatabase:
    """A SQLite file. Its thread runs statements in the order in which they were asked for."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="penstock-sqlite")
        self._writing = asyncio.Lock()

    @classmethod
    async def open(cls, path: Path) -> SqliteDatabase:
        """Open the file, or make it; RegistryUnavailableError."""
        database = cls(path)
        try:
            await database._run(database._connect)
        except BaseException:
            database._thread.shutdown(wait=False)
            raise
        return database

    def _connect(self) -> None:
        try:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        except OSError as error:
            raise RegistryUnavailableError(
                f"cannot make the folder {self._path.parent} of the registry's database: {error.strerror}; "
                "choose another with data_dir or store"
            ) from error
        # It holds what keys are checked against. SQLite gives the files beside it the rights that it has, and says what
        # is the matter when it cannot be made.
        with suppress(OSError):
            os.close(os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600))
        # One connection for each purpose: a query does not see, and does not wait for, a transaction that is under way.
        self._reader = self._connection()
        self._writer = self._connection()

    def _disconnect(self) -> None:
        self._reader.close()
        self._writer.close()

    def _connection(self) -> sqlite3.Connection:
        connection = sqlite3.connect(self._path, timeout=_BUSY_SECONDS, isolation_level=None)
        _use_wal(connection)
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute("PRAGMA foreign_keys = ON")
        return connection

    async def fetch(self, sql: str, *values: Value) -> Sequence[Row]:
        """Return all rows of a query."""
        cleaned = cleaned_values(values)
        return await self._run(lambda: self._reader.execute(sql, cleaned).fetchall())

    async def fetch_one(self, sql: str, *values: Value) -> Row | None:
        """Return the first row of a query, or None."""
        rows = await self.fetch(sql, *values)
        return rows[0] if rows else None

    async def execute(self, sql: str, *values: Value) -> None:
        """Run a statement for its effect."""
        async with self.transaction() as transaction:
            await transaction.execute(sql, *values)

    def transaction(self) -> AbstractAsyncContextManager[Statements]:
        """Run statements as a whole, or not at all when the block raises."""
        return self._transaction()

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[Statements]:
        async with self._writing:
            try:
                await self._run(lambda: self._writer.execute("BEGIN IMMEDIATE"))
                yield _Transaction(self)
                await self._run(lambda: self._writer.execute("COMMIT"))
            except BaseException:
                # A coroutine that is cancelled leaves its statement to the thread, which ends it before this one.
                await asyncio.shield(self._run(self._roll_back))
                raise

    def _roll_back(self) -> None:
        if self._writer.in_transaction:
            self._writer.execute("ROLLBACK")

    async def close(self) -> None:
        """Give the connections back."""
        async with self._writing:
            await self._run(self._disconnect)
        self._thread.shutdown()

    async def _run(self, work: Callable[[], _T]) -> _T:
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, work)
        except sqlite3.Error as error:
            raise self._unavailable(error) from error

    def _unavailable(self, error: sqlite3.Error) -> RegistryUnavailableError:
        where = f"the registry's database {self._path}"
        code = getattr(error, "sqlite_errorcode", 0) & 0xFF
        if code == sqlite3.SQLITE_BUSY:
            return RegistryUnavailableError(
                f"{where} was locked by another process for {_BUSY_SECONDS:.0f} s: try again"
            )
        if code == sqlite3.SQLITE_FULL:
            return RegistryUnavailableError(f"{where} cannot grow: the disk is full; make room")
        if code in (sqlite3.SQLITE_CANTOPEN, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_PERM):
            return RegistryUnavailableError(
                f"{where} cannot be written: it and its folder must belong to the user that runs Penstock; "
                "choose another with data_dir or store"
            )
        if code in (sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_CORRUPT):
            return RegistryUnavailableError(
                f"{where} is no SQLite database, or damaged ({error}): restore a backup, or choose another with store"
            )
        return RegistryUnavailableError(f"{where} failed: {error}")


class _Transaction:
    def __init__(self, database: SqliteDatabase) -> None:
        self._database = database

    async def fetch(self, sql: str, *values: Value) -> Sequence[Row]:
        writer, cleaned = self._database._writer, cleaned_values(values)
        return await self._database._run(lambda: writer.execute(sql, cleaned).fetchall())

    async def fetch_one(self, sql: str, *values: Value) -> Row | None:
        rows = await self.fetch(sql, *values)
        return rows[0] if rows else None

    async def execute(self, sql: str, *values: Value) -> None:
        await self.fetch(sql, *values)


def _use_wal(connection: sqlite3.Connection) -> None:
    """Turn the file to write-ahead logging, which it stays at.

    SQLite does not wait here for another process that does the same at this moment, so this does.
    """
    deadline = time.monotonic() + _BUSY_SECONDS
    while True:
        try:
            connection.execute("PRAGMA journal_mode = WAL")
            return
        except sqlite3.OperationalError as error:
            if error.sqlite_errorcode & 0xFF != sqlite3.SQLITE_BUSY or time.monotonic() > deadline:
                raise
            time.sleep(0.01)
