"""Bringing registered versions into memory, and letting them go: budget, limits, and what is said about failures."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from penstock.core.config import ModelConfig
from penstock.core.errors import (
    ConfigError,
    LoadStalledError,
    ModelLoadError,
    RegistryUnavailableError,
    RequestError,
    StartError,
)
from penstock.core.settings import format_size
from penstock.core.sources import registered_model
from penstock.core.status import ModelState, ModelStatus
from penstock.registry.records import EventKind, VersionRecord
from penstock.serve.lifecycle.journal import Journal
from penstock.serve.lifecycle.residents import Key, Resident, Residents, memory_of

if TYPE_CHECKING:
    from penstock.registry.registry import Registry
    from penstock.serve.supervisor import Supervisor

__all__ = ["Failure", "Loader"]

_log = logging.getLogger("penstock.lifecycle")

# What a version is thought to take that was never loaded: its files in memory, and the interpreter with its libraries.
_PROCESS_BYTES = 64 << 20
# How long a version that could not be loaded is left alone, unless somebody asks for it; for want of time or room each
# further time twice as long.
RETRY_SECONDS = 60.0
RETRY_SECONDS_MAX = 3600.0


@dataclass(frozen=True, slots=True)
class Failure:
    """Why a version is not in memory though it should be.

    It may be `passing`: the store of the artefacts was away, or the machine too busy. A model that is broken stays so,
    and is not tried again unless something changes.
    """

    status: ModelStatus
    at: float
    passing: bool
    retry_s: float

    @property
    def is_fresh(self) -> bool:
        """Whether another try is not due yet."""
        return time.monotonic() - self.at < self.retry_s


class Loader:
    """Loads versions beside each other, as many at a time as there are CPUs. Used on one loop."""

    def __init__(
        self,
        registry: Registry,
        supervisor: Supervisor,
        journal: Journal,
        *,
        defaults: Mapping[str, object],
        budget: int,
    ) -> None:
        self._registry = registry
        self._supervisor = supervisor
        self._journal = journal
        self._defaults = defaults
        self._budget = budget
        self._making_room = asyncio.Lock()
        self._turns = asyncio.Semaphore(len(os.sched_getaffinity(0)))
        self.residents = Residents()
        self.failures: dict[Key, Failure] = {}

    async def bring(self, record: VersionRecord, by: str) -> Resident:
        """See to it that a version is in memory and ready; RequestError load_failed says why it is not."""
        resident = self.residents.get((record.model, record.version))
        if resident is not None:
            resident.standby_until = None
            resident.used_at = time.monotonic()
            resident.pinned = True  # until it is settled: nobody else's need may take away what is about to answer
            return resident
        async with self._turns:
            await self._journal.note(record, EventKind.LOADING, by)
            try:
                return await self._load(record, by)
            except (StartError, ConfigError, RequestError) as error:
                # Only the log may say where an artefact was: anybody may ask what became of a model.
                reason = error.detail if isinstance(error, RequestError) else str(error)
                _log.error("not loaded", extra={"model": record.model, "version": record.version, "reason": str(error)})
                await self._fail(record, reason, by, error)
                where = f"model {record.model!r} version {record.version!r}"
                raise RequestError("load_failed", f"{where} cannot be served: {reason}") from error

    async def _load(self, record: VersionRecord, by: str) -> Resident:
        started = time.monotonic()
        path = await self._registry.fetch(record)
        config = registered_model(record.model, record.version, path, record.backend, record.settings, self._defaults)
        config = replace(config, content_digest=record.digest)
        if self._budget:
            # Until it is known what it takes: the next one must find it among those that share the budget.
            async with self._making_room:
                await self._make_room(record, by)
                resident, status = await self._add(record, config)
        else:
            resident, status = await self._add(record, config)
        await self._journal.note_loaded(record, status, time.monotonic() - started, resident.memory_bytes)
        await self._journal.note(record, EventKind.READY, by)
        return resident

    async def _add(self, record: VersionRecord, config: ModelConfig) -> tuple[Resident, ModelStatus]:
        status = await asyncio.wrap_future(self._supervisor.add(config))
        resident = Resident(record, await asyncio.to_thread(memory_of, status), pinned=True)
        self.residents.put(resident)
        self.failures.pop(resident.key, None)
        return resident, status

    async def _make_room(self, record: VersionRecord, by: str) -> None:
        needed = record.memory_bytes or record.bytes + _PROCESS_BYTES
        while True:
            leaving = self.residents.to_make_room(needed, self._budget)
            held = sum(resident.memory_bytes for resident in self.residents if resident not in leaving)
            if held and held + needed > self._budget:  # then nobody leaves for nothing
                raise ModelLoadError(
                    f"it needs about {format_size(needed)} and memory_budget_bytes ({format_size(self._budget)}) has "
                    f"{format_size(max(0, self._budget - held))} left: unload a model, load some lazily, or raise it"
                )
            if not leaving:
                return
            # One by one: while it answers what it has, another one may become what is needed.
            await self.let_go(leaving[0], by, "it made room")

    async def _fail(self, record: VersionRecord, reason: str, by: str, error: Exception) -> None:
        stalled = isinstance(error, LoadStalledError)
        passing = stalled or isinstance(error, RegistryUnavailableError)
        config = ModelConfig(name=record.model, version=record.version, path=Path(record.model))
        status = ModelStatus(config=config, state=ModelState.FAILED, latest=False, detail=reason)
        key = (record.model, record.version)
        before = self.failures.get(key)
        retry_s = RETRY_SECONDS
        if stalled and before is not None:  # people who are impatient make it no longer
            retry_s = before.retry_s if before.is_fresh else min(2 * before.retry_s, RETRY_SECONDS_MAX)
        self.failures[key] = Failure(status, time.monotonic(), passing, retry_s)
        await self._journal.note(record, EventKind.FAILED, by, reason)

    async def let_go(self, resident: Resident, by: str, why: str = "") -> None:
        """Let a version answer what it has, and free its memory."""
        self.residents.drop(resident.key)
        await asyncio.wrap_future(self._supervisor.remove(*resident.key))
        await self._journal.note(resident.record, EventKind.UNLOADED, by, why)
