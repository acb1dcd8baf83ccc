"""What the lifecycle does unasked: follow the registry, load what is missed, let standbys go, look into a folder."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Awaitable, Callable, Sequence
from typing import TYPE_CHECKING

from penstock.core.errors import PenstockError, RequestError
from penstock.serve.lifecycle.lifecycle import RegistryLifecycle
from penstock.serve.lifecycle.repository import RepositoryFolder

if TYPE_CHECKING:
    from penstock.native._dataplane import Engine
    from penstock.registry.registry import Registry

__all__ = ["Following"]

_log = logging.getLogger("penstock.lifecycle")

# How soon another server's decisions are seen here, and how exactly standbys end.
LOOK_SECONDS = 1.0


class Following:
    """The tasks in the background. start() and stop() run on the lifecycle's loop."""

    def __init__(
        self,
        lifecycle: RegistryLifecycle,
        registry: Registry,
        engine: Engine,
        node: str,
        repository: RepositoryFolder | None = None,
        repository_poll_s: float = 10.0,
    ) -> None:
        self._lifecycle = lifecycle
        self._registry = registry
        self._engine = engine
        self._node = node
        self._repository = repository
        self._repository_poll_s = repository_poll_s
        self._revision = -1
        self._keys_revision = -1
        self._tasks: list[asyncio.Task[None]] = []
        self._complained: set[str] = set()

    async def start(self, preload: Sequence[str] = ()) -> None:
        """Bring about what the registry wants, and what is to be preloaded; then go on doing so."""
        await self._lifecycle.keys_changed()
        self._revision = await self._registry.revision()
        await self._registry.collect_garbage()  # of registrations that were killed
        await self._registry.versions()  # the first list reads all of them, the next ones what has changed
        await self._lifecycle.settle_all(self._node)
        for each in preload:
            name, _, ref = each.partition("@")
            try:
                await self._lifecycle.load(name, ref or None, lazy=False, by=self._node)
            except RequestError as error:
                _log.error("not preloaded", extra={"model": name, "reason": str(error)})
        if self._repository is not None:
            await self._look_into_repository()
        asyncio.get_running_loop().add_reader(self._engine.miss_fd(), self._on_miss)
        self._repeat(self._follow, LOOK_SECONDS)
        self._repeat(self._lifecycle.retry_failures, LOOK_SECONDS)  # one that hangs again holds up nobody else
        self._repeat(self._follow_keys, LOOK_SECONDS)  # a key that is revoked waits for no model that loads
        if self._repository is not None:
            self._repeat(self._look_into_repository, self._repository_poll_s)

    async def stop(self) -> None:
        """Stop following."""
        asyncio.get_running_loop().remove_reader(self._engine.miss_fd())
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._lifecycle.leave()

    def _repeat(self, step: Callable[[], Awaitable[None]], seconds: float) -> None:
        async def repeat() -> None:
            while True:
                await asyncio.sleep(seconds)
                await self._guarded(step)

        self._tasks.append(asyncio.create_task(repeat()))

    async def _guarded(self, step: Callable[[], Awaitable[None]]) -> None:
        """Let one failure be one failure: what is served is served on, and the next look may find things mended."""
        name = getattr(step, "__name__", str(step))
        try:
            await step()
            self._complained.discard(name)
        except PenstockError as error:
            if name not in self._complained:
                self._complained.add(name)
                _log.warning("the registry cannot be followed", extra={"step": name, "reason": str(error)})
        except Exception:
            _log.exception("following the registry failed", extra={"step": name})

    async def _follow(self) -> None:
        stats = self._engine.stats()
        self._lifecycle.note_use({(ring["model"], ring["version"]): ring["rows_claimed"] for ring in stats["rings"]})
        await self._lifecycle.flush()
        await self._lifecycle.expire_standbys()
        revision = await self._registry.revision()
        if revision != self._revision:
            await self._lifecycle.settle_all(self._node)
            self._revision = revision

    async def _follow_keys(self) -> None:
        revision = await self._registry.revision()
        if revision != self._keys_revision:
            await self._lifecycle.keys_changed()
            self._keys_revision = revision

    def _on_miss(self) -> None:
        os.eventfd_read(self._engine.miss_fd())
        missed = self._engine.take_misses()
        self._tasks = [task for task in self._tasks if not task.done()]

        async def bring() -> None:
            await self._lifecycle.bring_missed(missed)

        self._tasks.append(asyncio.create_task(self._guarded(bring)))

    async def _look_into_repository(self) -> None:
        if self._repository is None:
            return
        for found in await asyncio.to_thread(self._repository.settled):
            try:
                record, _ = await self._registry.register(
                    found.model, found.path, version=found.version, by="repository"
                )
                await self._lifecycle.promote_if_higher(record, by="repository")
            except RequestError as error:
                _log.error("a model of the repository folder is not served", extra={"reason": str(error)})
