"""All versions in memory, kept current by what changed since the last look."""

from __future__ import annotations

import asyncio
from itertools import chain

from penstock.registry import versions_table
from penstock.registry.events import counted
from penstock.registry.records import VersionRecord
from penstock.registry.versions import version_key
from penstock.store import Database

__all__ = ["Listing"]


class Listing:
    """The list of versions.

    Reading ten thousand from a database, and their JSON, takes a tenth of a second and more. What changed since the
    last list, whoever changed it, is a few rows.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._versions: dict[str, dict[str, VersionRecord]] = {}
        # The same, sorted; what changed is missing.
        self._sorted: dict[str, list[VersionRecord]] = {}
        self._seen = 0
        self._looking = asyncio.Lock()

    async def of(self, model: str) -> list[VersionRecord]:
        """Return the versions of a model, ascending."""
        await self._look()
        return list(self._ascending(model)) if model in self._versions else []

    async def all(self) -> list[VersionRecord]:
        """Return all versions, by model and ascending."""
        await self._look()
        return list(chain.from_iterable(self._ascending(model) for model in sorted(self._versions)))

    def _ascending(self, model: str) -> list[VersionRecord]:
        if model not in self._sorted:
            versions = self._versions.get(model, {})
            self._sorted[model] = [versions[name] for name in sorted(versions, key=version_key)]
        return self._sorted[model]

    async def _look(self) -> None:
        async with self._looking:
            # The counter first, removals next: what changes in between is seen now, or again with the next look.
            change = await counted(self._database, "listing")
            if change == self._seen:
                return
            for model, version in await versions_table.removed_since(self._database, self._seen):
                self._versions.get(model, {}).pop(version, None)
                self._sorted.pop(model, None)
            for record in await versions_table.changed_since(self._database, self._seen):
                self._versions.setdefault(record.model, {})[record.version] = record
                self._sorted.pop(record.model, None)
            self._versions = {model: versions for model, versions in self._versions.items() if versions}
            self._seen = change
