"""The JSON schemas of the Open Inference Protocol and Triton's extensions of it, as the OpenAPI document uses them."""

from __future__ import annotations

from typing import Any

from penstock.control.schemas import COUNT, NAME, record

__all__ = ["DATATYPES", "OIP_SCHEMAS"]

DATATYPES = (
    "BOOL",
    *(f"{kind}{bits}" for kind in ("UINT", "INT") for bits in (8, 16, 32, 64)),
    "FP16",
    "FP32",
    "FP64",
    "BYTES",
)

_TEXT = {"type": "string"}
_FLAG = {"type": "boolean"}
_EXTENT = {"type": "integer", "minimum": -1}
_DURATION = {"$ref": "#/components/schemas/OipDuration"}
_TENSORS = {"type": "array", "items": {"$ref": "#/components/schemas/OipTensorSpec"}}
_CONFIG_TENSOR: dict[str, Any] = {
    "name": _TEXT,
    "data_type": {"enum": ["TYPE_STRING" if name == "BYTES" else f"TYPE_{name}" for name in DATATYPES]},
    "dims": {"type": "array", "items": _EXTENT, "description": "Of one row, without the batch dimension."},
}
_COMPUTED = dict.fromkeys(("compute_input", "compute_infer", "compute_output"), _DURATION)

_INFER_DATA = {"$ref": "#/components/schemas/InferData"}
_INFER_TENSOR: dict[str, Any] = {
    "name": _TEXT,
    "datatype": {"enum": list(DATATYPES)},
    "shape": {
        "type": "array",
        "items": COUNT,
        "minItems": 1,
        "description": "The number of rows first, then a row's shape.",
    },
}


def _parameters(**known: Any) -> dict[str, Any]:
    """Describe parameters: those that are not known are left alone."""
    return {"type": "object", "properties": known}


OIP_SCHEMAS: dict[str, Any] = {
    "OipServer": record({"name": _TEXT, "version": _TEXT, "extensions": {"type": "array", "items": _TEXT}}),
    "OipTensorSpec": record(
        {
            "name": _TEXT,
            "datatype": {"enum": list(DATATYPES)},
            "shape": {
                "type": "array",
                "items": _EXTENT,
                "description": "The batch dimension first. -1 is any extent: of the batch, or of rows that vary.",
            },
        }
    ),
    "OipModel": record(
        {
            "name": NAME,
            "versions": {"type": "array", "items": NAME},
            "platform": _TEXT,
            "inputs": _TENSORS,
            "outputs": _TENSORS,
        }
    ),
    "InferLive": record({"live": {"const": True}}),
    "InferReady": record({"ready": {"const": True}}),
    "InferData": {
        "type": "array",
        "description": "In C order, flat or nested as the shape says. Strings are UTF-8.",
        "items": {
            "anyOf": [
                {"type": "number"},
                {"type": "boolean"},
                {"type": "string"},
                {"$ref": "#/components/schemas/InferData"},
            ]
        },
    },
    "InferRequest": record(
        {
            "id": {"type": ["string", "null"], "maxLength": 256, "description": "Comes back with the answer."},
            "parameters": _parameters(
                timeout={**COUNT, "description": "Microseconds; X-Request-Timeout-Ms goes before it."},
                binary_data_output={**_FLAG, "description": "What outputs are that do not say it."},
                row_errors={**_FLAG, "description": "A row that fails does not fail the request."},
            ),
            "inputs": {
                "type": "array",
                "minItems": 1,
                "items": record(
                    {
                        **_INFER_TENSOR,
                        "parameters": _parameters(
                            binary_data_size={**COUNT, "description": "Bytes behind the JSON, in place of `data`."}
                        ),
                        "data": _INFER_DATA,
                    },
                    optional=("parameters", "data"),
                ),
            },
            "outputs": {
                "type": "array",
                "description": "Without them all.",
                "items": record(
                    {"name": _TEXT, "parameters": _parameters(binary_data=_FLAG)}, optional=("parameters",)
                ),
            },
        },
        optional=("id", "parameters", "outputs"),
    ),
    "InferResponse": record(
        {
            "id": _TEXT,
            "model_name": NAME,
            "model_version": NAME,
            "parameters": _parameters(
                row_errors={
                    "type": "array",
                    "items": {"$ref": "#/components/schemas/RowError"},
                    "description": "Where the request asked for them: rows whose outputs are zeros, and why.",
                }
            ),
            "outputs": {
                "type": "array",
                "items": record(
                    {
                        **_INFER_TENSOR,
                        "parameters": _parameters(binary_data_size=COUNT),
                        "data": _INFER_DATA,
                    },
                    optional=("parameters", "data"),
                ),
            },
        },
        optional=("id", "parameters"),
    ),
    "OipConfig": record(
        {
            "name": NAME,
            "platform": _TEXT,
            "backend": _TEXT,
            "version_policy": record({"specific": record({"versions": {"type": "array", "items": NAME}})}),
            "max_batch_size": {
                **COUNT,
                "description": "Rows that run together. A request may bring more: they are spread over batches.",
            },
            "input": {
                "type": "array",
                "items": record(
                    {
                        **_CONFIG_TENSOR,
                        "format": {"const": "FORMAT_NONE"},
                        "is_shape_tensor": _FLAG,
                        "optional": _FLAG,
                        "allow_ragged_batch": _FLAG,
                    }
                ),
            },
            "output": {
                "type": "array",
                "items": record({**_CONFIG_TENSOR, "label_filename": _TEXT, "is_shape_tensor": _FLAG}),
            },
            "instance_group": {
                "type": "array",
                "items": record(
                    {"name": NAME, "kind": {"const": "KIND_CPU"}, "count": COUNT, "gpus": {"type": "array"}}
                ),
            },
            "dynamic_batching": record(
                {
                    "preferred_batch_size": {"type": "array", "items": COUNT},
                    "max_queue_delay_microseconds": COUNT,
                    "preserve_ordering": _FLAG,
                }
            ),
            "model_transaction_policy": record({"decoupled": _FLAG}),
            "parameters": {"type": "object"},
        }
    )
    | {"description": "Triton's model configuration, as far as it has words for how models run here."},
    "OipDuration": record({"count": COUNT, "ns": COUNT}),
    "OipStatistics": record(
        {
            "model_stats": {
                "type": "array",
                "items": record(
                    {
                        "name": NAME,
                        "version": NAME,
                        "inference_count": {**COUNT, "description": "Rows that were answered with outputs."},
                        "execution_count": {**COUNT, "description": "Batches that were run."},
                        "inference_stats": record(
                            {
                                "success": _DURATION,
                                "fail": _DURATION,
                                "queue": _DURATION,
                                **_COMPUTED,
                                "cache_hit": _DURATION,
                                "cache_miss": _DURATION,
                            }
                        )
                        | {"description": "Rows, and what they took; each of a batch's rows took what the batch took."},
                        "batch_stats": {
                            "type": "array",
                            "items": record({"batch_size": COUNT, **_COMPUTED}),
                            "description": "Batches by their number of rows, and what they took.",
                        },
                    }
                ),
            }
        }
    )
    | {"description": "Since the server started."},
}
