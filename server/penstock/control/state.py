"""What the control plane works with: counters, models, the registry and whoever loads what it decides."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol, TypedDict

from penstock.control.bridge import AsyncBridge
from penstock.core.models import Mirror
from penstock.core.status import ModelStatus
from penstock.registry.records import (
    UNSET,
    AliasRecord,
    EventRecord,
    KeyRecord,
    Metadata,
    ModelRecord,
    Role,
    Unset,
    VersionRecord,
)

__all__ = [
    "CostStats",
    "EngineStats",
    "HistogramStats",
    "Lifecycle",
    "ModelsSource",
    "RegistrySource",
    "RingStats",
    "ServerState",
    "StatsSource",
    "is_known",
]


class HistogramStats(TypedDict):
    """Counts per bucket, not cumulative; one more count than bounds, the last for everything above them."""

    bounds: list[float]
    counts: list[int]
    sum: float


class RingStats(TypedDict):
    """Counters of one ring since the server started; rows_queued, cache_rows and cache_bytes are now.

    `batches_by_size`: (rows, batches of so many, nanoseconds from being taken to being done, of these the model's own).
    """

    ring: int
    model: str
    version: str
    rows_claimed: int
    claims_refused: int
    bell_rings: int
    batches_done: int
    partial_takes_held: int
    lost_wakeups: int
    rows_queued: int
    rows_ok: int
    rows_failed: int
    deadline_exceeded: int
    rows_shed: int
    rows_refused_deadline: int
    rows_cancelled: int
    padded_rows: int
    cache_hits: int
    cache_hit_ns: int
    cache_misses: int
    cache_miss_ns: int
    cache_coalesced: int
    cache_evictions: int
    cache_rows: int
    cache_bytes: int
    batches_by_reason: dict[str, int]
    rows_by_class: dict[str, int]
    batches_by_size: list[tuple[int, int, int, int]]
    histograms: dict[str, HistogramStats]


class CostStats(TypedDict):
    """What a model's batches cost, as learned so far: the curve at `rows`, and a + c b that fits it best.

    `error_p95`: by how much of itself a run time was mispredicted, at the 95th percentile. `off_share`: the share of
    batches that were off by more than the alarm's threshold.
    """

    rows: list[int]
    mean_seconds: list[float]
    p99_seconds: list[float]
    fixed_seconds: float
    per_row_seconds: float
    samples: int
    error_p95: float
    off_share: float
    alarm: bool


def is_known(cost: CostStats) -> bool:
    """Whether anything is known of what the batches cost: without a warm-up nothing is until some have run."""
    return any(cost["mean_seconds"])


class SecondLevelStats(TypedDict):
    """Counters of the second level of the result cache; `up` says whether it is asked now."""

    hits: int
    misses: int
    timeouts: int
    failures: int
    invalid: int
    skipped: int
    writes: int
    writes_lost: int
    up: bool


class EngineStats(TypedDict):
    """What Engine.stats() returns."""

    ready: bool
    draining: bool
    connections: dict[str, int]
    responses: dict[str, int]
    body_pool: dict[str, int]
    loop: dict[str, int]
    control: dict[str, int]
    refusal_seconds: HistogramStats
    tap: dict[str, int]
    second_level: SecondLevelStats | None
    rings: list[RingStats]


class StatsSource(Protocol):
    """Where counters come from: the engine. Called on the hub, so it must not wait."""

    def stats(self) -> Mapping[str, Any]:
        """Return the counters as EngineStats describes them."""

    def cost(self, ring: int, bucket: int = 0) -> Mapping[str, Any]:
        """Return what the batches of a ring's length bucket cost as CostStats describes it."""


class ModelsSource(Protocol):
    """Who knows the models: the supervisor. Called on the hub, so it must not wait."""

    def models(self) -> Sequence[ModelStatus]:
        """Return every model version that the server was told to serve."""


class RegistrySource(Protocol):
    """The registry as the control plane asks it. Coroutines for the bridge's loop; RequestError for what cannot be."""

    async def register(
        self,
        name: str,
        source: Path,
        *,
        version: str | None = None,
        backend: str = "auto",
        metadata: Metadata = ...,
        settings: Mapping[str, object] = ...,
        by: str,
    ) -> tuple[VersionRecord, bool]:
        """Copy a file or folder into the store as a version; whether that made one."""

    async def models(self) -> list[ModelRecord]:
        """Return every registered model."""

    async def versions(self, name: str | None = None) -> list[VersionRecord]:
        """Return the versions, without their manifests and cards."""

    async def version(self, name: str, ref: str | None = None) -> VersionRecord:
        """Return what a version, an alias or nothing at all stands for."""

    async def history(
        self, name: str, *, at: datetime | None = None, limit: int = 100, before: int | None = None
    ) -> list[EventRecord]:
        """Return what happened, the newest first; with `at`, what answered then on each server."""

    async def create_key(self, name: str, role: Role, *, by: str) -> tuple[KeyRecord, str]:
        """Make a key; its text is known to nobody afterwards."""

    async def keys(self) -> list[KeyRecord]:
        """Return the keys, revoked ones too."""

    async def revoke_key(self, id: str, *, by: str) -> KeyRecord:
        """Let a key open nothing any more."""


class Lifecycle(Protocol):
    """Who brings about what the registry decides, on this server. Coroutines for the bridge's loop; RequestError."""

    async def load(self, name: str, ref: str | None, *, lazy: bool, by: str) -> None:
        """Have a version in memory: at once, and return when it is ready, or lazily from the first request for it."""

    async def unload(self, name: str, ref: str | None, *, by: str) -> None:
        """Take a version out of memory once its requests are answered; without `ref` all of the model's."""

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

    async def rollback(self, name: str, *, by: str, reason: str = "") -> str:
        """Let the version answer that did before; which one that is."""

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

    async def remove(self, name: str, version: str | None, *, by: str) -> None:
        """Take a version, or the whole model, out of the registry."""

    async def keys_changed(self) -> None:
        """Give the data plane the keys as they are now."""


@dataclass(frozen=True, slots=True)
class ServerState:
    """Everything the control plane's resources may look at and act through.

    `registry` and `lifecycle` are None when the registry could not be opened, for `registry_failure`. `uploads` is the
    folder that uploaded artefacts are unpacked in. `fast_path` is the data plane's private socket; without one
    nothing is streamed.
    """

    stats: StatsSource
    models: ModelsSource
    log_records_dropped: Callable[[], int]
    tap_counts: Callable[[], Mapping[str, int]] | None = None
    registry: RegistrySource | None = None
    lifecycle: Lifecycle | None = None
    bridge: AsyncBridge | None = None
    registry_failure: str = "this server was started without one"
    development: bool = False
    uploads: Path | None = None
    fast_path: Path | None = None
