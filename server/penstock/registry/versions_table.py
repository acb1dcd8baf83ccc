"""Versions as rows of the database, and back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeAlias, TypeVar

from penstock.registry.events import count, micros, moment
from penstock.registry.manifest import canonical, parse_manifest
from penstock.registry.records import Metadata, VersionRecord
from penstock.store import Row, Statements, clean

__all__ = ["Tensors", "changed_since", "delete", "insert", "names_of", "one", "removed_since", "touch"]

_T = TypeVar("_T")

# (name, dtype, shape of a row) each.
Tensors: TypeAlias = Sequence[tuple[str, str, tuple[int | None, ...]]]

_COLUMNS = (
    "model, version, digest, bytes, backend, registered_at, registered_by, metadata, settings, inputs, outputs, "
    "load_seconds, memory_bytes, loaded_backend, contract"
)
# Versions with their aliases, a row each: one statement sees one state, two would see an alias at both of its places
# or at none while it moves.
_WITH_ALIASES = (
    "SELECT " + ", ".join(f"versions.{column}" for column in _COLUMNS.split(", ")) + ", aliases.alias FROM versions "
    "LEFT JOIN aliases ON aliases.model = versions.model AND aliases.version = versions.version"
)


async def changed_since(statements: Statements, change: int) -> list[VersionRecord]:
    """Return the versions that changed after a change, in no order, without their manifests and cards."""
    return _records(
        await statements.fetch(f"{_WITH_ALIASES} WHERE versions.changed > ? ORDER BY aliases.alias", change)
    )


async def removed_since(statements: Statements, change: int) -> list[tuple[str, str]]:
    """Return (model, version) of what was removed after a change."""
    rows = await statements.fetch("SELECT model, version FROM removed_versions WHERE changed > ?", change)
    return [(model, version) for model, version in rows]


async def touch(statements: Statements, model: str, *versions: str | None) -> None:
    """Say, in a transaction, that a list shows something else of versions now."""
    change = await count(statements, "listing")
    for version in versions:
        await statements.execute(
            "UPDATE versions SET changed = ? WHERE model = ? AND version = ?", change, model, version
        )


async def one(statements: Statements, model: str, version: str) -> VersionRecord | None:
    """Return a version with everything that is known of it."""
    rows = await statements.fetch(
        f"{_WITH_ALIASES} WHERE versions.model = ? AND versions.version = ? ORDER BY aliases.alias", model, version
    )
    content = await statements.fetch_one(
        "SELECT manifest, card FROM contents WHERE model = ? AND version = ?", model, version
    )
    if not rows or content is None:
        return None
    (record,) = _records(rows)
    return dataclasses.replace(
        record,
        manifest=parse_manifest(content[0]),
        metadata=dataclasses.replace(record.metadata, card=content[1]),
    )


async def names_of(statements: Statements, model: str) -> list[str]:
    """Return the names of a model's versions, in no order."""
    return [row[0] for row in await statements.fetch("SELECT version FROM versions WHERE model = ?", model)]


async def insert(statements: Statements, record: VersionRecord) -> None:
    """Add a version, in a transaction."""
    values = (
        record.model,
        record.version,
        record.digest,
        record.bytes,
        record.backend,
        micros(record.registered_at),
        record.registered_by,
        _metadata_text(record.metadata),
        json.dumps(record.settings),
        json.dumps(record.inputs),
        json.dumps(record.outputs),
    )
    await statements.execute(
        f"INSERT INTO versions ({_COLUMNS}, changed) "
        "VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL, NULL, NULL, ?)",
        *(*values, await count(statements, "listing")),
    )
    await statements.execute(
        "INSERT INTO contents (model, version, manifest, card) VALUES (?, ?, ?, ?)",
        *(record.model, record.version, canonical(record.manifest).decode(), clean(record.metadata.card)),
    )


async def delete(statements: Statements, model: str, version: str) -> None:
    """Take a version out, in a transaction, and keep what its name stood for."""
    await statements.execute(
        "INSERT INTO removed_versions (model, version, digest, changed) "
        "SELECT model, version, digest, CAST(? AS BIGINT) FROM versions WHERE model = ? AND version = ?",
        *(await count(statements, "listing"), model, version),
    )
    await statements.execute("DELETE FROM versions WHERE model = ? AND version = ?", model, version)


def _metadata_text(metadata: Metadata) -> str:
    said = {
        field.name: getattr(metadata, field.name)
        for field in dataclasses.fields(metadata)
        if field.name != "card" and getattr(metadata, field.name)
    }
    return json.dumps({name: dict(value) if isinstance(value, Mapping) else value for name, value in said.items()})


def _records(rows: Sequence[Row]) -> list[VersionRecord]:
    aliases: dict[tuple[str, str], tuple[str, ...]] = {}
    versions: dict[tuple[str, str], Sequence[Any]] = {}
    for *row, alias in rows:
        name = (row[0], row[1])
        versions[name] = row
        aliases[name] = (*aliases.get(name, ()), alias) if alias is not None else ()
    # Most versions have a column of JSON in common with another: each text is read once.
    read: dict[tuple[object, str], Any] = {}
    return [_record(row, read, aliases[name]) for name, row in versions.items()]


def _record(row: Sequence[Any], read: dict[tuple[object, str], Any], aliases: tuple[str, ...]) -> VersionRecord:
    model, version, digest, size, backend, at, by, metadata, settings, inputs, outputs, *loaded, contract = row
    return VersionRecord(
        model,
        version,
        digest,
        size,
        moment(at),
        by,
        backend,
        _once(read, metadata, _metadata),
        _once(read, settings, dict),
        (),
        aliases,
        _once(read, inputs, _tensors),
        _once(read, outputs, _tensors),
        *loaded,
        *((None, None) if contract is None else _once(read, contract, _contract)),
    )


def _once(read: dict[tuple[object, str], Any], text: str, make: Callable[[Any], _T]) -> _T:
    made: _T | None = read.get((make, text))
    if made is None:
        made = read[make, text] = make(json.loads(text))
    return made


def _contract(document: dict[str, Any]) -> tuple[frozenset[str], frozenset[str]]:
    return frozenset(document["optional"]), frozenset(document["nullable"])


def _metadata(document: dict[str, Any]) -> Metadata:
    if "tags" in document:
        document["tags"] = tuple(document["tags"])
    return Metadata(**document)


def _tensors(document: Sequence[Any]) -> tuple[tuple[str, str, tuple[int | None, ...]], ...]:
    return tuple([(name, dtype, tuple(shape)) for name, dtype, shape in document])
