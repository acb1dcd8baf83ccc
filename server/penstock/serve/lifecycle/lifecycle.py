"""The registered models of this server: loaded, proven, routed and let go as the registry and administrators want it.

Everything runs on one asyncio loop. What concerns a model is done one thing after the other, under its lock: registry
first (what is decided must survive a crash), then this server.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from penstock.core.errors import RegistryUnavailableError, RequestError
from penstock.core.models import Mirror
from penstock.core.status import ModelState, ModelStatus
from penstock.registry.records import CHAMPION, UNSET, AliasRecord, EventKind, Unset, VersionRecord, WantedMode
from penstock.registry.versions import version_key
from penstock.serve.lifecycle.journal import Journal
from penstock.serve.lifecycle.loading import Loader
from penstock.serve.lifecycle.proving import prove
from penstock.serve.lifecycle.residents import Key
from penstock.serve.lifecycle.schema_changes import known_schema, refuse_changes, schema_of
from penstock.serve.lifecycle.settling import Settler

if TYPE_CHECKING:
    from penstock.native._dataplane import Engine
    from penstock.registry.registry import Registry
    from penstock.serve.supervisor import Supervisor

__all__ = ["LifecycleOptions", "RegistryLifecycle"]

_log = logging.getLogger("penstock.lifecycle")


@dataclass(frozen=True, slots=True)
class LifecycleOptions:
    """Who this server is, and the settings of penstock.core.config.ServerConfig that concern registered models.

    `configured` are the names of the models that the configuration serves: they are no business of the registry.
    """

    node: str
    configured: frozenset[str] = frozenset()
    defaults: Mapping[str, object] = field(default_factory=dict)
    standby_s: float = 300.0
    memory_budget_bytes: int = 0
    require_key: bool = False
    development: bool = False


@dataclass(frozen=True, slots=True)
class _Wish:
    """How a version is to become the champion, and who says so."""

    by: str
    reason: str = ""
    mirror: Mirror | None = None
    expected: str | Unset | None = UNSET
    allow_schema_change: bool = False


class RegistryLifecycle:
    """See penstock.control.state.Lifecycle. models() may be called by any thread."""

    def __init__(self, registry: Registry, supervisor: Supervisor, engine: Engine, options: LifecycleOptions) -> None:
        self._registry = registry
        self._supervisor = supervisor
        self._engine = engine
        self._options = options
        self._journal = Journal(registry, options.node)
        self._loader = Loader(
            registry,
            supervisor,
            self._journal,
            defaults=options.defaults,
            budget=options.memory_budget_bytes,
        )
        self._locks: defaultdict[str, asyncio.Lock] = defaultdict(asyncio.Lock)
        self._bringing: set[Key] = set()
        self._settler = Settler(registry, supervisor, self._loader, self._journal, options.standby_s)

    # --- what administrators ask for ----------------------------------------------------------------------------------

    async def load(self, name: str, ref: str | None, *, lazy: bool, by: str) -> None:
        """Have a version in memory: at once, and return when it is ready, or lazily from the first request for it."""
        async with self._locks[name]:
            record = await self._record(name, ref)
            if not lazy:
                await self._loader.bring(record, by)
            mode = WantedMode.LAZY if lazy else WantedMode.LOADED
            await self._registry.set_wanted(name, record.version, mode, by=by)
            await self._settler.settle(name, by)

    async def unload(self, name: str, ref: str | None, *, by: str) -> None:
        """Take a version out of memory once its requests are answered; without `ref` all of the model's."""
        async with self._locks[name]:
            self._refuse_configured(name)
            view = await self._settler.view(name)
            leaving = view.wanted if ref is None else frozenset({(await self._record(name, ref)).version})
            if ref is not None and view.aliases.get(CHAMPION) in leaving and view.wanted != leaving:
                raise RequestError(
                    "conflict",
                    f"version {view.aliases[CHAMPION]!r} is the champion of model {name!r} and other versions are "
                    "loaded: promote another one first, or unload the whole model",
                )
            for version in sorted(leaving):
                await self._registry.set_wanted(name, version, None, by=by)
            for resident in self._loader.residents.of_model(name):
                if ref is None or resident.record.version in leaving:
                    resident.standby_until = time.monotonic()
            await self._settler.settle(name, by)

    async def promote(
        self,
        name: str,
        ref: str,
        *,
        by: str,
        reason: str = "",
        mirror: Mirror | None = None,
        allow_schema_change: bool = False,
    ) -> None:
        """Load a version beside the one that answers, prove it, and let it answer.

        `conflict` for one whose inputs or outputs would break clients of that one, unless they may change.
        """
        async with self._locks[name]:
            record = await self._record(name, ref)
            await self._promote(record, _Wish(by, reason, mirror, allow_schema_change=allow_schema_change))

    async def rollback(self, name: str, *, by: str, reason: str = "") -> str:
        """Let the version answer that did before; which one that is."""
        async with self._locks[name]:
            self._refuse_configured(name)
            # First: it says below whether another server has moved the champion since.
            before = (await self._settler.view(name)).aliases.get(CHAMPION)
            record = await self._registry.version(name, await self._registry.before(name))
            # A version that cannot be loaded any more must not become the champion.
            await self._loader.bring(record, by)
            self._refuse_unless(record, ModelState.READY, ModelState.RESTARTING)
            await self._registry.rollback(name, by=by, reason=reason, expected=before, loaded=True)
            await self._settle_decided(name, by)
            return record.version

    async def set_alias(
        self,
        name: str,
        alias: str,
        ref: str | None,
        *,
        by: str,
        reason: str = "",
        expected: str | Unset | None = UNSET,
        allow_schema_change: bool = False,
    ) -> AliasRecord:
        """Point an alias to a version, or take it away; the champion moves as promote() moves it."""
        async with self._locks[name]:
            record = await self._record(name, ref) if ref is not None else None
            if alias == CHAMPION and record is not None:
                wish = _Wish(by, reason, expected=expected, allow_schema_change=allow_schema_change)
                return await self._promote(record, wish)
            self._refuse_configured(name)
            version = None if record is None else record.version
            changed = await self._registry.set_alias(name, alias, version, by=by, reason=reason, expected=expected)
            await self._settler.settle(name, by)
            return changed

    async def remove(self, name: str, version: str | None, *, by: str) -> None:
        """Take a version, or the whole model, out of the registry."""
        async with self._locks[name]:
            await self._registry.remove(name, version, by=by)
            for resident in self._loader.residents.of_model(name):
                if version is None or resident.record.version == version:
                    resident.standby_until = time.monotonic()
            for key in [key for key in self._loader.failures if key[0] == name and version in (None, key[1])]:
                del self._loader.failures[key]
            await self._settler.settle(name, by)
        await self._registry.collect_garbage()

    async def promote_if_higher(self, record: VersionRecord, *, by: str) -> None:
        """Let a version answer, unless a higher one does or it did before: then somebody has rolled back from it."""
        async with self._locks[record.model]:
            self._refuse_configured(record.model)
            champion = (await self._settler.view(record.model)).aliases.get(CHAMPION)
            changes = await self._registry.alias_changes(record.model, CHAMPION, limit=1000)
            if any(change.version == record.version for change in changes):
                return
            if champion is None or version_key(champion) < version_key(record.version):
                await self._promote(record, _Wish(by, "the highest version of the repository folder"))

    async def keys_changed(self) -> None:
        """Give the data plane the keys as they are now."""
        keys = [(key.id, key.hash, str(key.role)) for key in await self._registry.keys() if key.revoked_at is None]
        self._engine.set_keys(keys, require_key=self._options.require_key, development=self._options.development)

    async def _promote(self, record: VersionRecord, wish: _Wish) -> AliasRecord:
        by = wish.by
        if not wish.allow_schema_change:  # where enough is known, before anything is loaded for nothing
            champion = (await self._settler.view(record.model)).aliases.get(CHAMPION)
            await self._refuse_schema_change(record, champion)
        former = self._loader.residents.get((record.model, record.version))
        kept = None if former is None else (former.pinned, former.standby_until)
        resident = await self._loader.bring(record, by)
        view = await self._settler.view(record.model)
        before = view.aliases.get(CHAMPION)
        try:
            if not wish.allow_schema_change:
                await self._refuse_schema_change(record, before)
            if wish.mirror is not None:
                await self._prove(record, wish.mirror, by)
            if before != record.version:
                self._refuse_unless(record, ModelState.READY)
            changed = await self._make_champion(record, wish, before)
        except RequestError:
            if kept is not None:
                resident.pinned, resident.standby_until = kept  # a rollback may need it
            elif record.version not in view.wanted:
                resident.pinned, resident.standby_until = False, time.monotonic()  # it was loaded for this alone
            raise
        await self._settle_decided(record.model, by)
        return changed

    async def _settle_decided(self, name: str, by: str) -> None:
        """Do what the registry has just been told; if it cannot be asked now, that is done when it can be again."""
        try:
            await self._settler.settle(name, by)
        except RegistryUnavailableError as error:
            _log.warning("decided, and not done yet", extra={"model": name, "reason": str(error)})

    async def _make_champion(self, record: VersionRecord, wish: _Wish, before: str | None) -> AliasRecord:
        """Move the champion away from `before`, with which the version was compared, and from nothing else."""
        expected = before if isinstance(wish.expected, Unset) else wish.expected
        now = (await self._registry.aliases(record.model)).get(CHAMPION)
        if now == record.version and isinstance(wish.expected, Unset):
            expected = now  # another server has promoted the same version meanwhile
        return await self._registry.set_alias(
            record.model, CHAMPION, record.version, by=wish.by, reason=wish.reason, expected=expected, loaded=True
        )

    async def _refuse_schema_change(self, record: VersionRecord, champion: str | None) -> None:
        """Refuse to let a version answer that would break clients of the one that does."""
        answering = self._settler.answering.get(record.model)
        version = champion or (None if answering is None else answering.version)
        if version is None or version == record.version:
            return
        loaded = self._status(record.model, record.version)
        after = schema_of(loaded) if loaded is not None else None
        if (after is None or not after.outputs) and record.optional is not None:
            after = known_schema(record)
        if after is None or not after.outputs:
            return
        present = self._status(record.model, version)
        before = schema_of(present) if present is not None else None
        if before is None or not before.outputs:  # another server has it, or one had it
            before = known_schema(await self._registry.version(record.model, version))
        if before is not None:
            refuse_changes(record, after, version, before)

    def _status(self, name: str, version: str) -> ModelStatus | None:
        found = (
            each for each in self._supervisor.models() if (each.config.name, each.config.version) == (name, version)
        )
        return next(found, None)

    def _refuse_unless(self, record: VersionRecord, *states: ModelState) -> None:
        """Refuse to let a version answer whose workers have died since it was loaded."""
        status = self._status(record.model, record.version)
        if status is not None and status.state not in states:
            raise RequestError(
                "load_failed",
                f"model {record.model!r} version {record.version!r} was loaded, but its workers have died "
                f"({status.detail or 'nothing says why'}); what was served before is served on",
            )

    async def _prove(self, record: VersionRecord, mirror: Mirror, by: str) -> None:
        answering = self._settler.answering.get(record.model)
        if answering is not None and answering.version == record.version:
            raise RequestError("conflict", f"version {record.version!r} answers already: there is nothing to compare")
        rings = {(status.config.name, status.config.version): status.ring for status in self._supervisor.models()}
        live = None if answering is None else rings.get((record.model, answering.version))
        shadow = rings.get((record.model, record.version))
        if live is None or shadow is None:
            raise RequestError(
                "conflict", f"model {record.model!r} answers nothing at the moment, so there is no traffic to mirror"
            )
        try:
            await prove(self._engine, live, shadow, mirror)
        except RequestError as error:
            await self._journal.note(record, EventKind.FAILED, by, error.detail)
            raise

    # --- what the registry wants --------------------------------------------------------------------------------------

    async def settle_all(self, by: str) -> None:
        """Do what the registry wants, model by model; failures are noted, and tried again later."""
        names = {wanted.model for wanted in await self._registry.wanted()} | self._settler.routed
        await asyncio.gather(*(self._settle_one(name, by) for name in sorted(names)))

    async def _settle_one(self, name: str, by: str) -> None:
        if name in self._options.configured:
            return
        async with self._locks[name]:
            await self._settler.settle(name, by)

    # --- in the background --------------------------------------------------------------------------------------------

    async def retry_failures(self) -> None:
        """Try to load again what could not be for a reason that may have passed."""
        due = [key for key, failure in self._loader.failures.items() if failure.passing and not failure.is_fresh]
        names = sorted({name for name, _ in due})
        await asyncio.gather(*(self._settle_one(name, self._options.node) for name in names))

    async def expire_standbys(self) -> None:
        """Let go of versions that nobody rolled back to."""
        for name in {resident.record.model for resident in self._loader.residents.past_standby()}:
            await self._settle_one(name, self._options.node)

    async def bring_missed(self, missed: Iterable[Key]) -> None:
        """Load what requests have asked for and that is to be loaded lazily."""
        for key in missed:
            # Until it is there every further request for it is a miss, too: one load answers them all.
            if key in self._bringing:
                continue
            self._bringing.add(key)
            try:
                await self._bring_missed(*key)
            finally:
                self._bringing.discard(key)

    async def _bring_missed(self, name: str, ref: str) -> None:
        async with self._locks[name]:
            try:
                record = await self._record(name, ref)
                failure = self._loader.failures.get((name, record.version))
                if failure is not None and failure.is_fresh:
                    return  # whoever may predict must not have a server do nothing else than fail to load
                await self._loader.bring(record, self._options.node)
            except RequestError as error:
                _log.warning("asked for and not loaded", extra={"model": name, "reason": str(error)})
            await self._settler.settle(name, self._options.node)

    def note_use(self, rows_claimed: Mapping[Key, int]) -> None:
        """Take note of which versions are used: the others make room first."""
        self._loader.residents.note_use(rows_claimed)

    async def flush(self) -> None:
        """Write what could not be written to the registry before."""
        await self._journal.flush()

    async def leave(self) -> None:
        """Record that this server answers for nothing any more."""
        for record in self._settler.answering.values():
            await self._journal.note(record, EventKind.INACTIVE, self._options.node, "the server stopped")

    # --- what is known ------------------------------------------------------------------------------------------------

    def models(self) -> list[ModelStatus]:
        """Return every version that this server has, or should have, in memory."""
        return self._settler.statuses(self._options.configured)

    async def _record(self, name: str, ref: str | None) -> VersionRecord:
        self._refuse_configured(name)
        return await self._registry.version(name, ref)

    def _refuse_configured(self, name: str) -> None:
        if name in self._options.configured:
            raise RequestError(
                "conflict",
                f"model {name!r} belongs to this server's configuration: change it there, or register under another "
                "name",
            )
