"""One model version and its instances, as the supervisor keeps them: what is known, and what follows from a death."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from enum import Enum, auto

from penstock.core.config import ModelConfig, OnWorkerDeath
from penstock.core.status import ModelState, ModelStatus, Tensor, WorkerState, WorkerStatus
from penstock.serve.worker_process import WorkerProcess
from penstock.worker.model import TensorSpec
from penstock.worker.protocol import Loaded

__all__ = ["Instance", "ModelWorkers", "Phase", "RestartPolicy", "latest_versions"]


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How long a worker may take to start, how soon it is started again, and when its model counts as failed."""

    load_timeout_s: float = 120.0
    delay_min_s: float = 0.1
    delay_max_s: float = 10.0
    deaths_max: int = 5

    def delay_after(self, delay_s: float) -> float:
        """Return the delay that follows `delay_s`: twice as long, within the bounds."""
        return min(max(2 * delay_s, self.delay_min_s), self.delay_max_s)


class Phase(Enum):
    """What the supervisor waits for from an instance."""

    LOADING = auto()
    WARMING_UP = auto()
    READY = auto()
    BACKING_OFF = auto()
    STOPPING = auto()
    STOPPED = auto()


_WORKER_STATES = {
    Phase.LOADING: WorkerState.STARTING,
    Phase.WARMING_UP: WorkerState.STARTING,
    Phase.READY: WorkerState.READY,
    Phase.BACKING_OFF: WorkerState.BACKING_OFF,
    Phase.STOPPING: WorkerState.STOPPED,
    Phase.STOPPED: WorkerState.STOPPED,
}


@dataclass(slots=True)
class Instance:
    """One loaded copy of the model: a slot of its ring, and the process that fills it at the moment."""

    slot: int
    phase: Phase = Phase.STOPPED
    process: WorkerProcess | None = None
    due: float | None = None  # monotonic: when to restart it, or to lose patience with it ...
    lateness: str = ""  # ... which is then the reason of its death
    delay_s: float = 0.0  # before its next restart
    restarts: int = 0
    was_ready: bool = False
    last_words: str | None = None  # why it ends, when that is known before it has
    batches_at_ready: int = 0

    def status(self) -> WorkerStatus:
        """Return what others may know."""
        pid = self.process.pid if self.process is not None else None
        return WorkerStatus(self.slot, pid, _WORKER_STATES[self.phase], self.restarts)


@dataclass(slots=True)
class ModelWorkers:
    """A model version: its schema and ring, once the first worker has loaded it, and its instances."""

    config: ModelConfig
    latest: bool
    instances: tuple[Instance, ...] = ()
    loaded: Loaded | None = None
    ring: int | None = None
    ring_lost: bool = False  # a worker wrote nonsense into it; the next worker that has loaded gets another one
    max_batch_size: int | None = None
    deaths: int = 0  # in a row, without a completed batch between them
    failed: bool = False
    detail: str | None = None

    def facts(self, **more: object) -> dict[str, object]:
        """Return what a log record about it carries."""
        return {"model": self.config.name, "version": self.config.version, **more}

    @property
    def rerun(self) -> bool:
        """Whether batches of a dead worker run again: as configured, else as the format allows."""
        if self.config.on_worker_death is not None:
            return self.config.on_worker_death is OnWorkerDeath.RERUN
        return self.loaded is not None and self.loaded.rerun

    @property
    def served(self) -> bool:
        """Whether a route leads to it: a worker has been ready once."""
        return self.ring is not None and any(instance.was_ready for instance in self.instances)

    @property
    def available(self) -> bool:
        """Whether its route takes requests: they wait for a worker that restarts, not for a failed model."""
        return self.served and not self.failed and not self.ring_lost

    @property
    def started(self) -> bool:
        """Whether all of its instances have been ready once."""
        return all(instance.was_ready for instance in self.instances)

    def contradiction(self, loaded: Loaded) -> str | None:
        """Say in what a restarted worker's schema differs from the first one's, which its ring was made for."""
        if self.loaded is None or loaded.spec == self.loaded.spec:
            return None
        return (
            f"the model at {self.config.path} has another schema now than when it was first loaded: a version never "
            f"changes its inputs and outputs. Restore the file, or restart Penstock to serve the new one"
        )

    def count_death(self, completed_a_batch: bool, policy: RestartPolicy) -> None:
        """Take a worker's death into account: too many without a completed batch make the model a failed one."""
        self.deaths = 1 if completed_a_batch else self.deaths + 1
        self.failed = self.deaths >= policy.deaths_max

    def status(self) -> ModelStatus:
        """Return what others may know."""
        return ModelStatus(
            config=self.config,
            state=self._state(),
            latest=self.latest,
            workers=tuple(instance.status() for instance in self.instances),
            inputs=_tensors(self.loaded.spec.inputs) if self.loaded else (),
            outputs=_tensors(self.loaded.spec.outputs) if self.loaded else (),
            backend=self.loaded.backend if self.loaded else None,
            ring=self.ring,
            max_batch_size=self.max_batch_size,
            rerun_on_worker_death=self.rerun if self.loaded else None,
            detail=self.detail,
        )

    def _state(self) -> ModelState:
        phases = {instance.phase for instance in self.instances}
        if phases <= {Phase.STOPPED, Phase.STOPPING} and not self.failed:
            return ModelState.STOPPED
        if self.failed:
            return ModelState.FAILED
        if not self.served:
            return ModelState.LOADING
        return ModelState.READY if Phase.READY in phases else ModelState.RESTARTING


def latest_versions(configs: Iterable[ModelConfig]) -> dict[str, str]:
    """Return the latest version of each model: the highest by its numbers (1.10 is above 1.9), else the last listed."""
    latest: dict[str, tuple[tuple[int, ...], str]] = {}
    for config in configs:
        numeric = re.fullmatch(r"v?(\d+(?:\.\d+)*)", config.version)
        rank = tuple(map(int, numeric[1].split("."))) if numeric else ()
        if config.name not in latest or rank >= latest[config.name][0]:
            latest[config.name] = (rank, config.version)
    return {name: version for name, (_, version) in latest.items()}


def _tensors(specs: Iterable[TensorSpec]) -> tuple[Tensor, ...]:
    return tuple((spec.name, spec.dtype, spec.shape) for spec in specs)
