"""What a database does for whoever keeps something in it: one contract, the same behaviour behind it.

SQL is written in what SQLite and PostgreSQL share: TEXT, BIGINT and DOUBLE PRECISION, no RETURNING (SQLite has it since
3.35 only). A `?` is the place of a value. Times are BIGINT microseconds since 1970, UTC.
"""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from typing import Any, Protocol, TypeAlias

__all__ = ["Database", "Row", "Statements", "Value", "clean", "cleaned_values"]

Value: TypeAlias = str | int | float | None
# The values of a row in the order of the SELECT; the statement says what they are, and no checker can.
Row: TypeAlias = Sequence[Any]


def clean(text: str) -> str:
    """Make text fit for every database: no NUL, no half characters. Values of statements are made so anyway."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


def cleaned_values(values: Sequence[Value]) -> list[Value]:
    """Make the values of a statement fit for every database."""
    return [clean(value) if isinstance(value, str) else value for value in values]


class Statements(Protocol):
    """Runs statements. RegistryUnavailableError when the database cannot."""

    async def fetch(self, sql: str, *values: Value) -> Sequence[Row]:
        """Return all rows of a query."""

    async def fetch_one(self, sql: str, *values: Value) -> Row | None:
        """Return the first row of a query, or None."""

    async def execute(self, sql: str, *values: Value) -> None:
        """Run a statement for its effect."""


class Database(Statements, Protocol):
    """A database that is open; for the coroutines of one loop. Outside a transaction each statement is its own."""

    def transaction(self) -> AbstractAsyncContextManager[Statements]:
        """Run statements as a whole, or not at all when the block raises.

        One transaction runs at a time, over all processes that have the database open, and it sees what all before
        it wrote. So what is read in it stays true until it ends. When the block has ended without an exception, what
        it wrote survives a crash.
        """

    async def close(self) -> None:
        """Give the connections back. The database is not used any more."""
