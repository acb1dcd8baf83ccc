"""Several processes move one alias by compare-and-set: what each saw fits one order of all that they did."""

import asyncio
import json
import subprocess
import sys
import textwrap
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from itertools import cycle
from pathlib import Path

import pytest

from penstock.registry import Registry
from penstock.registry.listing import Listing
from penstock.registry.records import CHAMPION
from penstock.store import Database, Row, Statements, Value, open_database
from tests.registries import Place, with_place

PROCESSES = 4
OPERATIONS = 40

CHILD = """
    import asyncio, json, random, sys, time
    from pathlib import Path
    from penstock.core.errors import RequestError
    from penstock.registry import Registry

    async def operate(registry, random):
        kind = random.choice(["set", "set", "read", "list"])
        if kind == "read":
            try:
                return kind, None, None, (await registry.version("m", "champion")).version
            except RequestError as error:
                assert error.code == "version_not_found"
                return kind, None, None, None
        if kind == "list":
            (model,) = await registry.models()
            return "read", None, None, model.aliases.get("champion")
        expected, new = random.choice([None, "1", "2", "3"]), random.choice(["1", "2", "3"])
        try:
            await registry.set_alias("m", "champion", new, by="child", expected=expected)
        except RequestError as error:
            assert error.code == "conflict"
            return kind, expected, new, False
        return kind, expected, new, True

    async def main(store, artefacts, seed, count):
        registry = await Registry.open(store, artefacts, Path(artefacts) / "cache")
        print("ready", flush=True)
        sys.stdin.readline()
        chosen = random.Random(seed)
        for _ in range(int(count)):
            start = time.monotonic_ns()
            seen = await operate(registry, chosen)
            print(json.dumps([start, time.monotonic_ns(), *seen]), flush=True)
        await registry.close()

    asyncio.run(main(*sys.argv[1:]))
"""


@dataclass(frozen=True)
class Operation:
    """What somebody did between two moments of one clock, and what came of it."""

    start: int
    end: int
    kind: str
    expected: str | None
    new: str | None
    result: str | bool | None

    def after(self, value: str | None) -> tuple[bool, str | None]:
        """Whether it could have come out so when the alias had this value, and the value after it."""
        if self.kind == "read":
            return value == self.result, value
        fits = value == self.expected
        return fits == self.result, self.new if fits else value


def linearizable(history: list[Operation], value: str | None) -> bool:
    """Search for an order that fits (Wing and Gong, 1993), remembering where the search has been (Lowe, 2017)."""
    been: set[tuple[int, str | None]] = set()
    everything = (1 << len(history)) - 1
    stack = [(0, value)]
    while stack:
        done, value = stack.pop()
        if done == everything:
            return True
        if (done, value) in been:
            continue
        been.add((done, value))
        left = [(number, operation) for number, operation in enumerate(history) if not done >> number & 1]
        # Only what began before anything that is left had ended can be next.
        first_end = min(operation.end for _, operation in left)
        for number, operation in left:
            fits, following = operation.after(value)
            if fits and operation.start <= first_end:
                stack.append((done | 1 << number, following))
    return False


def record(store: str, place: Place) -> list[Operation]:
    running = []
    for seed in range(PROCESSES):
        arguments = [store, place.artefacts, str(seed), str(OPERATIONS)]
        running.append(
            subprocess.Popen(
                [sys.executable, "-c", textwrap.dedent(CHILD), *arguments],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
            )
        )
    for process in running:
        assert process.stdout is not None and process.stdout.readline() == "ready\n"
    for process in running:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    outputs = [process.communicate(timeout=300)[0] for process in running]
    assert [process.returncode for process in running] == [0] * PROCESSES
    return [Operation(*json.loads(line)) for output in outputs for line in output.splitlines()]


def test_compare_and_set_over_processes_is_linearizable(store: str, tmp_path: Path) -> None:
    place = Place(tmp_path, store, str(tmp_path / "artefacts"))

    async def prepare() -> None:
        async with place.open() as registry:
            for version in ("1", "2", "3"):
                await place.add(registry, "m", version)

    async def changes() -> list[tuple[str | None, str | None]]:
        async with place.open() as registry:
            return [
                (change.previous, change.version)
                for change in await registry.alias_changes("m", CHAMPION, limit=10_000)
            ]

    asyncio.run(prepare())
    history = record(store, place)
    assert len(history) == PROCESSES * OPERATIONS
    # They ran into each other, and not only.
    overlaps = sum(
        one.start < other.start < one.end for one in history for other in history if one.kind == other.kind == "set"
    )
    assert overlaps > PROCESSES
    moved = [operation for operation in history if operation.kind == "set" and operation.result is True]
    assert 0 < len(moved) < sum(operation.kind == "set" for operation in history)
    assert linearizable(history, None)
    written = asyncio.run(changes())
    # What set the alias to where it was already is not in its history.
    assert len(written) == sum(operation.expected != operation.new for operation in moved)
    assert [previous for previous, _ in written] == [version for _, version in written[1:]] + [None]


class Hasty:
    """A database in which somebody else does something before each of our queries."""

    def __init__(self, database: Database, before: Callable[[], Awaitable[object]]) -> None:
        self._database = database
        self._before = before

    async def fetch(self, sql: str, *values: Value) -> Sequence[Row]:
        await self._before()
        return await self._database.fetch(sql, *values)

    async def fetch_one(self, sql: str, *values: Value) -> Row | None:
        await self._before()
        return await self._database.fetch_one(sql, *values)

    async def execute(self, sql: str, *values: Value) -> None:
        await self._database.execute(sql, *values)

    def transaction(self) -> AbstractAsyncContextManager[Statements]:
        return self._database.transaction()

    async def close(self) -> None:
        await self._database.close()


@with_place
async def test_a_list_shows_a_moving_alias_at_one_place(place: Place, registry: Registry) -> None:
    # More than move while a list is made.
    versions = [str(number) for number in range(1, 10)]
    for version in versions:
        await place.add(registry, "m", version)
    places = cycle(versions)

    async def move() -> None:
        await registry.set_alias("m", CHAMPION, next(places), by="test")

    await move()
    database = await open_database(place.store)
    listing = Listing(Hasty(database, move))
    try:
        for _ in range(10):
            shown = await listing.of("m")
            assert sum(CHAMPION in version.aliases for version in shown) == 1, shown
    finally:
        await database.close()


READ = ("read", None, None)


@pytest.mark.parametrize(
    ("history", "possible"),
    [
        ([], True),
        ([Operation(1, 2, "set", None, "1", True), Operation(3, 4, *READ, "1")], True),
        # Read too late.
        ([Operation(1, 2, "set", None, "1", True), Operation(3, 4, *READ, None)], False),
        ([Operation(1, 4, "set", None, "1", True), Operation(2, 3, *READ, None)], True),
        # Both won.
        ([Operation(1, 4, "set", None, "1", True), Operation(2, 3, "set", None, "2", True)], False),
        # Lost against nobody.
        ([Operation(1, 2, "set", None, "1", False)], False),
        # Seen, and then not any more.
        (
            [Operation(1, 9, "set", None, "1", True), Operation(2, 3, *READ, "1"), Operation(4, 5, *READ, None)],
            False,
        ),
        (
            [
                Operation(1, 9, "set", "2", "1", True),
                Operation(2, 8, "set", None, "2", True),
                Operation(3, 4, *READ, "2"),
                Operation(5, 6, *READ, "1"),
            ],
            True,
        ),
    ],
)
def test_the_checker_knows_what_is_possible(history: list[Operation], possible: bool) -> None:
    assert linearizable(history, None) is possible
