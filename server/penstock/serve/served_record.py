"""The record that clients send to a model with a plan, as the supervisor keeps it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.core.config import ModelConfig
from penstock.core.errors import ModelLoadError
from penstock.core.status import Tensor
from penstock.processing.described import (
    Description,
    described,
    digest_of,
    fields_of,
    rooms_of,
    shown_schema,
    takes_empty,
)
from penstock.processing.plan import read_plan
from penstock.processing.plan_files import find_plan
from penstock.processing.record import Record

__all__ = ["ServedRecord", "served_record"]


@dataclass(frozen=True, slots=True)
class ServedRecord:
    """What the ring is made with (`description`, and `rooms` for texts and pictures), and what others may know."""

    description: Description
    rooms: Sequence[tuple[str, int]]
    schema: Mapping[str, Any]
    fields: tuple[Tensor, ...]
    optional: frozenset[str]
    nullable: frozenset[str]
    texts: frozenset[str]


def served_record(config: ModelConfig, digest: str) -> ServedRecord:
    """Return the record of a model, of which a worker told the digest; ModelLoadError when it cannot be served.

    It is read here, not told by the worker, which runs a user's code.
    """
    path = Path(config.path)
    file = find_plan(path)
    record = None if file is None else read_plan(file).record
    if record is None or digest_of(record) != digest:
        raise ModelLoadError(
            f"the plan of the model at {path} has changed while it was loaded: restore it, or load the model again"
        )
    return ServedRecord(
        described(record),
        _rooms(config, record),
        shown_schema(record),
        fields_of(record),
        optional=frozenset(field.name for field in record.fields if not field.required),
        nullable=frozenset(field.name for field in record.fields if field.nullable),
        texts=frozenset(field.name for field in record.fields if takes_empty(field)),
    )


def _rooms(config: ModelConfig, record: Record) -> list[tuple[str, int]]:
    """Return the rooms for texts and pictures of a row: what a record promises, unless the model says how much.

    ModelLoadError when two rows of it are more than the ring may have.
    """
    if config.string_bytes_max:
        return []
    rooms = rooms_of(record)
    if 2 * sum(rooms.values()) > config.queue_bytes:
        widest = max(rooms, key=lambda name: rooms[name])
        raise ModelLoadError(
            f"the record's texts and pictures may have {sum(rooms.values())} bytes a row, 4 for each character of "
            f"maxLength, and two rows have to fit into queue_bytes ({config.queue_bytes}): bound {widest!r} by a lower "
            "maxLength, raise queue_bytes, or say with string_bytes_max how many bytes of each are taken"
        )
    return list(rooms.items())
