"""One model version as the supervisor keeps it: what a worker said of it, and its ring."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from penstock.core.config import ModelConfig, OnWorkerDeath
from penstock.core.status import ImageFit, ModelState, ModelStatus, Tensor, WorkerStatus
from penstock.worker.messages import CostSample, Loaded
from penstock.worker.model import TensorSpec

if TYPE_CHECKING:
    from penstock.serve.served_record import ServedRecord

__all__ = ["ServedModel", "latest_versions"]


@dataclass(slots=True)
class ServedModel:
    """A model version: its schema and ring, once the first worker has loaded it."""

    config: ModelConfig
    latest: bool
    loaded: Loaded | None = None
    ring: int | None = None
    ring_lost: bool = False  # a worker wrote nonsense into it; the next worker that has loaded gets another one
    samples: tuple[CostSample, ...] = ()  # of the first warm-up: what each of its rings starts to learn from
    workers_told: int = 0  # how many the ring's admission counts on
    max_batch_size: int | None = None
    detail: str | None = None
    record: ServedRecord | None = None  # that clients send instead of the ring's inputs

    def facts(self, **more: object) -> dict[str, object]:
        """Return what a log record about it carries."""
        return {"model": self.config.name, "version": self.config.version, **more}

    @property
    def rerun(self) -> bool:
        """Whether batches of a dead worker run again: as configured, else as the format allows."""
        if self.config.on_worker_death is not None:
            return self.config.on_worker_death is OnWorkerDeath.RERUN
        return self.loaded is not None and self.loaded.rerun

    def contradiction(self, loaded: Loaded) -> str | None:
        """Say in what a worker's schema differs from the first one's, which its ring was made for."""
        if self.loaded is None or loaded.spec == self.loaded.spec:
            return None
        return (
            f"the model at {self.config.path} has another schema now than when it was first loaded: a version never "
            f"changes its inputs and outputs. Restore the file, or restart Penstock to serve the new one"
        )

    def status(self, state: ModelState, workers: Sequence[WorkerStatus]) -> ModelStatus:
        """Return what others may know."""
        return ModelStatus(
            config=self.config,
            state=state,
            latest=self.latest,
            workers=tuple(workers),
            inputs=self._inputs(),
            outputs=_tensors(self.loaded.spec.outputs) if self.loaded else (),
            units=_units(self.loaded.spec.outputs) if self.loaded else {},
            fits=_fits(self.loaded.spec.inputs) if self.loaded else {},
            backend=self.loaded.backend if self.loaded else None,
            ring=self.ring,
            max_batch_size=self.max_batch_size,
            rerun_on_worker_death=self.rerun if self.loaded else None,
            detail=self.detail,
            record=None if self.record is None else self.record.schema,
            optional=frozenset() if self.record is None else self.record.optional,
            nullable=frozenset() if self.record is None else self.record.nullable,
            texts=frozenset() if self.record is None else self.record.texts,
        )

    def _inputs(self) -> tuple[Tensor, ...]:
        """Return what clients send: the fields of a record, else the tensors."""
        if self.loaded is None:
            return ()
        return _tensors(self.loaded.spec.inputs) if self.record is None else self.record.fields


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
    return tuple((spec.name, spec.dtype, spec.declared_shape) for spec in specs)


def _fits(specs: Iterable[TensorSpec]) -> dict[str, ImageFit]:
    return {spec.name: spec.fit for spec in specs if spec.fit is not None}


def _units(specs: Iterable[TensorSpec]) -> dict[str, str]:
    return {spec.name: spec.unit for spec in specs if spec.unit}
