"""What the control plane reads: the data plane's counters and the supervisor's view of the models."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypedDict

from penstock.core.status import ModelStatus

__all__ = [
    "CostStats",
    "EngineStats",
    "HistogramStats",
    "ModelsSource",
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
    """Counters of one ring since the server started; rows_queued is what waits now."""

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
    batches_by_reason: dict[str, int]
    rows_by_class: dict[str, int]
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


@dataclass(frozen=True, slots=True)
class ServerState:
    """Everything the control plane's resources may look at."""

    stats: StatsSource
    models: ModelsSource
    log_records_dropped: Callable[[], int]
