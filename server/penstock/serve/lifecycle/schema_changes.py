"""What clients of one version would miss in another."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from penstock.core.errors import RequestError
from penstock.core.status import ModelStatus, Tensor
from penstock.registry.records import VersionRecord

__all__ = ["Schema", "known_schema", "refuse_changes", "schema_of"]

_CHANGES_MAX = 8


@dataclass(frozen=True, slots=True)
class Schema:
    """What clients send and get. Inputs in `optional` may be absent, those in `nullable` null."""

    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    optional: frozenset[str] = frozenset()
    nullable: frozenset[str] = frozenset()


def schema_of(status: ModelStatus) -> Schema:
    """Return the schema of a version that is loaded."""
    return Schema(status.inputs, status.outputs, status.optional, status.nullable)


def known_schema(record: VersionRecord) -> Schema | None:
    """Return what the registry knows of a version's schema, from whoever loaded it last; None before that."""
    if not record.outputs:
        return None
    return Schema(record.inputs, record.outputs, record.optional or frozenset(), record.nullable or frozenset())


def refuse_changes(record: VersionRecord, after: Schema, version: str, before: Schema) -> None:
    """Raise RequestError (`conflict`) if the version of `record` would break clients of `version`, which answers."""
    changes = [*_changes(before, after)]
    if not changes:
        return
    more = len(changes) - _CHANGES_MAX
    told = "; ".join([*changes[:_CHANGES_MAX], *([f"and {more} more"] if more > 0 else [])])
    raise RequestError(
        "conflict",
        f"version {record.version} of {record.model!r} would break clients of {version}, which answers now: {told}. "
        "Set allow_schema_change to let it answer all the same",
    )


def _changes(before: Schema, after: Schema) -> Iterator[str]:
    present, wanted = _by_name(before.inputs), _by_name(after.inputs)
    yield from _missing("input", present, wanted)
    for name in wanted:
        if name not in present:
            if name not in after.optional:
                yield f"input {name!r} is new, and has to be sent"
            continue
        if name in before.optional - after.optional:
            yield f"input {name!r} may no longer be absent"
        if name in before.nullable - after.nullable:
            yield f"input {name!r} may no longer be null"
    yield from _missing("output", _by_name(before.outputs), _by_name(after.outputs))


def _missing(what: str, present: Mapping[str, str], wanted: Mapping[str, str]) -> Iterator[str]:
    for name, kind in present.items():
        if name not in wanted:
            yield f"{what} {name!r} is gone"
        elif wanted[name] != kind:
            yield f"{what} {name!r} is {wanted[name]}, and was {kind}"


def _by_name(tensors: tuple[Tensor, ...]) -> dict[str, str]:
    return {
        name: f"{dtype} [{', '.join('?' if size is None else str(size) for size in shape)}]"
        for name, dtype, shape in tensors
    }
