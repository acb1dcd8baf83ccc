"""Naming content: how a version comes to be, so that a crash at any point leaves it whole or absent."""

from __future__ import annotations

import asyncio
import dataclasses
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path

from penstock.core.config import ModelConfig
from penstock.core.errors import ConfigError, RequestError
from penstock.core.settings import settings_of
from penstock.core.sources import registered_model
from penstock.registry import versions_table
from penstock.registry.artefacts import ArtefactStore
from penstock.registry.events import append, micros, now
from penstock.registry.folder import Staged
from penstock.registry.manifest import ArtefactError, members_of
from penstock.registry.records import EventKind, EventRecord, Metadata, VersionRecord
from penstock.registry.versions import EXPECTED, highest, is_version, next_minor, version_key
from penstock.store import Database, Statements, clean

__all__ = ["Registration", "collect_garbage", "register"]

_MODEL_NAME = settings_of(ModelConfig)["name"].kind
# Uploading content takes no longer. What has not been named after that is collected.
LEASE = timedelta(days=1)


@dataclass(frozen=True, slots=True)
class Registration:
    """What is to be registered, as the caller says it."""

    model: str
    version: str | None
    backend: str
    metadata: Metadata
    settings: Mapping[str, object]
    by: str

    def check(self) -> None:
        """Raise RequestError for a name, version or setting that cannot be."""
        try:
            _MODEL_NAME.parse(self.model, text=True)
        except ValueError:
            raise RequestError(
                "invalid_input", f"{self.model!r} cannot name a model: expected {_MODEL_NAME.expected}"
            ) from None
        if self.version is not None and not is_version(self.version):
            raise RequestError("invalid_input", f"{self.version!r} is no version: expected {EXPECTED}")
        try:
            registered_model(self.model, self.version or "1", Path("artefact"), self.backend, self.settings)
        except ConfigError as error:
            raise RequestError("invalid_input", str(error)) from error


async def register(
    database: Database, artefacts: ArtefactStore, source: Path, wanted: Registration
) -> tuple[VersionRecord, bool]:
    """Copy an artefact into the store and name it; whether that made a version.

    Content comes first, its name last, in one transaction. In between a lease says that somebody needs it.
    """
    wanted.check()
    try:
        members = await asyncio.to_thread(members_of, source)
        async with artefacts.stage(members) as staged:
            return await _name(database, artefacts, staged, wanted)
    except ArtefactError as error:
        raise RequestError("invalid_input", f"the artefact cannot be registered: {error}") from error


async def _name(
    database: Database, artefacts: ArtefactStore, staged: Staged, wanted: Registration
) -> tuple[VersionRecord, bool]:
    token = secrets.token_hex(16)
    async with database.transaction() as transaction:
        present = await _present(transaction, wanted, staged.digest)
        if present is not None:
            return present, False
        await transaction.execute(
            "INSERT INTO leases (token, digest, at) VALUES (?, ?, ?)", token, staged.digest, micros(now())
        )
    try:
        await artefacts.keep(staged)
        async with database.transaction() as transaction:
            await _end_lease(transaction, token)
            # Somebody else may have registered meanwhile.
            present = await _present(transaction, wanted, staged.digest)
            return (present, False) if present is not None else (await _insert(transaction, staged, wanted), True)
    except BaseException:
        await database.execute("DELETE FROM leases WHERE token = ?", token)
        raise


async def _end_lease(transaction: Statements, token: str) -> None:
    if await transaction.fetch_one("SELECT token FROM leases WHERE token = ?", token) is None:
        raise RequestError(
            "conflict", f"storing the artefact took longer than {LEASE.days} day and was given up: register it again"
        )
    await transaction.execute("DELETE FROM leases WHERE token = ?", token)


