"""A server's engine and supervisor with a registry that it follows, without its public process."""

import asyncio
import threading
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from pathlib import Path
from typing import Any, TypeVar

import pytest

from penstock.core.errors import RequestError
from penstock.core.status import ModelState, ModelStatus
from penstock.registry.records import VersionRecord
from penstock.registry.registry import Registry
from penstock.serve.lifecycle import Following, LifecycleOptions, RegistryLifecycle, RepositoryFolder
from tests.integration.supervised import DEADLINE_SECONDS, FAST, Running, until

__all__ = ["BY", "Node", "kinds", "memory_bytes", "refusal", "state_of"]

BY = "somebody"

_T = TypeVar("_T")


class Node:
    """One server on a registry in `folder`; several may share it."""

    def __init__(
        self,
        folder: Path,
        name: str = "here",
        *,
        preload: Sequence[str] = (),
        repository: Path | None = None,
        repository_poll_s: float = 10.0,
        **options: Any,
    ) -> None:
        self.running = Running([], FAST, hold=True)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever)
        self._thread.start()
        self.registry = self.call(Registry.open(f"sqlite:///{folder / 'store.db'}", str(folder / "artefacts"), folder))
        self.lifecycle = RegistryLifecycle(
            self.registry, self.running.supervisor, self.running.engine, LifecycleOptions(node=name, **options)
        )
        self.following = Following(
            self.lifecycle,
            self.registry,
            self.running.engine,
            name,
            RepositoryFolder(repository) if repository is not None else None,
            repository_poll_s,
        )
        self.running.supervisor.wait_ready(DEADLINE_SECONDS)
        self.call(self.following.start(preload))
        self.running.supervisor.release().result(DEADLINE_SECONDS)

    def call(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        return self.begin(coroutine).result(DEADLINE_SECONDS)

    def begin(self, coroutine: Coroutine[Any, Any, _T]) -> "Future[_T]":
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def register(self, path: Path, version: str | None = None, model: str = "m", **more: Any) -> VersionRecord:
        record, _ = self.call(self.registry.register(model, path, version=version, by=BY, **more))
        return record

    def promote(self, ref: str, model: str = "m", **more: Any) -> None:
        self.call(self.lifecycle.promote(model, ref, by=BY, **more))

    def status(self, version: str, model: str = "m") -> ModelStatus | None:
        found = [
            each for each in self.lifecycle.models() if (each.config.name, each.config.version) == (model, version)
        ]
        return found[0] if found else None

    def in_memory(self, model: str = "m") -> list[str]:
        """Versions of which a ring is there, ascending."""
        return sorted(ring["version"] for ring in self.running.engine.stats()["rings"] if ring["model"] == model)

    def answer(self, row: Any, model: str = "m", version: str | None = None) -> tuple[int, dict[str, Any]]:
        query = f"?version={version}" if version is not None else ""
        return self.running.ask(row, model, query)

    def answering(self, row: Any, model: str = "m") -> str:
        """The version that answers."""
        status, body = self.answer(row, model)
        return str(body["version"]) if status == 200 else str(body["code"])

    def until_answering(self, row: Any, version: str, model: str = "m") -> None:
        until(lambda: self.answering(row, model) == version, f"version {version} answers")

    def stop(self) -> None:
        if self._thread.is_alive():
            self.call(self.following.stop())
            self._end()

    def crash(self) -> None:
        """End without a word to the registry, as kill -9 would."""
        self._end()

    def _end(self) -> None:
        self.call(_cancel_others())
        self.running.stop()
        self.call(self.registry.close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()


async def _cancel_others() -> None:
    others = asyncio.all_tasks() - {asyncio.current_task()}
    for task in others:
        task.cancel()
    await asyncio.gather(*others, return_exceptions=True)


def kinds(server: Node, model: str = "m") -> list[tuple[str, str | None]]:
    events = server.call(server.registry.history(model))
    return [(str(event.kind), event.version) for event in reversed(events) if event.node]


def state_of(server: Node, version: str) -> ModelState | None:
    status = server.status(version)
    return None if status is None else status.state


def memory_bytes(server: Node, model: str) -> int:
    status = server.status("1.0.0", model)
    return 0 if status is None or status.memory_bytes is None else status.memory_bytes


def refusal(server: Node, call: Any) -> RequestError:
    with pytest.raises(RequestError) as caught:
        server.call(call)
    return caught.value
