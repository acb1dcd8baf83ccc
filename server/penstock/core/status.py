"""What the supervisor knows of a model version at one moment, as the control plane shows it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from penstock.core.config import ModelConfig

__all__ = ["ImageFit", "ModelState", "ModelStatus", "Origin", "Tensor", "WorkerState", "WorkerStatus"]

# Name, NumPy dtype name, shape of one row without the batch dimension; a first size of None varies.
Tensor: TypeAlias = tuple[str, str, tuple[int | None, ...]]


@dataclass(frozen=True, slots=True)
class ImageFit:
    """How an image becomes the size that an input has: it is resized, and then cropped around its middle.

    `resize` is one size for the shorter side, a height and a width, or nothing; `crop` a height and a width or nothing.
    """

    resize: tuple[int, ...]
    crop: tuple[int, ...]
    filter: str


class ModelState(StrEnum):
    """Where a model version is in its life."""

    REGISTERED = "registered"  # known to the registry; no server has loaded it yet
    LOADING = "loading"
    WARMING = "warming"
    READY = "ready"
    RESTARTING = "restarting"
    DRAINING = "draining"  # no request gets to it any more; those that did are answered
    UNLOADED = "unloaded"
    FAILED = "failed"
    STOPPED = "stopped"


class Origin(StrEnum):
    """Who decided that a model version is served."""

    CONFIGURATION = "configuration"
    REGISTRY = "registry"


class WorkerState(StrEnum):
    """Where a worker process is in its life."""

    STARTING = "starting"
    READY = "ready"
    BACKING_OFF = "backing_off"
    QUARANTINE = "quarantine"
    STOPPED = "stopped"


@dataclass(frozen=True, slots=True)
class WorkerStatus:
    """One worker process of a model, which the others of its group share. `pid` is None while there is no process.

    One in quarantine is there as long as rows that have killed others wait for it.
    """

    worker: int
    pid: int | None
    state: WorkerState
    restarts: int


@dataclass(frozen=True, slots=True)
class ModelStatus:
    """One model version. Schema, ring, backend and max_batch_size are known once a worker has loaded the model.

    Of a model with a plan `inputs` are the fields of the record that clients send, and `record` is its JSON Schema;
    those in `optional` may be absent, those in `nullable` null, those in `texts` an empty string.
    `digest` and `aliases` are those of the registry. `memory_bytes` is what its workers take, once that is known.
    `units` are those of outputs' numbers and `fits` those of inputs that are images, where its plan says them.
    """

    config: ModelConfig
    state: ModelState
    latest: bool
    workers: tuple[WorkerStatus, ...] = ()
    inputs: tuple[Tensor, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    backend: str | None = None
    ring: int | None = None
    max_batch_size: int | None = None
    rerun_on_worker_death: bool | None = None
    detail: str | None = None
    digest: str | None = None
    aliases: tuple[str, ...] = ()
    origin: Origin = Origin.CONFIGURATION
    memory_bytes: int | None = None
    units: Mapping[str, str] = field(default_factory=dict)
    fits: Mapping[str, ImageFit] = field(default_factory=dict)
    record: Mapping[str, Any] | None = None
    optional: frozenset[str] = frozenset()
    nullable: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()
