"""The registry: what there is, what names point to, what is wanted, who may administer."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from datetime import datetime
from itertools import groupby
from pathlib import Path

from penstock.core.errors import RegistryUnavailableError, RequestError
from penstock.registry import aliases, events, keys, registration, versions_table
from penstock.registry.artefacts import ArtefactStore, open_artefacts
from penstock.registry.folder import DamagedError
from penstock.registry.listing import Listing
from penstock.registry.records import (
    CHAMPION,
    UNSET,
    AliasRecord,
    EventKind,
    EventRecord,
    KeyRecord,
    Metadata,
    ModelRecord,
    Role,
    Unset,
    VersionRecord,
    Wanted,
    WantedMode,
)
from penstock.registry.versions import highest, version_key
from penstock.registry.versions_table import Tensors
from penstock.store import Database, Statements, open_database

__all__ = ["Registry"]

_LATEST = "latest"
_HISTORY_MAX = 10_000


class Registry:
    """Models, versions, aliases, keys and their history, over a database and a store of artefacts.

    For the coroutines of one loop; several processes may have the same registry open. Every method raises
    RegistryUnavailableError when database or artefacts cannot be used, and RequestError when what it is asked for
    cannot be: `model_not_found`, `version_not_found`, `conflict`, `invalid_input`.
    """

    def __init__(self, database: Database, artefacts: ArtefactStore) -> None:
        self._database = database
        self._artefacts = artefacts
        self._listing = Listing(database)

    @classmethod
    async def open(cls, store: str, artefacts: str, cache: Path) -> Registry:
        """Open the database at a URL, brought to the present schema, and the artefacts in a folder or at a URL.

        `cache` is a folder for copies of artefacts that lie elsewhere. ConfigError for a URL that means nothing.
        """
        database = await open_database(store)
        try:
            return cls(database, await open_artefacts(artefacts, cache))
        except BaseException:
            await database.close()
            raise

    async def close(self) -> None:
        """Give the database back."""
        await self._database.close()

    # ---- versions ----------------------------------------------------------------------------------------------------

    async def register(
        self,
        name: str,
        source: Path,
        *,
        version: str | None = None,
        backend: str = "auto",
        metadata: Metadata | None = None,
        settings: Mapping[str, object] | None = None,
        by: str,
    ) -> tuple[VersionRecord, bool]:
        """Copy a file or folder into the store and name it as a version; whether that made one.

        Without `version` it is the minor release after the highest one, unless that is the same already. The same
        content, backend and settings under a version that exists are that version, whose metadata stays; anything
        else under it is a `conflict`.
        """
        wanted = registration.Registration(name, version, backend, metadata or Metadata(), dict(settings or {}), by)
        return await registration.register(self._database, self._artefacts, source, wanted)

    async def models(self) -> list[ModelRecord]:
        """Return all models by name."""
        return [
            ModelRecord(
                model,
                tuple(record.version for record in versions),
                dict(sorted((alias, record.version) for record in versions for alias in record.aliases)),
            )
            for model, group in groupby(await self._listing.all(), key=lambda record: record.model)
            for versions in (list(group),)
        ]

    async def versions(self, name: str | None = None) -> list[VersionRecord]:
        """Return the versions of a model, or of all, ascending; without manifests and cards."""
        if name is None:
            return await self._listing.all()
        found = await self._listing.of(name)
        if not found:
            raise _no_model(name)
        return found

    async def version(self, name: str, ref: str | None = None) -> VersionRecord:
        """Return what a version's name or an alias stands for; for None and "latest" the champion, else the highest."""
        return await _resolve(self._database, name, ref)

    async def remove(self, name: str, version: str | None, *, by: str) -> None:
        """Take a version out, or all of the model; `conflict` while an alias points to one or it is wanted."""
        async with self._database.transaction() as transaction:
            names = await versions_table.names_of(transaction, name)
            if not names:
                raise _no_model(name)
            if version is not None and version not in names:
                raise _no_version(name, version)
            for gone in sorted(names, key=version_key) if version is None else [version]:
                await _refuse_in_use(transaction, name, gone)
                await versions_table.delete(transaction, name, gone)
                await events.append(transaction, EventRecord(0, events.now(), name, gone, EventKind.REMOVED, by))

    async def note_loaded(
        self,
        model: str,
        version: str,
        *,
        inputs: Tensors,
        outputs: Tensors,
        load_seconds: float,
        memory_bytes: int | None,
        backend: str,
        optional: Collection[str] = (),
        nullable: Collection[str] = (),
    ) -> None:
        """Keep what is known of a version since a server has loaded it."""
        async with self._database.transaction() as transaction:
            await transaction.execute(
                "UPDATE versions SET inputs = ?, outputs = ?, load_seconds = ?, memory_bytes = ?, loaded_backend = ?, "
                "contract = ? WHERE model = ? AND version = ?",
                *(json.dumps(inputs), json.dumps(outputs), float(load_seconds), memory_bytes, backend),
                *(json.dumps({"optional": sorted(optional), "nullable": sorted(nullable)}), model, version),
            )
            await versions_table.touch(transaction, model, version)

    # ---- aliases and what is wanted ----------------------------------------------------------------------------------

    async def set_alias(
        self,
        name: str,
        alias: str,
        version: str | None,
        *,
        by: str,
        reason: str = "",
        expected: str | Unset | None = UNSET,
        loaded: bool = False,
    ) -> AliasRecord:
        """Point an alias to a version, or take it away with None.

        With `expected` only if it points there now, or nowhere for None; `conflict` otherwise. With `loaded` that
        version is wanted in memory from then on, and the one before no more: all of it or nothing.
        """
        aliases.check_alias(alias)
        async with self._database.transaction() as transaction:
            await _check_exists(transaction, name, version)
            wanted = aliases.Change(name, alias, version, by, reason)
            return await _change(transaction, wanted, expected, loaded=loaded)

    async def before(self, name: str, *, alias: str = CHAMPION) -> str:
        """Return the version that rollback() would go to; `conflict` when there is none."""
        await _check_exists(self._database, name, None)
        version, _ = await aliases.before_present(self._database, name, alias)
        return version

    async def rollback(
        self,
        name: str,
        *,
        by: str,
        alias: str = CHAMPION,
        reason: str = "",
        expected: str | Unset | None = UNSET,
        loaded: bool = False,
    ) -> AliasRecord:
        """Point an alias to what it pointed to before.

        Rollbacks in a row go further back, one change each. `conflict` when there is nothing before, or when that
        version has been removed. `expected` and `loaded` are as in set_alias().
        """
        async with self._database.transaction() as transaction:
            await _check_exists(transaction, name, None)
            version, restores = await aliases.before_present(transaction, name, alias)
            if version not in await versions_table.names_of(transaction, name):
                raise RequestError(
                    "conflict",
                    f"alias {alias!r} of {name!r} pointed to {version} before, which is removed: set it instead",
                )
            wanted = aliases.Change(name, alias, version, by, reason or "rollback", restores)
            return await _change(transaction, wanted, expected, loaded=loaded)

    async def aliases(self, name: str) -> dict[str, str]:
        """Return where the aliases of a model point; none for a model that is not there."""
        return await aliases.aliases_of(self._database, name)

    async def alias_changes(self, name: str, alias: str, *, limit: int = 100) -> list[AliasRecord]:
        """Return the changes of an alias, the newest first."""
        return await aliases.changes(self._database, name, alias, limit)

    async def wanted(self) -> list[Wanted]:
        """Return what servers are to have in memory."""
        rows = await self._database.fetch("SELECT model, version, mode FROM wanted")
        found = [Wanted(model, version, WantedMode(mode)) for model, version, mode in rows]
        return sorted(found, key=lambda wanted: (wanted.model, version_key(wanted.version)))

    async def set_wanted(self, name: str, version: str, mode: WantedMode | None, *, by: str) -> None:
        """Have a version in memory always or lazily, or, with None, not any more."""
        async with self._database.transaction() as transaction:
            await _check_exists(transaction, name, version)
            await _want(transaction, name, version, mode, by)

    # ---- history -----------------------------------------------------------------------------------------------------

    async def history(
        self, name: str, *, at: datetime | None = None, limit: int = 100, before: int | None = None
    ) -> list[EventRecord]:
        """Return what happened to a model, the newest first, before the event of that number.

        With `at` instead what was active then: for each node the event that made it so. A node that was killed could
        not say that it ended.
        """
        if at is not None:
            return await events.active_at(self._database, name, at)
        return await events.newest(self._database, name, max(1, min(limit, _HISTORY_MAX)), before)

    async def note(
        self,
        model: str,
        version: str | None,
        kind: EventKind,
        *,
        by: str,
        node: str = "",
        detail: str = "",
        at: datetime | None = None,
    ) -> EventRecord:
        """Append what happened on a server, now or at the time given."""
        async with self._database.transaction() as transaction:
            event = EventRecord(0, at or events.now(), model, version, kind, by, node, detail)
            return await events.append(transaction, event)

    async def revision(self) -> int:
        """Return a number that grows with every change that servers follow: versions, aliases, what is wanted, keys."""
        return await events.revision(self._database)

    # ---- artefacts ---------------------------------------------------------------------------------------------------

    async def fetch(self, version: VersionRecord) -> Path:
        """Return a local folder with the files of a version, every one compared with its digest.

        The files are read-only. RegistryUnavailableError when one is missing or not what was registered.
        """
        manifest = version.manifest or (await self.version(version.model, version.version)).manifest
        try:
            return await self._artefacts.fetch(version.digest, manifest)
        except DamagedError as error:
            raise RegistryUnavailableError(
                f"the artefact of {version.model!r} version {version.version} ({version.digest}) is damaged: {error}. "
                "Restore it from a backup, or remove the version and register it again"
            ) from error

    async def collect_garbage(self) -> int:
        """Remove content that nobody names; how many contents that was."""
        return await registration.collect_garbage(self._database, self._artefacts)

    # ---- keys --------------------------------------------------------------------------------------------------------

    async def create_key(self, name: str, role: Role, *, by: str) -> tuple[KeyRecord, str]:
        """Make a key; its text, which is kept nowhere."""
        async with self._database.transaction() as transaction:
            return await keys.create(transaction, name, role, by)

    async def keys(self) -> list[KeyRecord]:
        """Return all keys, revoked ones too, the oldest first."""
        return await keys.everyone(self._database)

    async def revoke_key(self, id: str, *, by: str) -> KeyRecord:
        """Let a key open nothing any more."""
        async with self._database.transaction() as transaction:
            return await keys.revoke(transaction, id, by)


