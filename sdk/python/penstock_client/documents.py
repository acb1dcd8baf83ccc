"""What administration answers, as types. Written from sdk/contract/openapi.yaml by `make sdk-types`."""

from __future__ import annotations

from typing import Any, Literal, TypedDict

__all__ = [
    "Alias",
    "AliasChange",
    "Batching",
    "Cost",
    "CostCurve",
    "Event",
    "History",
    "Key",
    "KeyList",
    "Loading",
    "Model",
    "ModelList",
    "ModelSummary",
    "ModelVersion",
    "ModelVersionCache",
    "ModelVersionLimits",
    "NewKey",
    "OipServer",
    "Registered",
    "RegisteredFiles",
    "Registration",
    "RegistrationMetadata",
    "Removed",
    "TensorSpec",
    "Unloading",
    "Version",
    "VersionCache",
    "VersionFiles",
    "VersionLimits",
    "Worker",
]


class ModelSummary(TypedDict):
    """Model summary, as docs/api.md shows it."""

    name: str
    version: str
    latest: bool
    state: Literal[
        "registered", "loading", "warming", "ready", "restarting", "draining", "unloaded", "failed", "stopped"
    ]
    backend: str | None
    origin: Literal["configuration", "registry"]
    digest: str | None
    aliases: list[str]


class ModelList(TypedDict):
    """Model list, as docs/api.md shows it."""

    models: list[ModelSummary]
    next: str | None
    registry_failure: str | None


class _TensorSpecOptional(TypedDict, total=False):
    """What may be missing."""

    unit: str


class TensorSpec(_TensorSpecOptional):
    """Tensor spec, as docs/api.md shows it."""

    name: str
    dtype: str
    shape: list[int | None]


class Batching(TypedDict):
    """Batching, as docs/api.md shows it."""

    max_batch_size: int
    batch_sizes: list[int]
    reproducible_batch_size: int
    lengths: list[int]
    max_batch_tokens: int
    max_queue_delay_us: int
    slo_ms: int
    weight: int
    group: str | None
    instances: int


class ModelVersionLimits(TypedDict):
    """Model version limits, as docs/api.md shows it."""

    queue_bytes: int
    intra_op_threads: int


class Worker(TypedDict):
    """Worker, as docs/api.md shows it."""

    worker: int
    pid: int | None
    state: Literal["starting", "ready", "backing_off", "quarantine", "stopped"]
    restarts: int


class CostCurve(TypedDict):
    """Cost curve, as docs/api.md shows it."""

    rows: int
    mean_seconds: float
    p99_seconds: float


class Cost(TypedDict):
    """Cost, as docs/api.md shows it."""

    curve: list[CostCurve]
    fixed_seconds: float
    per_row_seconds: float
    samples: int
    error_p95: float
    off_share: float
    alarm: bool


class ModelVersionCache(TypedDict):
    """Model version cache, as docs/api.md shows it."""

    ttl_s: int
    hits: int
    misses: int
    coalesced: int
    evictions: int
    rows: int
    bytes: int


class RegistrationMetadata(TypedDict):
    """Registration metadata, as docs/api.md shows it."""

    description: str
    owner: str
    tags: list[str]
    framework: str
    training_data: str
    metrics: dict[str, float]
    lineage: dict[str, str]
    environment: dict[str, str]


class Registration(TypedDict):
    """Registration, as docs/api.md shows it."""

    digest: str
    bytes: int
    registered_at: str
    registered_by: str
    backend: Literal["auto", "onnx", "torch", "tensorrt", "tensorflow", "sklearn", "xgboost", "mlflow", "python"]
    metadata: RegistrationMetadata
    settings: dict[str, Any]
    load_seconds: float | None


class ModelVersion(TypedDict):
    """Model version, as docs/api.md shows it."""

    version: str
    latest: bool
    state: Literal[
        "registered", "loading", "warming", "ready", "restarting", "draining", "unloaded", "failed", "stopped"
    ]
    detail: str | None
    backend: str | None
    origin: Literal["configuration", "registry"]
    aliases: list[str]
    inputs: list[TensorSpec]
    record: dict[str, Any] | None
    outputs: list[TensorSpec]
    batching: Batching | None
    limits: ModelVersionLimits | None
    on_worker_death: Literal["rerun", "fail"] | None
    memory_bytes: int | None
    workers: list[Worker]
    cost: Cost | None
    cost_by_length: list[dict[str, Any]]
    counters: dict[str, int] | None
    cache: ModelVersionCache | None
    registration: Registration | None


