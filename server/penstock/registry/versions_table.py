"""Versions as rows of the database, and back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeAlias

from penstock.registry.events import micros, moment
from penstock.registry.manifest import canonical, parse_manifest
from penstock.registry.records import Metadata, VersionRecord
from penstock.registry.versions import version_key
from penstock.store import Row, Statements, clean

__all__ = ["Tensors", "delete", "insert", "listed", "names_of", "one"]

# (name, dtype, shape of a row) each.
Tensors: TypeAlias = Sequence[tuple[str, str, tuple[int | None, ...]]]

_COLUMNS = (
    "model, version, digest, bytes, backend, registered_at, registered_by, metadata, settings, inputs, outputs, "
    "load_seconds, memory_bytes, loaded_backend"
)


async def listed(statements: Statements, model: str | None) -> list[VersionRecord]:
    """Return versions by model in ascending order, without their manifests and cards.

    Two queries whatever their number, and one text of JSON for what all rows have of it.
    """
    where, values = ("WHERE model = ?", (model,)) if model is not None else ("", ())
    rows = await statements.fetch(f"SELECT {_COLUMNS} FROM versions {where}", *values)
    pointing = await statements.fetch(f"SELECT model, version, alias FROM aliases {where} ORDER BY alias", *values)
    records = _records(rows, pointing)
    records.sort(key=lambda record: (record.model, version_key(record.version)))
    return records


async def one(statements: Statements, model: str, version: str) -> VersionRecord | None:
    """Return a version with everything that is known of it."""
    row = await statements.fetch_one(f"SELECT {_COLUMNS} FROM versions WHERE model = ? AND version = ?", model, version)
    content = await statements.fetch_one(
        "SELECT manifest, card FROM contents WHERE model = ? AND version = ?", model, version
    )
    if row is None or content is None:
        return None
    pointing = await statements.fetch(
        "SELECT model, version, alias FROM aliases WHERE model = ? AND version = ? ORDER BY alias", model, version
    )
    (record,) = _records([row], pointing)
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
        f"INSERT INTO versions ({_COLUMNS}) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL, NULL)", *values
    )
    await statements.execute(
        "INSERT INTO contents (model, version, manifest, card) VALUES (?, ?, ?, ?)",
        *(record.model, record.version, canonical(record.manifest).decode(), clean(record.metadata.card)),
    )


async def delete(statements: Statements, model: str, version: str, at: int) -> None:
    """Take a version out, in a transaction, and keep what its name stood for."""
    await statements.execute(
        "INSERT INTO removed_versions (model, version, digest, at) "
        "SELECT model, version, digest, CAST(? AS BIGINT) FROM versions WHERE model = ? AND version = ?",
        *(at, model, version),
    )
    await statements.execute("DELETE FROM versions WHERE model = ? AND version = ?", model, version)


def _metadata_text(metadata: Metadata) -> str:
    said = {
        field.name: getattr(metadata, field.name)
        for field in dataclasses.fields(metadata)
        if field.name != "card" and getattr(metadata, field.name)
    }
    return json.dumps({name: dict(value) if isinstance(value, Mapping) else value for name, value in said.items()})


def _records(rows: Sequence[Row], pointing: Iterable[Row]) -> list[VersionRecord]:
    aliases: dict[tuple[str, str], tuple[str, ...]] = {}
    for model, version, alias in pointing:
        aliases[model, version] = (*aliases.get((model, version), ()), alias)
    # One call for all rows: a parser that is called for each takes three times as long.
    documents: list[list[Any]] = json.loads(
        f"[{','.join([f'[{row[7]},{row[8]},{row[9]},{row[10]}]' for row in rows])}]"
    )
    return [
        _record(row, document, aliases.get((row[0], row[1]), ())) for row, document in zip(rows, documents, strict=True)
    ]


def _record(row: Row, document: Sequence[Any], aliases: tuple[str, ...]) -> VersionRecord:
    model, version, digest, size, backend, registered_at, registered_by, _, _, _, _, *loaded = row
    metadata, settings, inputs, outputs = document
    if "tags" in metadata:
        metadata["tags"] = tuple(metadata["tags"])
    return VersionRecord(
        model,
        version,
        digest,
        size,
        moment(registered_at),
        registered_by,
        backend,
        Metadata(**metadata),
        settings,
        (),
        aliases,
        _tensors(inputs),
        _tensors(outputs),
        *loaded,
    )


def _tensors(document: Sequence[Any]) -> tuple[tuple[str, str, tuple[int | None, ...]], ...]:
    return tuple([(name, dtype, tuple(shape)) for name, dtype, shape in document])
