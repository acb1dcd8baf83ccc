"""One suite over both databases: transactions, migrations, and what is said when a database cannot be used."""

import asyncio
import functools
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest

from penstock.core.errors import ConfigError, RegistryUnavailableError
from penstock.store import Database, open_database
from tests.databases import Postgres

COUNTER = "UPDATE counters SET value = value + 1 WHERE name = 'event'"
VALUE = "SELECT value FROM counters WHERE name = 'event'"


def with_database(test: Callable[[Database], Awaitable[None]]) -> Callable[[str], None]:
    """Open the database of the fixture `store` around a coroutine."""

    def run(store: str) -> None:
        async def opened() -> None:
            database = await open_database(store)
            try:
                await test(database)
            finally:
                await database.close()

        asyncio.run(opened())

    functools.update_wrapper(run, test)
    del run.__wrapped__  # type: ignore[attr-defined]
    return run


async def value(database: Database) -> int:
    row = await database.fetch_one(VALUE)
    assert row is not None
    return int(row[0])


@with_database
async def test_values_come_back_as_they_went(database: Database) -> None:
    insert = (
        "INSERT INTO events (number, at, model, version, kind, actor, node, detail) VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
    )
    rows = [
        (1, 2**62, "m", None, "k", "it's", "", "a ? $1 \N{SNOWMAN} %s"),
        (2, -1, "m", "1.0", "k", '"quoted"', "\\", "x" * 100_000),
    ]
    for row in rows:
        await database.execute(insert, *row)
    found = await database.fetch("SELECT * FROM events WHERE number >= ? ORDER BY number", 1)
    assert [tuple(row) for row in found] == rows
    assert await database.fetch_one("SELECT 1 FROM events WHERE number = ?", 3) is None
    assert list(await database.fetch("SELECT 1 FROM events WHERE number = ?", 3)) == []


@with_database
async def test_a_block_that_raises_leaves_nothing(database: Database) -> None:
    async def fail() -> None:
        async with database.transaction() as transaction:
            await transaction.execute(COUNTER)
            assert (await transaction.fetch_one(VALUE) or [None])[0] == 1
            # Outside it is not seen, and nobody waits for it.
            assert await value(database) == 0
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        await fail()
    assert await value(database) == 0
    async with database.transaction() as transaction:
        await transaction.execute(COUNTER)
    assert await value(database) == 1


@with_database
async def test_a_statement_that_fails_ends_its_transaction_and_no_more(database: Database) -> None:
    async def run(statement: str) -> None:
        async with database.transaction() as transaction:
            await transaction.execute(COUNTER)
            await transaction.execute(statement)

    for statement in ("INSERT INTO counters (name, value) VALUES ('event', 1)", "SELECT nothing FROM nowhere", "("):
        with pytest.raises(RegistryUnavailableError, match="failed"):
            await run(statement)
        assert await value(database) == 0
    await database.execute(COUNTER)
    assert await value(database) == 1


@with_database
async def test_versions_that_are_pointed_to_stay(database: Database) -> None:
    with pytest.raises(RegistryUnavailableError, match=r"(?i)foreign key"):
        await database.execute("INSERT INTO wanted (model, version, mode) VALUES ('m', '1', 'lazy')")


@with_database
async def test_transactions_of_one_process_run_one_after_the_other(database: Database) -> None:
    async def increment() -> None:
        async with database.transaction() as transaction:
            row = await transaction.fetch_one(VALUE)
            assert row is not None
            await asyncio.sleep(0)
            await transaction.execute("UPDATE counters SET value = ? WHERE name = 'event'", row[0] + 1)

    await asyncio.gather(*(increment() for _ in range(50)))
    assert await value(database) == 50


@with_database
async def test_a_cancelled_transaction_is_undone(database: Database) -> None:
    inside, never = asyncio.Event(), asyncio.Event()

    async def hold() -> None:
        async with database.transaction() as transaction:
            await transaction.execute(COUNTER)
            inside.set()
            await never.wait()

    holding = asyncio.create_task(hold())
    await inside.wait()
    waiting = [asyncio.create_task(hold()) for _ in range(3)]
    await asyncio.sleep(0)
    for task in (*waiting, holding):
        task.cancel()
    results = await asyncio.gather(holding, *waiting, return_exceptions=True)
    assert all(isinstance(result, asyncio.CancelledError) for result in results)
    await asyncio.wait_for(database.execute(COUNTER), 60)
    assert await value(database) == 1


def test_transactions_of_several_processes_run_one_after_the_other(store: str) -> None:
    program = f"""
        import asyncio
        from penstock.store import open_database

        async def main():
            database = await open_database({store!r})
            for _ in range(50):
                async with database.transaction() as transaction:
                    (value,) = await transaction.fetch_one({VALUE!r})
                    await transaction.execute("UPDATE counters SET value = ? WHERE name = 'event'", value + 1)
            await database.close()

        asyncio.run(main())
    """
    # They also make the database, all at once.
    running = [subprocess.Popen([sys.executable, "-c", textwrap.dedent(program)]) for _ in range(4)]
    assert [process.wait(timeout=300) for process in running] == [0] * 4

    async def total() -> int:
        database = await open_database(store)
        try:
            return await value(database)
        finally:
            await database.close()

    assert asyncio.run(total()) == 200


