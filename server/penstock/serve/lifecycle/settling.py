"""Making this server be as the registry wants it, model by model: load, flip the routes, let go."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING

from penstock.core.errors import RequestError
from penstock.core.status import ModelStatus, Origin
from penstock.registry.records import EventKind, VersionRecord
from penstock.serve.lifecycle.journal import Journal
from penstock.serve.lifecycle.loading import Loader
from penstock.serve.lifecycle.residents import Key
from penstock.serve.lifecycle.view import ModelView, routes_of, views_of
from penstock.serve.routes import Route

if TYPE_CHECKING:
    from penstock.registry.registry import Registry
    from penstock.serve.supervisor import Supervisor

__all__ = ["Settler"]

_log = logging.getLogger("penstock.lifecycle")


@dataclass(frozen=True, slots=True)
class _Fact:
    """What the registry adds to the status of a version."""

    digest: str
    memory_bytes: int
    aliases: tuple[str, ...]
    answering: bool


class Settler:
    """Who loads, routes and lets go. Used on one loop, under the model's lock; statuses() on any thread."""

    def __init__(
        self, registry: Registry, supervisor: Supervisor, loader: Loader, journal: Journal, standby_s: float
    ) -> None:
        self._registry = registry
        self._supervisor = supervisor
        self._loader = loader
        self._journal = journal
        self._standby_s = standby_s
        self._routes: dict[str, tuple[Route, ...]] = {}
        self._facts: Mapping[Key, _Fact] = {}
        self.answering: dict[str, VersionRecord] = {}  # to requests that name no version

    @property
    def routed(self) -> set[str]:
        """The models that have routes."""
        return set(self._routes)

    async def settle(self, name: str, by: str) -> None:
        """Load what is wanted, flip the routes, let go of the rest. The caller has the model's lock."""
        view = await self.view(name)
        await self._load_wanted(view, by)
        before = self.answering.get(name)
        await self._flip(view, before, by)
        await self._retire(view, by)
        self._renew_facts(view)

    async def _load_wanted(self, view: ModelView, by: str) -> None:
        for key, failed in list(self._loader.failures.items()):
            if key[0] == view.name and key[1] not in view.to_load:  # whoever asks for it has it tried again
                self._loader.failures[key] = replace(failed, passing=False)
        for version in sorted(view.to_load):
            key = (view.name, version)
            failure = self._loader.failures.get(key)
            if key in self._loader.residents or (failure is not None and failure.is_fresh):
                continue
            try:
                await self._loader.bring(await self._registry.version(view.name, version), by)
            except RequestError as error:
                _log.warning("wanted and not loaded", extra={"model": view.name, "reason": str(error)})

    async def _flip(self, view: ModelView, before: VersionRecord | None, by: str) -> None:
        present = {resident.record.version: resident for resident in self._loader.residents.of_model(view.name)}
        latest = view.latest
        after = before
        if latest is None:
            after = None
        elif latest in present:
            after = present[latest].record
        elif latest in view.lazy or before is None or before.version not in present:
            after = await self._registry.version(view.name, latest)  # its requests are told that it is not there
        routes = tuple(routes_of(view, None if after is None else after.version))
        if routes == self._routes.get(view.name, ()):
            return
        self._routes[view.name] = routes
        if not routes:
            del self._routes[view.name]
        flipped_at = await self._publish()
        if after is not None:
            self.answering[view.name] = after
        else:
            self.answering.pop(view.name, None)
        if before is not None and (after is None or after.version != before.version):
            await self._journal.note(before, EventKind.INACTIVE, by, at=flipped_at)
        if after is not None and (before is None or after.version != before.version):
            await self._journal.note(after, EventKind.ACTIVE, by, at=flipped_at)

    async def _retire(self, view: ModelView, by: str) -> None:
        """Let go of what is not wanted any more; what answered before stays as a standby for a while."""
        answering = self.answering.get(view.name)
        for resident in self._loader.residents.of_model(view.name):
            version = resident.record.version
            resident.pinned = version in view.to_load
            if version in view.wanted or (answering is not None and version == answering.version):
                resident.standby_until = None
            elif not view.wanted:
                resident.standby_until = time.monotonic()  # nobody can roll back to it
            elif resident.standby_until is None:
                resident.standby_until = time.monotonic() + self._standby_s
        for resident in self._loader.residents.past_standby():
            if resident.record.model == view.name:
                await self._loader.let_go(resident, by)

    async def _publish(self) -> datetime:
        routes = [route for each in self._routes.values() for route in each]
        return await asyncio.wrap_future(self._supervisor.route(routes))

    # --- what is known ------------------------------------------------------------------------------------------------

    async def view(self, name: str) -> ModelView:
        """Return what the registry wants of a model."""
        wanted = [each for each in await self._registry.wanted() if each.model == name]
        aliases = await self._registry.aliases(name)
        return views_of(wanted, {name: aliases}).get(name, ModelView(name, aliases))

    def statuses(self, configured: frozenset[str]) -> list[ModelStatus]:
        """Return every version that this server has, or should have, in memory.

        `configured` are models that are no business of the registry.
        """
        facts = self._facts
        statuses = []
        for status in self._supervisor.models():
            fact = facts.get((status.config.name, status.config.version))
            if fact is None:
                registered = status.config.name not in configured
                statuses.append(replace(status, origin=Origin.REGISTRY) if registered else status)
                continue
            statuses.append(
                replace(
                    status,
                    latest=fact.answering,
                    digest=fact.digest,
                    aliases=fact.aliases,
                    memory_bytes=fact.memory_bytes,
                    origin=Origin.REGISTRY,
                )
            )
        present = {(status.config.name, status.config.version) for status in statuses}
        failed = [failure.status for key, failure in list(self._loader.failures.items()) if key not in present]
        return statuses + [replace(status, origin=Origin.REGISTRY) for status in failed]

    def _renew_facts(self, view: ModelView) -> None:
        aliases: defaultdict[str, list[str]] = defaultdict(list)
        for alias, version in view.aliases.items():
            aliases[version].append(alias)
        facts = {key: fact for key, fact in self._facts.items() if key[0] != view.name}
        answering = self.answering.get(view.name)
        for resident in self._loader.residents.of_model(view.name):
            version = resident.record.version
            facts[resident.key] = _Fact(
                resident.record.digest,
                resident.memory_bytes,
                tuple(sorted(aliases[version])),
                answering is not None and answering.version == version,
            )
        self._facts = facts
