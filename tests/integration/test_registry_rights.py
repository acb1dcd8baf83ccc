"""What the registry keeps is its user's alone: the hashes of keys, and models."""

import asyncio
import os
from pathlib import Path

from penstock.registry import Registry
from penstock.registry.records import Role
from tests.registries import opened


def test_nobody_else_may_read_the_registry(tmp_path: Path) -> None:
    async def inside() -> None:
        data = tmp_path / "data"
        async with opened(data) as (_, registry):
            await registry.create_key("somebody", Role.ADMIN, by="test")
            made = [data, *data.rglob("*")]
            assert {path.name for path in made} >= {"penstock.db", "penstock.db-wal", "contents", "staging"}
            assert {path.name: oct(path.stat().st_mode & 0o077) for path in made} == {path.name: "0o0" for path in made}

    before = os.umask(0o022)
    try:
        asyncio.run(inside())
    finally:
        os.umask(before)


def test_a_folder_that_others_share_keeps_its_rights(tmp_path: Path) -> None:
    async def inside() -> None:
        shared = tmp_path / "shared"
        shared.mkdir()
        shared.chmod(0o770)
        await (await Registry.open(f"sqlite:///{shared}/penstock.db", str(shared), tmp_path / "cache")).close()
        assert shared.stat().st_mode & 0o777 == 0o770

    asyncio.run(inside())
