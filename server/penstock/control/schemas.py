"""The JSON schemas of requests and replies, as the OpenAPI document uses them."""

from __future__ import annotations

from typing import Any

from penstock.core.config import OnWorkerDeath
from penstock.core.status import ModelState, WorkerState

__all__ = ["SCHEMAS"]

_COUNT = {"type": "integer", "minimum": 0}
_SECONDS = {"type": "number", "minimum": 0}
_SHARE = {"type": "number", "minimum": 0}
_NAME = {"$ref": "#/components/schemas/Name"}
_TENSORS = {"type": "array", "items": {"$ref": "#/components/schemas/TensorSpec"}}
_STATE = {"enum": [state.value for state in ModelState]}
_TEXT_OR_NULL = {"type": ["string", "null"]}


def _record(properties: dict[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """Describe an object whose members are known."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


SCHEMAS: dict[str, Any] = {
    "Name": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    "Value": {
        "description": (
            "A tensor: numbers or booleans in arrays nested as the shape says; a scalar stands alone. "
            'NaN and infinity are the strings "NaN", "Infinity" and "-Infinity".'
        ),
        "anyOf": [
            {"type": "number"},
            {"type": "boolean"},
            {"enum": ["NaN", "Infinity", "-Infinity"]},
            {"type": "array", "items": {"$ref": "#/components/schemas/Value"}},
        ],
    },
    "PredictRequest": _record(
        {
            "model": _NAME,
            "version": _NAME,
            "inputs": {
                "description": "Values by input name, or the value itself for a model with one input.",
                "anyOf": [
                    {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Value"}},
                    {"$ref": "#/components/schemas/Value"},
                ],
            },
        },
        optional=("model", "version"),
    )
    | {"additionalProperties": False},
    "PredictResponse": _record(
        {
            "model": _NAME,
            "version": _NAME,
            "outputs": {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Value"}},
        }
    ),
    "TensorSpec": _record(
        {
            "name": {"type": "string"},
            "dtype": {"type": "string", "description": "NumPy's name of the element type."},
            "shape": {
                "type": "array",
                "items": {"type": ["integer", "null"], "minimum": 0},
                "description": "Of one row, without the batch dimension. A first size of null varies from row to row.",
            },
        }
    ),
    "ModelSummary": _record(
        {"name": _NAME, "version": _NAME, "latest": {"type": "boolean"}, "state": _STATE, "backend": _TEXT_OR_NULL}
    ),
    "ModelList": _record({"models": {"type": "array", "items": {"$ref": "#/components/schemas/ModelSummary"}}}),
    "Worker": _record(
        {
            "worker": _COUNT,
            "pid": {"type": ["integer", "null"]},
            "state": {"enum": [state.value for state in WorkerState]},
            "restarts": _COUNT,
        }
    ),
    "Batching": _record(
        {
            "max_batch_size": _COUNT,
            "batch_sizes": {"type": "array", "items": _COUNT, "description": "Sizes that are run; empty for any."},
            "reproducible_batch_size": _COUNT,
            "lengths": {"type": "array", "items": _COUNT, "description": "What rows that vary are padded to."},
            "max_batch_tokens": {**_COUNT, "description": "Rows times the length they are padded to; 0 for any."},
            "max_queue_delay_us": _COUNT,
            "slo_ms": {**_COUNT, "description": "0 for none."},
            "weight": _COUNT,
            "group": {**_TEXT_OR_NULL, "description": "Models of one group share worker processes."},
            "instances": _COUNT,
        }
    ),
    "Cost": _record(
        {
            "curve": {
                "type": "array",
                "items": _record({"rows": _COUNT, "mean_seconds": _SECONDS, "p99_seconds": _SECONDS}),
                "description": "How long a batch of so many rows runs, as learned so far.",
            },
            "fixed_seconds": {**_SECONDS, "description": "Of a batch, whatever its size."},
            "per_row_seconds": _SECONDS,
            "samples": {**_COUNT, "description": "Batches that it was learned from, those of the warm-up apart."},
            "error_p95": {**_SHARE, "description": "Error of the predicted run time over the run time."},
            "off_share": {**_SHARE, "description": "Share of the batches that were mispredicted by over 20 %."},
            "alarm": {"type": "boolean", "description": "Whether that share is over 1 %."},
        }
    )
    | {"description": "What batches cost: the curve that decisions are made by."},
    "ModelVersion": _record(
        {
            "version": _NAME,
            "latest": {"type": "boolean"},
            "state": _STATE,
            "detail": {**_TEXT_OR_NULL, "description": "Why the version is not ready, where that is known."},
            "backend": _TEXT_OR_NULL,
            "inputs": _TENSORS,
            "outputs": _TENSORS,
            "batching": {"$ref": "#/components/schemas/Batching"},
            "limits": _record({"queue_bytes": _COUNT, "intra_op_threads": _COUNT}),
            "on_worker_death": {"enum": [*(choice.value for choice in OnWorkerDeath), None]},
            "workers": {"type": "array", "items": {"$ref": "#/components/schemas/Worker"}},
            "cost": {
                "anyOf": [{"$ref": "#/components/schemas/Cost"}, {"type": "null"}],
                "description": "null until batches of the model have been measured.",
            },
            "cost_by_length": {
                "type": "array",
                "items": {
                    "allOf": [{"$ref": "#/components/schemas/Cost"}, _record({"length": _COUNT})],
                },
                "description": "The same for each of `lengths` of which it is known; `cost` is that of the longest.",
            },
            "counters": {"type": ["object", "null"], "additionalProperties": _COUNT},
        }
    ),
    "Model": _record(
        {"name": _NAME, "versions": {"type": "array", "items": {"$ref": "#/components/schemas/ModelVersion"}}}
    ),
    "Health": _record({"status": {"enum": ["live", "ready"]}}),
    "Index": _record(
        {
            "name": {"type": "string"},
            "version": {"type": "string"},
            "links": {"type": "object", "additionalProperties": {"type": "string"}},
        }
    ),
    "OpenApi": {"type": "object"},
}
