"""The messages between the supervisor and a worker; protocol.py says in which order they go."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import NamedTuple, TypeAlias

from penstock.core.errors import WorkerError
from penstock.worker.model import ModelSpec
from penstock.worker.placement import Placement

__all__ = [
    "Attach",
    "CostSample",
    "Failed",
    "Load",
    "Loaded",
    "Measured",
    "Message",
    "ModelToLoad",
    "ProtocolError",
    "Ready",
    "Stop",
]


class ProtocolError(WorkerError):
    """The other side said something that is no message of this protocol."""


class CostSample(NamedTuple):
    """How long one run of so many rows took, each of this length; 0 where nothing varies."""

    rows: int
    seconds: float
    length: int = 0


@dataclass(frozen=True, slots=True)
class ModelToLoad:
    """One model of a worker. `warmup_seconds` may be spent on measuring what its batches cost; 0 for no measuring.

    `lengths` are what rows are padded to where they vary in length, ascending; `max_batch_tokens` is 0 for no bound.
    `convert` and what is trusted are the settings of those names. `golden` is the path of a file with inputs and the
    outputs that must come of them, empty for none. `device` is one device, and `precision` what it computes in.
    """

    name: str
    version: str
    path: str
    backend: str
    intra_op_threads: int = 1
    warmup_seconds: float = 1.0
    lengths: tuple[int, ...] = ()
    max_batch_tokens: int = 0
    convert: str = "none"
    trusted_digests: tuple[str, ...] = ()
    trusted_types: tuple[str, ...] = ()
    golden: str = ""
    max_batch_size: int = 64
    device: str = "cpu"
    precision: str = "float32"


@dataclass(frozen=True, slots=True)
class Load:
    """Load these models. `worker` is the slot (0..63) under which the worker will attach their rings.

    `memory_bytes` is the most that the process may allocate, 0 for what the machine has. With `idle` it loads and warms
    up at the idle priority that the supervisor has given it, where the system lets it come back from there, so that
    what is served beside it does not slow down.
    """

    worker: int
    models: tuple[ModelToLoad, ...]
    placement: Placement = field(default_factory=Placement)
    memory_bytes: int = 0
    idle: bool = False


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model with this number is loaded and takes and gives this. `rerun`: its batches may run twice, by default."""

    model: int
    backend: str
    spec: ModelSpec
    rerun: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """A model, `model` if it is known which, cannot be served; `detail` says why, and how to mend it."""

    detail: str
    model: int | None = None


@dataclass(frozen=True, slots=True)
class Attach:
    """Serve these rings, one for each model in the order of Load, and take their batches by this policy.

    With it travel the descriptors of the rings and one event descriptor for each of `loops` I/O loops. A worker in
    `quarantine` takes only what has killed others, and runs it row by row.
    """

    rings: tuple[int, ...]
    loops: int
    policy: str = "deadline"
    quarantine: bool = False


@dataclass(frozen=True, slots=True)
class Measured:
    """What batches of the model with this number took during its warm-up."""

    model: int
    samples: tuple[CostSample, ...]


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker takes batches."""

    load_seconds: float
    warmup_seconds: float


@dataclass(frozen=True, slots=True)
class Stop:
    """Finish the batch at hand and exit."""


Message: TypeAlias = Load | Loaded | Failed | Attach | Measured | Ready | Stop