def test_migrations_run_once_and_a_newer_database_is_refused(store: str) -> None:
    async def reopen() -> None:
        for _ in range(2):
            database = await open_database(store)
            await database.execute(COUNTER)
            await database.close()
        database = await open_database(store)
        assert await value(database) == 2
        assert [row[0] for row in await database.fetch("SELECT number FROM migrations")] == [1, 2]
        await database.execute("INSERT INTO migrations (number, name, at) VALUES (7, '0007_later.sql', 0)")
        await database.close()
        with pytest.raises(RegistryUnavailableError, match=r"has schema 7, .* this one knows 2: upgrade Penstock"):
            await open_database(store)

    asyncio.run(reopen())


def test_a_database_of_the_first_schema_is_brought_up_to_date_with_what_it_holds(store: str) -> None:
    async def reopen() -> None:
        database = await open_database(store)
        await database.execute("ALTER TABLE versions DROP COLUMN contract")
        await database.execute("DELETE FROM migrations WHERE number > 1")
        await database.execute(
            "INSERT INTO versions (model, version, digest, bytes, backend, registered_at, registered_by, metadata, "
            "settings, inputs, outputs, changed) VALUES ('m', '1', 'd', 1, 'onnx', 0, 'me', '{}', '{}', '[]', '[]', 1)"
        )
        await database.close()
        database = await open_database(store)
        assert [tuple(row) for row in await database.fetch("SELECT model, contract FROM versions")] == [("m", None)]
        await database.close()

    asyncio.run(reopen())


def refusal(url: str) -> str:
    async def attempt() -> None:
        await (await open_database(url)).close()

    with pytest.raises(RegistryUnavailableError) as refused:
        asyncio.run(attempt())
    # What a client sees names no place.
    assert refused.value.code == "registry_unavailable"
    assert "/" not in refused.value.detail and "127" not in refused.value.detail
    return str(refused.value)


def test_sqlite_says_why_it_cannot_be_used(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("not a database, but long enough to be one" * 100)
    assert "is no SQLite database, or damaged" in refusal(f"sqlite:///{tmp_path}/file")
    assert "cannot make the folder" in refusal(f"sqlite:///{tmp_path}/file/penstock.db")
    (tmp_path / "folder.db").mkdir()
    assert "cannot be written" in refusal(f"sqlite:///{tmp_path}/folder.db")


def test_sqlite_reads_while_another_process_writes(tmp_path: Path) -> None:
    async def read() -> int:
        database = await open_database(f"sqlite:///{tmp_path}/penstock.db")
        other = sqlite3.connect(tmp_path / "penstock.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        other.execute(COUNTER)
        try:
            return await value(database)
        finally:
            other.close()
            await database.close()

    assert asyncio.run(read()) == 0


def test_postgresql_says_why_it_cannot_be_used(postgres: Postgres) -> None:
    url = postgres.new_database()
    wrong = refusal(postgres.tcp(url, "wrong"))
    assert "refuses the user or the password" in wrong and "wrong" not in wrong.replace("password", "")
    assert "make it with createdb" in refusal(url.replace("/test", "/missing"))
    assert "cannot be reached" in refusal("postgresql://nobody@127.0.0.1:1/none")
    assert "cannot be reached" in refusal(f"postgresql://nobody@/none?host={postgres.folder}/nowhere")


def test_postgresql_takes_a_password(postgres: Postgres) -> None:
    async def connect() -> None:
        await (await open_database(postgres.tcp(postgres.new_database(), "secret%20word"))).close()

    asyncio.run(connect())


def test_postgresql_may_come_back(postgres: Postgres) -> None:
    async def survive() -> None:
        database = await open_database(postgres.new_database())
        await database.execute(COUNTER)
        await asyncio.to_thread(postgres.stop)
        for _ in range(2):
            with pytest.raises(RegistryUnavailableError):
                await database.execute(COUNTER)
        await asyncio.to_thread(postgres.start)
        assert await value(database) == 1
        await database.execute(COUNTER)
        assert await value(database) == 2
        await database.close()

    asyncio.run(survive())


@pytest.mark.parametrize("url", ["mysql://host/db", "penstock.db", "sqlite:///", "sqlite:penstock.db", "postgres:db"])
def test_other_urls_are_no_store(url: str) -> None:
    with pytest.raises(ConfigError, match="expected sqlite:///PATH or postgresql://USER@HOST/DATABASE"):
        asyncio.run(open_database(url))


@pytest.mark.parametrize(
    ("missing", "statement", "extra"),
    [
        ("asyncpg", "penstock.store.open_database('postgresql://h/d')", "postgres"),
        ("fsspec", "penstock.registry.artefacts.open_artefacts('s3://bucket', pathlib.Path('x'))", "s3"),
    ],
)
def test_a_missing_library_names_its_extra(missing: str, statement: str, extra: str) -> None:
    program = f"import sys; sys.modules[{missing!r}] = None; import asyncio, pathlib, penstock.registry; "
    result = subprocess.run(
        [sys.executable, "-c", f"{program}asyncio.run({statement})"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert f"is not installed: run pip install 'penstock[{extra}]'" in result.stderr.splitlines()[-1]
