"""The models that share worker processes, and those processes: what is known, and what follows from a death."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum, auto

from penstock.core.config import ModelConfig
from penstock.core.contradictions import same_group
from penstock.core.status import ModelState, ModelStatus, WorkerState, WorkerStatus
from penstock.serve.served_model import ServedModel, latest_versions
from penstock.serve.worker_process import WorkerProcess
from penstock.worker.messages import CostSample, Loaded

__all__ = ["QUARANTINE_SLOT", "Instance", "Phase", "RestartPolicy", "WorkerGroup", "make_groups"]

# Of each ring; instances have the slots below it.
QUARANTINE_SLOT = 63


@dataclass(frozen=True, slots=True)
class RestartPolicy:
    """How soon a worker is started again, and when its group counts as failed."""

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
    """A slot of the rings of `models`, and the process that fills it at the moment."""

    slot: int
    models: tuple[ServedModel, ...]
    phase: Phase = Phase.STOPPED
    process: WorkerProcess | None = None
    loaded: list[Loaded] = field(default_factory=list)  # what the process said of its models so far
    samples: dict[int, tuple[CostSample, ...]] = field(default_factory=dict)  # ... and measured, by model
    due: float | None = None  # monotonic: when to restart it, or to lose patience with it ...
    lateness: str = ""  # ... which is then the reason of its death
    delay_s: float = 0.0  # before its next restart
    restarts: int = 0
    was_ready: bool = False
    last_words: str | None = None  # why it ends, when that is known before it has
    stalled: bool = False  # it ends for want of time or room, of which there may be more later
    batches_at_ready: int = 0

    @property
    def quarantine(self) -> bool:
        """Whether it runs only what has killed others."""
        return self.slot == QUARANTINE_SLOT

    @property
    def load_timeout_s(self) -> float:
        """How long its process may take until it is ready: it loads one model after the other."""
        return sum(model.config.load_timeout_s for model in self.models)

    def facts(self, **more: object) -> dict[str, object]:
        """Return what a log record about it carries."""
        if len(self.models) == 1:
            return self.models[0].facts(**more)
        return {"group": self.models[0].config.group, **more}

    def status(self) -> WorkerStatus:
        """Return what others may know."""
        pid = self.process.pid if self.process is not None else None
        state = WorkerState.QUARANTINE if self.quarantine and self.phase is Phase.READY else _WORKER_STATES[self.phase]
        return WorkerStatus(self.slot, pid, state, self.restarts)


class WorkerGroup:
    """Models of one group, or a model without a group; its instances, and an instance in quarantine for each model."""

    def __init__(self, models: Sequence[ServedModel], *, comes_and_goes: bool = False) -> None:
        self.models = tuple(models)
        self.comes_and_goes = comes_and_goes  # it was added while others are served, and may be removed
        self.retiring = False
        config = self.models[0].config  # what the processes take from it is the same for all of the group
        self.name = config.group
        # About to be started: who asks before the supervisor's thread has run must not hear that they have stopped.
        self.instances = tuple(Instance(slot, self.models, Phase.LOADING) for slot in range(config.workers))
        self.quarantine = tuple(Instance(QUARANTINE_SLOT, (model,)) for model in self.models)
        self.deaths = 0  # in a row, without a completed batch between them
        self.failed = False

    @property
    def processes(self) -> tuple[Instance, ...]:
        """All that may have a process."""
        return self.instances + self.quarantine

    @property
    def label(self) -> str:
        """What an operator calls it."""
        if self.name is None or len(self.models) == 1:
            return f"model {self.models[0].config.name!r}"
        names = ", ".join(repr(model.config.name) for model in self.models)
        return f"group {self.name!r} (models {names})"

    @property
    def served(self) -> bool:
        """Whether routes lead to its models: a worker has been ready once."""
        return any(instance.was_ready for instance in self.instances)

    @property
    def started(self) -> bool:
        """Whether all of its instances have been ready once."""
        return all(instance.was_ready for instance in self.instances)

    @property
    def workers_ready(self) -> int:
        """How many of its instances take batches."""
        return sum(instance.phase is Phase.READY for instance in self.instances)

    def available(self, model: ServedModel) -> bool:
        """Whether the model's route takes requests: they wait for a worker that restarts, not for a failed group."""
        return self.served and not self.failed and not model.ring_lost and not self.retiring

    def count_death(self, completed_a_batch: bool, policy: RestartPolicy) -> None:
        """Take a worker's death into account: too many without a completed batch make the group a failed one."""
        self.deaths = 1 if completed_a_batch else self.deaths + 1
        self.failed = self.deaths >= policy.deaths_max

    def statuses(self) -> list[ModelStatus]:
        """Return what others may know of its models."""
        state = self._state()
        shared = [instance.status() for instance in self.instances]
        return [
            model.status(state, shared if ward.phase is Phase.STOPPED else [*shared, ward.status()])
            for model, ward in zip(self.models, self.quarantine, strict=True)
        ]

    def _state(self) -> ModelState:
        phases = {instance.phase for instance in self.instances}
        if phases <= {Phase.STOPPED, Phase.STOPPING} and not self.failed:
            return ModelState.STOPPED
        if self.failed:
            return ModelState.FAILED
        if self.retiring:
            return ModelState.DRAINING
        if not self.served:
            return ModelState.WARMING if Phase.WARMING_UP in phases else ModelState.LOADING
        return ModelState.READY if Phase.READY in phases else ModelState.RESTARTING


def make_groups(configs: Sequence[ModelConfig]) -> list[WorkerGroup]:
    """Return the groups of these models, none of which has a process yet."""
    latest = latest_versions(configs)
    return [
        WorkerGroup([ServedModel(config, latest[config.name] == config.version) for config in group])
        for group in same_group(configs)
    ]
