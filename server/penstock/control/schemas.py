"""The JSON schemas of requests and replies, as the OpenAPI document uses them."""

from __future__ import annotations

from typing import Any

from penstock.core.config import OnWorkerDeath
from penstock.core.status import ModelState, Origin, WorkerState

__all__ = ["COUNT", "FIELD_FAULTS", "NAME", "SCHEMAS", "SECONDS", "TEXT_OR_NULL", "VERSION_PROPERTIES", "record"]

COUNT = {"type": "integer", "minimum": 0}
SECONDS = {"type": "number", "minimum": 0}
_SHARE = {"type": "number", "minimum": 0}
NAME = {"$ref": "#/components/schemas/Name"}
_TENSORS = {"type": "array", "items": {"$ref": "#/components/schemas/TensorSpec"}}
_STATE = {"enum": [state.value for state in ModelState]}
TEXT_OR_NULL = {"type": ["string", "null"]}
_ORIGIN = {"enum": [origin.value for origin in Origin]}
_NAMES = {"type": "array", "items": NAME}
_REGISTRY_FAILURE = {**TEXT_OR_NULL, "description": "Why registered models are missing here, where they are."}


def record(properties: dict[str, Any], optional: tuple[str, ...] = ()) -> dict[str, Any]:
    """Describe an object whose members are known."""
    required = [name for name in properties if name not in optional]
    return {"type": "object", "properties": properties, "required": required}


FIELD_FAULTS: dict[str, Any] = {
    "type": "array",
    "description": "Of a record that does not fit: what is wrong with each of its fields, as far as there is room.",
    "items": record(
        {
            "field": {"type": "string", "description": "Its path with dots."},
            "rule": {"type": "string", "description": "The keyword of JSON Schema that it breaks, or a word like it."},
            "detail": {"type": "string", "description": "What was expected and what came. For people; may change."},
        }
    ),
}
VERSION_PROPERTIES: dict[str, Any] = {
    "version": NAME,
    "latest": {"type": "boolean"},
    "state": _STATE,
    "detail": {**TEXT_OR_NULL, "description": "Why the version is not ready, where that is known."},
    "backend": TEXT_OR_NULL,
    "origin": _ORIGIN,
    "aliases": _NAMES,
    "inputs": _TENSORS,
    "record": {
        "type": ["object", "null"],
        "description": "JSON Schema of the record that a row is, where the model has a plan; `inputs` are its fields.",
    },
    "outputs": _TENSORS,
    "batching": {
        "anyOf": [{"$ref": "#/components/schemas/Batching"}, {"type": "null"}],
        "description": "null, as is what follows, for a version that this server has not loaded.",
    },
    "limits": {"anyOf": [record({"queue_bytes": COUNT, "intra_op_threads": COUNT}), {"type": "null"}]},
    "on_worker_death": {"enum": [*(choice.value for choice in OnWorkerDeath), None]},
    "memory_bytes": {"type": ["integer", "null"], "minimum": 0, "description": "What its workers take."},
    "workers": {"type": "array", "items": {"$ref": "#/components/schemas/Worker"}},
    "cost": {
        "anyOf": [{"$ref": "#/components/schemas/Cost"}, {"type": "null"}],
        "description": "null until batches of the model have been measured.",
    },
    "cost_by_length": {
        "type": "array",
        "items": {
            "allOf": [{"$ref": "#/components/schemas/Cost"}, record({"length": COUNT})],
        },
        "description": "The same for each of `lengths` of which it is known; `cost` is that of the longest.",
    },
    "counters": {"type": ["object", "null"], "additionalProperties": COUNT},
    "cache": {
        "anyOf": [
            record(
                {
                    "ttl_s": COUNT,
                    "hits": {**COUNT, "description": "Rows answered from the cache."},
                    "misses": {**COUNT, "description": "Rows that ran since the answer was not known."},
                    "coalesced": {**COUNT, "description": "Rows that shared the run of an equal one."},
                    "evictions": {**COUNT, "description": "Answers that left for want of room."},
                    "rows": {**COUNT, "description": "Answers in the cache."},
                    "bytes": COUNT,
                }
            ),
            {"type": "null"},
        ],
        "description": "null where answers are not cached.",
    },
    "registration": {
        "anyOf": [{"$ref": "#/components/schemas/Registration"}, {"type": "null"}],
        "description": "null for a model of the configuration.",
    },
}

