"""A registration that is killed at any moment leaves the version whole or nothing; a full disk leaves nothing."""

import asyncio
import hashlib
import random
import sqlite3
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from penstock.registry import Registry
from penstock.registry.records import CHAMPION, EventKind
from penstock.store import open_database
from tests.registries import Place

FILES = 4
FILE_BYTES = 300_000

# For each line with a number, registers that version and makes it champion.
CHILD = """
    import asyncio, sys
    from pathlib import Path
    from penstock.registry import Registry

    async def main(store, artefacts, source):
        registry = await Registry.open(store, artefacts, Path(artefacts) / "cache")
        print("ready", flush=True)
        for line in sys.stdin:
            version = line.strip()
            await registry.register("m", Path(source) / version, version=version, by="child")
            print("registered", flush=True)
            await registry.set_alias("m", "champion", version, by="child")
            print("done", flush=True)

    asyncio.run(main(*sys.argv[1:]))
"""


def content(version: str, number: int) -> bytes:
    return hashlib.sha256(f"{version} {number}".encode()).digest() * (FILE_BYTES // 32)


def write_source(place: Place, version: str) -> None:
    folder = place.folder / "source" / version
    for number in range(FILES):
        path = folder / f"part-{number % 2}" / f"{number}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content(version, number))


@contextmanager
def child(place: Place) -> Iterator[subprocess.Popen[str]]:
    arguments = [
        sys.executable,
        "-c",
        textwrap.dedent(CHILD),
        place.store,
        place.artefacts,
        str(place.folder / "source"),
    ]
    process = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert process.stdin is not None and process.stdout is not None
    try:
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.wait(timeout=300)
        process.stdin.close()
        process.stdout.close()


@dataclass(frozen=True)
class Watched:
    """What can be seen of a registration from outside, so that it can be killed there."""

    place: Place
    process: subprocess.Popen[str]
    contents: int

    def staging(self) -> list[Path]:
        return list((Path(self.place.artefacts) / "staging").rglob("*"))

    def locked(self) -> bool:
        return any(path.suffix == ".lock" for path in self.staging())

    def copying(self) -> bool:
        return any(path.suffix == ".bin" for path in self.staging())

    def copied(self) -> bool:
        return sum(path.suffix == ".bin" for path in self.staging()) == FILES

    def in_place(self) -> bool:
        return len(list((Path(self.place.artefacts) / "contents").glob("*/*"))) > self.contents

    def registered(self) -> bool:
        assert self.process.stdout is not None
        return self.process.stdout.readline() == "registered\n"


STEPS: list[Callable[[Watched], bool]] = [
    Watched.locked,
    Watched.copying,
    Watched.copied,
    Watched.in_place,
    Watched.registered,
]


def wait_for(step: Callable[[Watched], bool], watched: Watched) -> None:
    """Look until the step is seen. One that was over between two looks is missed: the kill comes later then."""
    deadline = time.monotonic() + 5
    while not seen(step, watched) and time.monotonic() < deadline:
        assert watched.process.poll() is None, step


def seen(step: Callable[[Watched], bool], watched: Watched) -> bool:
    try:
        return step(watched)
    except FileNotFoundError:
        # The folder that was being read is gone already.
        return False


async def check(place: Place, asked: list[str], finished: list[str]) -> int:
    """Compare what is there with what may be: all that was finished, and of the rest each whole or not at all."""
    async with place.open() as registry:
        present = [record.version for record in await registry.versions()]
        assert set(finished) <= set(present) <= set(asked)
        for record in [await registry.version("m", version) for version in present]:
            folder = await registry.fetch(record)
            assert len(record.manifest) == FILES
            for number in range(FILES):
                assert (folder / f"part-{number % 2}" / f"{number}.bin").read_bytes() == content(record.version, number)
        if present:
            await check_names(registry, present, finished)
        return len(present)


async def check_names(registry: Registry, present: list[str], finished: list[str]) -> None:
    """Compare the alias with its history, and events with versions."""
    history = list(reversed(await registry.history("m", limit=10_000)))
    assert [event.number for event in history] == list(range(1, len(history) + 1))
    assert sorted(event.version or "" for event in history if event.kind is EventKind.REGISTERED) == sorted(present)
    (model,) = await registry.models()
    changes = await registry.alias_changes("m", CHAMPION, limit=10_000)
    champion = model.aliases.get(CHAMPION)
    assert champion == (changes[0].version if changes else None)
    # The last that was finished, or one that was killed after it between its transaction and its answer.
    assert champion is None or champion in present
    assert not finished or (champion is not None and int(champion) >= int(finished[-1]))
    assert [change.previous for change in changes] == [change.version for change in changes[1:]] + [None] * bool(
        changes
    )
    assert sum(event.kind is EventKind.ALIAS for event in history) == len(changes)


async def collect(place: Place) -> None:
    """Let leases of the dead run out; then there is nothing that has no name."""
    database = await open_database(place.store)
    await database.execute("UPDATE leases SET at = 0")
    await database.close()
    async with place.open() as registry:
        await registry.collect_garbage()
        named = {record.digest for record in await registry.versions()}
        root = Path(place.artefacts)
        assert {path.name for path in (root / "contents").glob("*/*")} == named
        assert list((root / "staging").iterdir()) == []


async def again(place: Place, version: str) -> None:
    """Try again what was killed: what it left behind must not be in the way, nor be taken for whole."""
    async with place.open() as registry:
        await registry.register("m", place.folder / "source" / version, version=version, by="again")
        await registry.set_alias("m", CHAMPION, version, by="again")


def kill_registrations(place: Place, kills: list[Callable[[Watched], None]]) -> None:
    asked: list[str] = []
    finished: list[str] = []
    for number, kill_when in enumerate(kills, 1):
        version = str(number)
        write_source(place, version)
        asked.append(version)
        with child(place) as process:
            watched = Watched(place, process, len(list((Path(place.artefacts) / "contents").glob("*/*"))))
            assert process.stdin is not None and process.stdout is not None
            process.stdin.write(f"{version}\n")
            process.stdin.flush()
            kill_when(watched)
            process.kill()
            process.wait(timeout=300)
            if "done\n" in process.stdout.readlines():
                finished.append(version)
        asyncio.run(check(place, asked, finished))
        if number % 2 == 0:
            asyncio.run(again(place, version))
            finished.append(version)
            asyncio.run(check(place, asked, finished))
        if number % 5 == 0:
            asyncio.run(collect(place))
    asyncio.run(collect(place))
    asyncio.run(check(place, asked, finished))


def place_of(store: str, tmp_path: Path) -> Place:
    return Place(tmp_path, store, str(tmp_path / "artefacts"))


def test_killed_at_each_step(store: str, tmp_path: Path) -> None:
    kill_registrations(
        place_of(store, tmp_path), [lambda watched, step=step: wait_for(step, watched) for step in STEPS * 2]
    )


@pytest.mark.slow
def test_killed_at_random_moments(store: str, tmp_path: Path) -> None:
    random_moments = random.Random(5)
    place = place_of(store, tmp_path)

    taken = 0.0

    def never(watched: Watched) -> None:
        nonlocal taken
        start = time.monotonic()
        wait_for(Watched.registered, watched)
        assert watched.process.stdout is not None and watched.process.stdout.readline() == "done\n"
        taken = time.monotonic() - start

    def at_random(watched: Watched) -> None:
        until = time.monotonic() + random_moments.uniform(0, 1.5 * taken)
        while time.monotonic() < until:
            pass

    kill_registrations(place, [never, *[at_random] * 60])
    # The moments lay on both sides of the transaction.
    assert 1 < asyncio.run(count(place)) < 61


async def count(place: Place) -> int:
    async with place.open() as registry:
        return len(await registry.versions())


# ---- full disks ------------------------------------------------------------------------------------------------------


def limited(limit: int, statements: str, place: Place) -> str:
    """Run statements in a process whose files may not grow beyond a limit, which is what a full disk is like."""
    program = f"""
        import asyncio, resource, sys
        from pathlib import Path
        from penstock.core.errors import RegistryUnavailableError
        from penstock.registry import Registry
        from penstock.registry.records import Metadata

        async def main(store, artefacts, source):
            registry = await Registry.open(store, artefacts, Path(artefacts) / "cache")
            resource.setrlimit(resource.RLIMIT_FSIZE, ({limit}, resource.RLIM_INFINITY))
            try:
                {statements}
            except RegistryUnavailableError as error:
                print(error)
            resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
            # There is room again.
            await registry.register("m", Path(source) / "small", version="9", by="child")
            await registry.close()

        asyncio.run(main(*sys.argv[1:]))
    """
    arguments = [place.store, place.artefacts, str(place.folder / "source")]
    result = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(program), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout


def check_nothing_left(place: Place) -> None:
    async def look() -> None:
        async with place.open() as registry:
            assert [record.version for record in await registry.versions()] == ["9"]
        await collect(place)

    asyncio.run(look())


def test_a_full_disk_leaves_nothing_of_an_artefact(store: str, tmp_path: Path) -> None:
    place = place_of(store, tmp_path)
    place.write("x", "small/model.bin")
    place.write("x" * 2_000_000, "large/model.bin")
    said = limited(1_000_000, 'await registry.register("m", Path(source) / "large", version="1", by="child")', place)
    assert "has no room left" in said and "make some, or move it with artefacts" in said
    assert [path.name for path in (tmp_path / "artefacts" / "contents").glob("*/*/*")] == ["model.bin"]
    check_nothing_left(place)


def test_a_full_disk_leaves_nothing_in_the_database(tmp_path: Path) -> None:
    place = place_of(f"sqlite:///{tmp_path}/penstock.db", tmp_path)
    place.write("x", "small/model.bin")
    card = 'metadata=Metadata(card="x" * 3_000_000)'
    said = limited(
        1_000_000, f'await registry.register("m", Path(source) / "small", version="1", by="child", {card})', place
    )
    assert "the registry's database" in said and ("disk is full" in said or "disk I/O error" in said)
    check_nothing_left(place)
    check_database = sqlite3.connect(tmp_path / "penstock.db")
    assert check_database.execute("PRAGMA integrity_check").fetchall() == [("ok",)]
    check_database.close()


def test_a_cancelled_registration_leaves_it_whole_or_nothing(store: str, tmp_path: Path) -> None:
    place = place_of(store, tmp_path)
    asked: list[str] = []
    finished: list[str] = []

    async def register(registry: Registry, version: str) -> None:
        await registry.register("m", place.folder / "source" / version, version=version, by="me")
        await registry.set_alias("m", CHAMPION, version, by="me")

    async def cancel() -> None:
        async with place.open() as registry:
            # Later and later, until nothing is left to cancel.
            while len(finished) < 3:
                asked.append(version := str(len(asked) + 1))
                write_source(place, version)
                registering = asyncio.create_task(register(registry, version))
                await asyncio.wait([registering], timeout=(len(asked) - 1) * 0.003)
                if not registering.cancel():
                    finished.append(version)
                await asyncio.wait([registering])
                assert registering.cancelled() == (finished[-1:] != [version])
        await check(place, asked, finished)
        await collect(place)
        await check(place, asked, finished)

    asyncio.run(cancel())
    assert len(finished) < len(asked)
