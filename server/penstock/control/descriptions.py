"""Models, versions, aliases, events and keys as the JSON that clients see."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any, cast

from penstock.control.state import CostStats, RingStats, is_known
from penstock.core.status import ModelState, ModelStatus, Origin, Tensor
from penstock.registry.records import AliasRecord, EventRecord, KeyRecord, Metadata, VersionRecord

__all__ = [
    "alias_change",
    "details",
    "event",
    "key",
    "metadata",
    "moment",
    "registration",
    "summary",
    "summary_of_registered",
    "version_in_memory",
    "version_registered",
]

# Counters of a ring that mean something to whoever serves a model.
_COUNTERS = (
    "rows_claimed",
    "rows_ok",
    "rows_failed",
    "rows_queued",
    "claims_refused",
    "deadline_exceeded",
    "rows_shed",
    "rows_refused_deadline",
    "padded_rows",
    "batches_done",
)


def summary(status: ModelStatus) -> dict[str, object]:
    """Return a version that this server has or had in memory, in short."""
    return {
        "name": status.config.name,
        "version": status.config.version,
        "latest": status.latest,
        "state": status.state,
        "backend": status.backend,
        "origin": status.origin,
        "digest": status.digest,
        "aliases": list(status.aliases),
    }


def summary_of_registered(record: VersionRecord, *, latest: bool) -> dict[str, object]:
    """Return a version that the registry knows and this server has not loaded, in short."""
    return {
        "name": record.model,
        "version": record.version,
        "latest": latest,
        "state": _state(record),
        "backend": _backend(record),
        "origin": Origin.REGISTRY,
        "digest": record.digest,
        "aliases": list(record.aliases),
    }


def _state(record: VersionRecord) -> ModelState:
    return ModelState.REGISTERED if record.load_seconds is None else ModelState.UNLOADED


def version_in_memory(
    status: ModelStatus,
    record: VersionRecord | None,
    ring: RingStats | None,
    cost_of: Callable[[int, int], Mapping[str, Any]],
) -> dict[str, object]:
    """Return everything about a version that this server has or had in memory."""
    config = status.config
    # One for each length bucket, the longest last.
    costs = [] if ring is None else [_cost(cost_of(ring["ring"], each)) for each in range(len(config.lengths) or 1)]
    return {
        "version": config.version,
        "latest": status.latest,
        "state": status.state,
        "detail": status.detail,
        "backend": status.backend,
        "origin": status.origin,
        "aliases": list(status.aliases),
        "inputs": _tensors(status.inputs),
        "record": status.record,
        "outputs": _tensors(status.outputs, status.units),
        "batching": _batching(status),
        "limits": {"queue_bytes": config.queue_bytes, "intra_op_threads": config.intra_op_threads},
        "on_worker_death": _on_worker_death(status),
        "memory_bytes": status.memory_bytes,
        "workers": [
            {"worker": worker.worker, "pid": worker.pid, "state": worker.state, "restarts": worker.restarts}
            for worker in status.workers
        ],
        "cost": costs[-1] if costs else None,
        "cost_by_length": [
            {"length": length, **cost} for length, cost in zip(config.lengths, costs, strict=False) if cost is not None
        ],
        "counters": None if ring is None else {name: cast(dict[str, Any], ring)[name] for name in _COUNTERS},
        "cache": None if ring is None or config.cache_ttl_s == 0 else _cache(config.cache_ttl_s, ring),
        "registration": None if record is None else registration(record),
    }


def version_registered(record: VersionRecord, *, latest: bool) -> dict[str, object]:
    """Return everything about a version that this server has not loaded: what only a server knows is null."""
    return {
        "version": record.version,
        "latest": latest,
        "state": _state(record),
        "detail": None,
        "backend": _backend(record),
        "origin": Origin.REGISTRY,
        "aliases": list(record.aliases),
        "inputs": _tensors(record.inputs),
        "record": None,
        "outputs": _tensors(record.outputs),
        "batching": None,
        "limits": None,
        "on_worker_death": None,
        "memory_bytes": record.memory_bytes,
        "workers": [],
        "cost": None,
        "cost_by_length": [],
        "counters": None,
        "cache": None,
        "registration": registration(record),
    }


def registration(record: VersionRecord) -> dict[str, object]:
    """Return what the registry keeps of a version, without its files and its card, which may be long."""
    return {
        "digest": record.digest,
        "bytes": record.bytes,
        "registered_at": moment(record.registered_at),
        "registered_by": record.registered_by,
        "backend": record.backend,
        "metadata": metadata(record.metadata),
        "settings": dict(record.settings),
        "load_seconds": record.load_seconds,
    }


def details(record: VersionRecord) -> dict[str, object]:
    """Return what is told of a version only when it alone is asked for: its files and its card."""
    return {
        "files": [{"path": entry.path, "bytes": entry.bytes, "sha256": entry.sha256} for entry in record.manifest],
        "card": record.metadata.card,
    }


def metadata(given: Metadata) -> dict[str, object]:
    """Return what people say about a version."""
    return {
        "description": given.description,
        "owner": given.owner,
        "tags": list(given.tags),
        "framework": given.framework,
        "training_data": given.training_data,
        "metrics": dict(given.metrics),
        "lineage": dict(given.lineage),
        "environment": dict(given.environment),
    }


def alias_change(record: AliasRecord) -> dict[str, object]:
    """Return one change of an alias."""
    return {
        "name": record.model,
        "alias": record.alias,
        "version": record.version,
        "previous": record.previous,
        "at": moment(record.at),
        "by": record.by,
        "reason": record.reason,
    }


def event(record: EventRecord) -> dict[str, object]:
    """Return something that happened to a model."""
    return {
        "number": record.number,
        "at": moment(record.at),
        "version": record.version,
        "kind": record.kind,
        "by": record.by,
        "node": record.node,
        "detail": record.detail,
    }


def key(record: KeyRecord) -> dict[str, object]:
    """Return a key as far as anybody may see it."""
    return {
        "id": record.id,
        "name": record.name,
        "role": record.role,
        "created_at": moment(record.created_at),
        "created_by": record.created_by,
        "revoked_at": None if record.revoked_at is None else moment(record.revoked_at),
    }


def moment(at: datetime) -> str:
    """Write a moment as RFC 3339 has it, in UTC."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")