SCHEMAS: dict[str, Any] = {
    "Name": {"type": "string", "pattern": "^[A-Za-z0-9._-]{1,64}$"},
    "Value": {
        "description": (
            "A tensor: numbers, booleans or strings in arrays nested as the shape says; a scalar stands alone. Among "
            'numbers, NaN and infinity are the strings "NaN", "Infinity" and "-Infinity".'
        ),
        "anyOf": [
            {"type": "number"},
            {"type": "boolean"},
            {"type": "string"},
            {"type": "array", "items": {"$ref": "#/components/schemas/Value"}},
            {
                **record({"base64": {"type": "string", "contentEncoding": "base64"}}),
                "additionalProperties": False,
                "description": "In requests: a tensor's bytes, little-endian and in C order, or those of a string.",
            },
        ],
    },
    "PredictRequest": record(
        {
            "model": NAME,
            "version": NAME,
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
    "PredictResponse": record(
        {
            "model": NAME,
            "version": NAME,
            "outputs": {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Value"}},
        }
    ),
    "PredictRowsRequest": record(
        {
            "model": NAME,
            "version": NAME,
            "inputs": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "description": "A row: values by input name, or the value itself for a model with one input.",
                    "anyOf": [
                        {"type": "object", "additionalProperties": {"$ref": "#/components/schemas/Value"}},
                        {"$ref": "#/components/schemas/Value"},
                    ],
                },
            },
        },
        optional=("model", "version"),
    )
    | {"additionalProperties": False},
    "PredictRowsResponse": record(
        {
            "model": NAME,
            "version": NAME,
            "outputs": {
                "type": "array",
                "items": {
                    "type": ["object", "null"],
                    "additionalProperties": {"$ref": "#/components/schemas/Value"},
                    "description": "null for a row that is in `errors`.",
                },
            },
            "errors": {"type": "array", "items": {"$ref": "#/components/schemas/RowError"}},
        }
    ),
    "RowError": record(
        {
            "row": COUNT,
            "code": {"type": "string"},
            "status": COUNT,
            "detail": {"type": "string"},
            "errors": FIELD_FAULTS,
        },
        optional=("errors",),
    ),
    "TensorSpec": record(
        {
            "name": {"type": "string"},
            "dtype": {"type": "string", "description": "NumPy's name of the element type; str and bytes are strings."},
            "shape": {
                "type": "array",
                "items": {"type": ["integer", "null"], "minimum": 0},
                "description": "Of one row, without the batch dimension. A first size of null varies from row to row.",
            },
            "unit": {"type": "string", "description": "What its numbers count, where the model's plan says it."},
        },
        optional=("unit",),
    ),
    "ModelSummary": record(
        {
            "name": NAME,
            "version": NAME,
            "latest": {"type": "boolean"},
            "state": _STATE,
            "backend": TEXT_OR_NULL,
            "origin": _ORIGIN,
            "digest": {**TEXT_OR_NULL, "description": "SHA-256 of a registered version's manifest."},
            "aliases": _NAMES,
        }
    ),
    "ModelList": record(
        {
            "models": {"type": "array", "items": {"$ref": "#/components/schemas/ModelSummary"}},
            "next": {**TEXT_OR_NULL, "description": "What `after` is for the next page; null on the last."},
            "registry_failure": _REGISTRY_FAILURE,
        }
    ),
    "Worker": record(
        {
            "worker": COUNT,
            "pid": {"type": ["integer", "null"]},
            "state": {"enum": [state.value for state in WorkerState]},
            "restarts": COUNT,
        }
    ),
    "Batching": record(
        {
            "max_batch_size": COUNT,
            "batch_sizes": {"type": "array", "items": COUNT, "description": "Sizes that are run; empty for any."},
            "reproducible_batch_size": COUNT,
            "lengths": {"type": "array", "items": COUNT, "description": "What rows that vary are padded to."},
            "max_batch_tokens": {**COUNT, "description": "Rows times the length they are padded to; 0 for any."},
            "max_queue_delay_us": COUNT,
            "slo_ms": {**COUNT, "description": "0 for none."},
            "weight": COUNT,
            "group": {**TEXT_OR_NULL, "description": "Models of one group share worker processes."},
            "instances": COUNT,
        }
    ),
    "Cost": record(
        {
            "curve": {
                "type": "array",
                "items": record({"rows": COUNT, "mean_seconds": SECONDS, "p99_seconds": SECONDS}),
                "description": "How long a batch of so many rows runs, as learned so far.",
            },
            "fixed_seconds": {**SECONDS, "description": "Of a batch, whatever its size."},
            "per_row_seconds": SECONDS,
            "samples": {**COUNT, "description": "Batches that it was learned from, those of the warm-up apart."},
            "error_p95": {**_SHARE, "description": "Error of the predicted run time over the run time."},
            "off_share": {**_SHARE, "description": "Share of the batches that were mispredicted by over 20 %."},
            "alarm": {"type": "boolean", "description": "Whether that share is over 1 %."},
        }
    )
    | {"description": "What batches cost: the curve that decisions are made by."},
    "ModelVersion": record(VERSION_PROPERTIES),
    "Model": record(
        {
            "name": NAME,
            "aliases": {"type": "object", "additionalProperties": NAME, "description": "Versions by alias."},
            "versions": {"type": "array", "items": {"$ref": "#/components/schemas/ModelVersion"}},
            "registry_failure": _REGISTRY_FAILURE,
        }
    ),
    "Health": record({"status": {"enum": ["live", "ready"]}}),
    "Index": record(
        {
            "name": {"type": "string"},
            "version": {"type": "string"},
            "links": {"type": "object", "additionalProperties": {"type": "string"}},
        }
    ),
    "OpenApi": {"type": "object"},
}