class Model(TypedDict):
    """Model, as docs/api.md shows it."""

    name: str
    aliases: dict[str, str]
    versions: list[ModelVersion]
    registry_failure: str | None


class VersionLimits(TypedDict):
    """Version limits, as docs/api.md shows it."""

    queue_bytes: int
    intra_op_threads: int


class VersionCache(TypedDict):
    """Version cache, as docs/api.md shows it."""

    ttl_s: int
    hits: int
    misses: int
    coalesced: int
    evictions: int
    rows: int
    bytes: int


class VersionFiles(TypedDict):
    """Version files, as docs/api.md shows it."""

    path: str
    bytes: int
    sha256: str


class Version(TypedDict):
    """Version, as docs/api.md shows it."""

    name: str
    version: str
    latest: bool
    state: Literal[
        "registered", "loading", "warming", "ready", "restarting", "draining", "unloaded", "failed", "stopped"
    ]
    detail: str | None
    backend: str | None
    origin: Literal["configuration", "registry"]
    aliases: list[str]
    inputs: list[TensorSpec]
    record: dict[str, Any] | None
    outputs: list[TensorSpec]
    batching: Batching | None
    limits: VersionLimits | None
    on_worker_death: Literal["rerun", "fail"] | None
    memory_bytes: int | None
    workers: list[Worker]
    cost: Cost | None
    cost_by_length: list[dict[str, Any]]
    counters: dict[str, int] | None
    cache: VersionCache | None
    registration: Registration | None
    files: list[VersionFiles]
    card: str


class RegisteredFiles(TypedDict):
    """Registered files, as docs/api.md shows it."""

    path: str
    bytes: int
    sha256: str


class Registered(TypedDict):
    """Registered, as docs/api.md shows it."""

    name: str
    version: str
    registration: Registration
    files: list[RegisteredFiles]
    card: str


class _RemovedOptional(TypedDict, total=False):
    """What may be missing."""

    version: str


class Removed(_RemovedOptional):
    """Removed, as docs/api.md shows it."""

    name: str
    removed: Literal[True]


class Loading(TypedDict):
    """Loading, as docs/api.md shows it."""

    name: str
    version: str | None
    lazy: bool


class Unloading(TypedDict):
    """Unloading, as docs/api.md shows it."""

    name: str
    version: str | None


class Alias(TypedDict):
    """Alias, as docs/api.md shows it."""

    name: str
    alias: str
    version: str


class AliasChange(TypedDict):
    """Alias change, as docs/api.md shows it."""

    name: str
    alias: str
    version: str | None
    previous: str | None
    at: str
    by: str
    reason: str


class Event(TypedDict):
    """Event, as docs/api.md shows it."""

    number: int
    at: str
    version: str | None
    kind: Literal[
        "registered", "removed", "alias", "wanted", "loading", "ready", "active", "inactive", "unloaded", "failed"
    ]
    by: str
    node: str
    detail: str


class History(TypedDict):
    """History, as docs/api.md shows it."""

    name: str
    at: str | None
    events: list[Event]
    next: int | None


class Key(TypedDict):
    """Key, as docs/api.md shows it."""

    id: str
    name: str
    role: Literal["admin", "operator", "predict"]
    created_at: str
    created_by: str
    revoked_at: str | None


class KeyList(TypedDict):
    """Key list, as docs/api.md shows it."""

    keys: list[Key]


class NewKey(TypedDict):
    """New key, as docs/api.md shows it."""

    id: str
    name: str
    role: Literal["admin", "operator", "predict"]
    created_at: str
    created_by: str
    revoked_at: str | None
    key: str


class OipServer(TypedDict):
    """Oip server, as docs/api.md shows it."""

    name: str
    version: str
    extensions: list[str]