async def _resolve(statements: Statements, name: str, ref: str | None) -> VersionRecord:
    if ref is not None and ref != _LATEST:
        exact = await versions_table.one(statements, name, ref)
        if exact is not None:
            return exact
    names = await versions_table.names_of(statements, name)
    if not names:
        raise _no_model(name)
    pointing = await aliases.aliases_of(statements, name)
    target = pointing.get(CHAMPION) or highest(names) if ref is None or ref == _LATEST else pointing.get(ref)
    found = await versions_table.one(statements, name, target) if target is not None else None
    if target is None:
        raise _no_version(name, ref or _LATEST)
    # It was removed between the queries: then the names mean something else by now.
    return found if found is not None else await _resolve(statements, name, ref)


async def _change(
    transaction: Statements, wanted: aliases.Change, expected: str | Unset | None, *, loaded: bool
) -> AliasRecord:
    before = (await aliases.aliases_of(transaction, wanted.model)).get(wanted.alias)
    record = await aliases.change(transaction, wanted, expected)
    if loaded and wanted.version is not None:
        await _want(transaction, wanted.model, wanted.version, WantedMode.LOADED, wanted.by)
        if before is not None and before != wanted.version:
            await _want(transaction, wanted.model, before, None, wanted.by)
    return record


async def _want(transaction: Statements, model: str, version: str, mode: WantedMode | None, by: str) -> None:
    row = await transaction.fetch_one("SELECT mode FROM wanted WHERE model = ? AND version = ?", model, version)
    present = WantedMode(row[0]) if row is not None else None
    if present is mode:
        return
    await transaction.execute("DELETE FROM wanted WHERE model = ? AND version = ?", model, version)
    if mode is not None:
        await transaction.execute(
            "INSERT INTO wanted (model, version, mode) VALUES (?, ?, ?)", model, version, mode.value
        )
    detail = mode.value if mode is not None else "no more"
    await events.append(transaction, EventRecord(0, events.now(), model, version, EventKind.WANTED, by, detail=detail))


async def _check_exists(statements: Statements, name: str, version: str | None) -> None:
    names = await versions_table.names_of(statements, name)
    if not names:
        raise _no_model(name)
    if version is not None and version not in names:
        raise _no_version(name, version)


async def _refuse_in_use(transaction: Statements, name: str, version: str) -> None:
    pointing = [alias for alias, target in (await aliases.aliases_of(transaction, name)).items() if target == version]
    if pointing:
        raise RequestError(
            "conflict",
            f"version {version} of {name!r} cannot be removed while {', '.join(map(repr, pointing))} points to it: "
            "point the alias elsewhere, or take it away",
        )
    if await transaction.fetch_one("SELECT 1 FROM wanted WHERE model = ? AND version = ?", name, version) is not None:
        raise RequestError(
            "conflict", f"version {version} of {name!r} cannot be removed while it is to be loaded: unload it first"
        )


def _no_model(name: str) -> RequestError:
    return RequestError("model_not_found", f"no model {name!r} is registered")


def _no_version(name: str, ref: str) -> RequestError:
    return RequestError("version_not_found", f"model {name!r} has neither a version nor an alias {ref!r}")
