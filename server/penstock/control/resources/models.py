"""What is served: every model, and one model with its versions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, cast

from flask_restful import Resource

from penstock.control.state import CostStats, EngineStats, RingStats, ServerState, is_known
from penstock.core.errors import RequestError
from penstock.core.status import ModelStatus, Tensor

__all__ = ["ModelList", "ModelResource"]

# Counters of a ring that mean something to whoever serves a model.
_COUNTERS = (
    "rows_claimed",
    "rows_ok",
    "rows_failed",
    "rows_queued",
    "claims_refused",
    "deadline_exceeded",
    "rows_shed",
    "rows_refused_deadline",
    "padded_rows",
    "batches_done",
)


class ModelList(Resource):  # type: ignore[misc]  # flask_restful has no types
    """Every model version, in short."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    def get(self) -> Mapping[str, object]:
        """List the model versions."""
        return {"models": [_summary(status) for status in self._state.models.models()]}


class ModelResource(Resource):  # type: ignore[misc]  # flask_restful has no types
    """One model with everything known about its versions."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    def get(self, name: str) -> Mapping[str, object]:
        """Describe a model; RequestError (404) when there is none of this name."""
        versions = [status for status in self._state.models.models() if status.config.name == name]
        if not versions:
            raise RequestError("model_not_found", f"no model {name!r} is served; GET /models lists them")
        stats = cast(EngineStats, self._state.stats.stats())
        rings = {ring["ring"]: ring for ring in stats["rings"]}
        return {"name": name, "versions": [self._description(status, rings) for status in versions]}

    def _description(self, status: ModelStatus, rings: Mapping[int, RingStats]) -> dict[str, object]:
        config = status.config
        ring = None if status.ring is None else rings.get(status.ring)
        # One for each length bucket, the longest last.
        costs = [] if ring is None else [self._cost(ring, bucket) for bucket in range(len(config.lengths) or 1)]
        return {
            "version": config.version,
            "latest": status.latest,
            "state": status.state,
            "detail": status.detail,
            "backend": status.backend,
            "inputs": _tensors(status.inputs),
            "outputs": _tensors(status.outputs),
            "batching": _batching(status),
            "limits": {"queue_bytes": config.queue_bytes, "intra_op_threads": config.intra_op_threads},
            "on_worker_death": _on_worker_death(status),
            "workers": [
                {"worker": worker.worker, "pid": worker.pid, "state": worker.state, "restarts": worker.restarts}
                for worker in status.workers
            ],
            "cost": costs[-1] if costs else None,
            "cost_by_length": [
                {"length": length, **cost}
                for length, cost in zip(config.lengths, costs, strict=False)
                if cost is not None
            ],
            "counters": None if ring is None else {name: cast(dict[str, Any], ring)[name] for name in _COUNTERS},
        }

    def _cost(self, ring: RingStats, bucket: int) -> dict[str, object] | None:
        cost = cast(CostStats, self._state.stats.cost(ring["ring"], bucket))
        return _cost(cost) if is_known(cost) else None


def _summary(status: ModelStatus) -> dict[str, object]:
    return {
        "name": status.config.name,
        "version": status.config.version,
        "latest": status.latest,
        "state": status.state,
        "backend": status.backend,
    }


def _batching(status: ModelStatus) -> dict[str, object]:
    config = status.config
    # What the ring made of the wish: queue_bytes may not hold two batches of the size that was asked for.
    most = status.max_batch_size or config.max_batch_size
    return {
        "max_batch_size": most,
        "batch_sizes": [size for size in config.batch_sizes if size <= most],
        "reproducible_batch_size": min(config.reproducible_rows, most),
        "lengths": list(config.lengths),
        "max_batch_tokens": config.max_batch_tokens,
        "max_queue_delay_us": config.max_queue_delay_us,
        "slo_ms": config.slo_ms,
        "weight": config.weight,
        "group": config.group,
        "instances": config.instances,
    }


def _cost(cost: CostStats) -> dict[str, object]:
    curve = zip(cost["rows"], cost["mean_seconds"], cost["p99_seconds"], strict=True)
    return {
        "curve": [{"rows": rows, "mean_seconds": mean, "p99_seconds": p99} for rows, mean, p99 in curve],
        "fixed_seconds": cost["fixed_seconds"],
        "per_row_seconds": cost["per_row_seconds"],
        "samples": cost["samples"],
        "error_p95": cost["error_p95"],
        "off_share": cost["off_share"],
        "alarm": cost["alarm"],
    }


def _on_worker_death(status: ModelStatus) -> str | None:
    if status.rerun_on_worker_death is not None:
        return "rerun" if status.rerun_on_worker_death else "fail"
    return status.config.on_worker_death


def _tensors(tensors: Sequence[Tensor]) -> list[dict[str, object]]:
    return [{"name": name, "dtype": dtype, "shape": list(shape)} for name, dtype, shape in tensors]
