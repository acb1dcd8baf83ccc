"""What the supervisor knows of a model version at one moment, as the control plane shows it."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TypeAlias

from penstock.core.config import ModelConfig

__all__ = ["ModelState", "ModelStatus", "Tensor", "WorkerState", "WorkerStatus"]

# Name, NumPy dtype name, shape of one row without the batch dimension; a first size of None varies.
Tensor: TypeAlias = tuple[str, str, tuple[int | None, ...]]


class ModelState(StrEnum):
    """Where a model version is in its life."""

    LOADING = "loading"
    READY = "ready"
    RESTARTING = "restarting"
    FAILED = "failed"
    STOPPED = "stopped"


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
    """One model version. Schema, ring, backend and max_batch_size are known once a worker has loaded the model."""

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
