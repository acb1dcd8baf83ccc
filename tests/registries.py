"""Registries for tests."""

import asyncio
import functools
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from penstock.core.errors import RequestError
from penstock.registry import Registry
from penstock.registry.records import VersionRecord

__all__ = ["Place", "opened", "refused", "three", "with_place"]


@dataclass(frozen=True)
class Place:
    """Where a registry and what is put into it may lie."""

    folder: Path
    store: str
    artefacts: str

    @asynccontextmanager
    async def open(self) -> AsyncIterator[Registry]:
        """Open the registry for the time of the block."""
        registry = await Registry.open(self.store, self.artefacts, self.folder / "cache")
        try:
            yield registry
        finally:
            await registry.close()

    def write(self, content: str, name: str = "model.onnx") -> Path:
        """Write a file that can be registered."""
        path = self.folder / "source" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(content)
        return path

    async def add(self, registry: Registry, model: str, version: str | None, content: str = "") -> VersionRecord:
        """Register content; by default another one for each version."""
        source = self.write(content or f"{model} {version}")
        return (await registry.register(model, source, version=version, by="test"))[0]


@asynccontextmanager
async def opened(folder: Path, store: str = "") -> AsyncIterator[tuple[Place, Registry]]:
    """Open a registry with artefacts in a folder."""
    place = Place(folder, store or f"sqlite:///{folder}/penstock.db", str(folder / "artefacts"))
    async with place.open() as registry:
        yield place, registry


def with_place(test: Callable[[Place, Registry], Awaitable[None]]) -> Callable[[str, Path], None]:
    """Open a registry in the database of the fixture `store` around a coroutine."""

    def run(store: str, tmp_path: Path) -> None:
        async def inside() -> None:
            async with opened(tmp_path, store) as (place, registry):
                await test(place, registry)

        asyncio.run(inside())

    functools.update_wrapper(run, test)
    del run.__wrapped__  # type: ignore[attr-defined]
    return run


async def refused(code: str, doing: Awaitable[Any]) -> str:
    """Expect a refusal and return its detail."""
    with pytest.raises(RequestError) as refusal:
        await doing
    assert refusal.value.code == code
    return refusal.value.detail


async def three(place: Place, registry: Registry) -> None:
    """Register versions 1, 2 and 3 of the model m."""
    for version in ("1", "2", "3"):
        await place.add(registry, "m", version)