def _backend(record: VersionRecord) -> str | None:
    # Which one `auto` stands for is known once a worker has looked at the files.
    return None if record.backend == "auto" else record.backend


def _batching(status: ModelStatus) -> dict[str, object]:
    config = status.config
    # What the ring made of the wish: queue_bytes may not hold two batches of the size that was asked for.
    most = status.max_batch_size or config.max_batch_size
    return {
        "max_batch_size": most,
        "batch_sizes": [size for size in config.batch_sizes if size <= most],
        "reproducible_batch_size": min(config.reproducible_rows, most),
        "lengths": list(config.lengths),
        "max_batch_tokens": config.max_batch_tokens,
        "max_queue_delay_us": config.max_queue_delay_us,
        "slo_ms": config.slo_ms,
        "weight": config.weight,
        "group": config.group,
        "instances": config.instances,
    }


def _cost(read: Mapping[str, Any]) -> dict[str, object] | None:
    cost = cast(CostStats, read)
    if not is_known(cost):
        return None
    curve = zip(cost["rows"], cost["mean_seconds"], cost["p99_seconds"], strict=True)
    return {
        "curve": [{"rows": rows, "mean_seconds": mean, "p99_seconds": p99} for rows, mean, p99 in curve],
        "fixed_seconds": cost["fixed_seconds"],
        "per_row_seconds": cost["per_row_seconds"],
        "samples": cost["samples"],
        "error_p95": cost["error_p95"],
        "off_share": cost["off_share"],
        "alarm": cost["alarm"],
    }


def _cache(ttl_s: int, ring: RingStats) -> dict[str, object]:
    return {
        "ttl_s": ttl_s,
        "hits": ring["cache_hits"],
        "misses": ring["cache_misses"],
        "coalesced": ring["cache_coalesced"],
        "evictions": ring["cache_evictions"],
        "rows": ring["cache_rows"],
        "bytes": ring["cache_bytes"],
    }


def _on_worker_death(status: ModelStatus) -> str | None:
    if status.rerun_on_worker_death is not None:
        return "rerun" if status.rerun_on_worker_death else "fail"
    return status.config.on_worker_death


def _tensors(tensors: Sequence[Tensor], units: Mapping[str, str] | None = None) -> list[dict[str, object]]:
    described: list[dict[str, object]] = []
    for name, dtype, shape in tensors:
        unit = {"unit": units[name]} if units and name in units else {}
        described.append({"name": name, "dtype": dtype, "shape": list(shape), **unit})
    return described
