"""What the registry knows, as values."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import Enum, StrEnum
from typing import Final

__all__ = [
    "CHAMPION",
    "UNSET",
    "AliasRecord",
    "EventKind",
    "EventRecord",
    "KeyRecord",
    "ManifestEntry",
    "Metadata",
    "ModelRecord",
    "Role",
    "Unset",
    "VersionRecord",
    "Wanted",
    "WantedMode",
]

# The alias that answers requests which name no version.
CHAMPION = "champion"


class Unset(Enum):
    """Nothing was said, where None says something."""

    UNSET = "unset"


UNSET: Final = Unset.UNSET


class Role(StrEnum):
    """What a key allows; each role allows what the ones below it do."""

    ADMIN = "admin"
    OPERATOR = "operator"
    PREDICT = "predict"


class WantedMode(StrEnum):
    """Whether a version is to be in memory always, or from the first request for it."""

    LOADED = "loaded"
    LAZY = "lazy"


class EventKind(StrEnum):
    """What can happen to a model version."""

    REGISTERED = "registered"
    REMOVED = "removed"
    ALIAS = "alias"
    WANTED = "wanted"
    LOADING = "loading"
    READY = "ready"
    ACTIVE = "active"
    INACTIVE = "inactive"
    UNLOADED = "unloaded"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Metadata:
    """What people say about a version. `metrics` are numbers by name; `lineage` what it was made from, by kind.

    `card` is a model card in Markdown. `environment` is what the version was made with: packages and their versions.
    """

    description: str = ""
    owner: str = ""
    tags: tuple[str, ...] = ()
    framework: str = ""
    training_data: str = ""
    metrics: Mapping[str, float] = field(default_factory=dict)
    lineage: Mapping[str, str] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    card: str = ""


@dataclass(frozen=True, slots=True)
class ManifestEntry:
    """A file of an artefact: its path in it with '/', its bytes, and their SHA-256 in hexadecimal."""

    path: str
    bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class VersionRecord:
    """A registered version. Times are UTC. `settings` are those of penstock.core.config.ModelConfig, as TOML has them.

    `inputs`, `outputs`, `load_seconds`, `memory_bytes` and `loaded_backend` are known once a server has loaded it; the
    first two are (name, dtype, shape of a row) each. So are `optional` and `nullable`, the inputs that may be absent or
    null: None also where only an older Penstock has loaded it.
    """

    model: str
    version: str
    digest: str
    bytes: int
    registered_at: datetime
    registered_by: str
    backend: str = "auto"
    metadata: Metadata = field(default_factory=Metadata)
    settings: Mapping[str, object] = field(default_factory=dict)
    manifest: tuple[ManifestEntry, ...] = ()
    aliases: tuple[str, ...] = ()
    inputs: tuple[tuple[str, str, tuple[int | None, ...]], ...] = ()
    outputs: tuple[tuple[str, str, tuple[int | None, ...]], ...] = ()
    load_seconds: float | None = None
    memory_bytes: int | None = None
    loaded_backend: str | None = None
    optional: frozenset[str] | None = None
    nullable: frozenset[str] | None = None


@dataclass(frozen=True, slots=True)
class ModelRecord:
    """A model: its versions in ascending order, and where its aliases point."""

    name: str
    versions: tuple[str, ...]
    aliases: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class AliasRecord:
    """One change of an alias. `version` is None when it was taken away, `previous` when there was none."""

    model: str
    alias: str
    version: str | None
    previous: str | None
    at: datetime
    by: str
    reason: str = ""


@dataclass(frozen=True, slots=True)
class EventRecord:
    """Something that happened to a model; `node` is the server that it happened on, empty for the registry itself."""

    number: int
    at: datetime
    model: str
    version: str | None
    kind: EventKind
    by: str
    node: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Wanted:
    """A version that servers are to have in memory."""

    model: str
    version: str
    mode: WantedMode


@dataclass(frozen=True, slots=True)
class KeyRecord:
    """A key, without its secret. `hash` is the SHA-256 of the whole key."""

    id: str
    name: str
    role: Role
    hash: bytes
    created_at: datetime
    created_by: str
    revoked_at: datetime | None = None