async def _present(transaction: Statements, wanted: Registration, digest: str) -> VersionRecord | None:
    """Return the version if it is registered with the same content; RequestError (`conflict`) if with another."""
    names = await versions_table.names_of(transaction, wanted.model)
    if wanted.version is None:
        return await _same_as_highest(transaction, wanted, digest, names)
    for name in names:
        if name != wanted.version and version_key(name) == version_key(wanted.version):
            raise RequestError(
                "conflict", f"version {wanted.version} of {wanted.model!r} is the same as {name}, which exists"
            )
    if wanted.version not in names:
        await _refuse_other_past(transaction, wanted, digest)
        return None
    present = await versions_table.one(transaction, wanted.model, wanted.version)
    assert present is not None
    if present.digest != digest:
        raise RequestError(
            "conflict",
            f"version {wanted.version} of {wanted.model!r} exists with other content ({present.digest[:12]}, not "
            f"{digest[:12]}): a version never changes, register a new one",
        )
    if (present.backend, present.settings) != (wanted.backend, wanted.settings):
        raise RequestError(
            "conflict",
            f"version {wanted.version} of {wanted.model!r} exists with another backend or other settings: a version "
            "never changes, register a new one",
        )
    return present


async def _same_as_highest(
    transaction: Statements, wanted: Registration, digest: str, names: list[str]
) -> VersionRecord | None:
    """Return the highest version if it is the same: a caller that tries again does not make another."""
    last = highest(names)
    present = await versions_table.one(transaction, wanted.model, last) if last is not None else None
    if present is None:
        return None
    same = (present.digest, present.backend, present.settings) == (digest, wanted.backend, wanted.settings)
    return present if same else None


async def _refuse_other_past(transaction: Statements, wanted: Registration, digest: str) -> None:
    row = await transaction.fetch_one(
        "SELECT digest FROM removed_versions WHERE model = ? AND version = ?", wanted.model, wanted.version
    )
    if row is not None and row[0] != digest:
        raise RequestError(
            "conflict",
            f"version {wanted.version} of {wanted.model!r} had other content before it was removed: the history "
            "means that by it, so choose another name",
        )


async def _insert(transaction: Statements, staged: Staged, wanted: Registration) -> VersionRecord:
    version = wanted.version
    if version is None:
        gone = await transaction.fetch("SELECT version FROM removed_versions WHERE model = ?", wanted.model)
        present = await versions_table.names_of(transaction, wanted.model)
        version = next_minor([*present, *(row[0] for row in gone)])
    else:
        await transaction.execute("DELETE FROM removed_versions WHERE model = ? AND version = ?", wanted.model, version)
    record = VersionRecord(
        model=wanted.model,
        version=version,
        digest=staged.digest,
        bytes=staged.bytes,
        registered_at=now(),
        registered_by=clean(wanted.by),
        backend=wanted.backend,
        metadata=dataclasses.replace(wanted.metadata, card=clean(wanted.metadata.card)),
        settings=dict(wanted.settings),
        manifest=staged.manifest,
    )
    await versions_table.insert(transaction, record)
    event = EventRecord(0, record.registered_at, record.model, version, EventKind.REGISTERED, wanted.by)
    await append(transaction, dataclasses.replace(event, detail=f"content {staged.digest}"))
    return record


async def collect_garbage(database: Database, artefacts: ArtefactStore) -> int:
    """Remove content that no version and no lease names, and what killed processes left; how many contents went.

    Each goes inside a transaction, so nobody can begin to need it meanwhile.
    """
    await artefacts.clean()
    count = 0
    present = await artefacts.digests()
    # What has a name is left alone without a transaction, which all others would have to wait for.
    known = {row[0] for row in await database.fetch("SELECT DISTINCT digest FROM versions")}
    for digest in (digest for digest in present if digest not in known):
        async with database.transaction() as transaction:
            await transaction.execute("DELETE FROM leases WHERE at < ?", micros(now() - LEASE))
            named = await transaction.fetch_one("SELECT 1 FROM versions WHERE digest = ? LIMIT 1", digest)
            leased = await transaction.fetch_one("SELECT 1 FROM leases WHERE digest = ? LIMIT 1", digest)
            if named is None and leased is None:
                await artefacts.discard(digest)
                count += 1
    return count
