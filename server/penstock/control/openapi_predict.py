"""The routes that the data plane answers itself: predictions and health, for the interface description."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from penstock.control.openapi_parts import ANY_REQUEST, RESPONSE_HEADERS, Json, problems, references

__all__ = ["PREDICT_PATHS"]

_REFUSALS = (
    "malformed_body",
    "unauthorized",
    "model_not_found",
    "version_not_found",
    "length_required",
    "unsupported_media_type",
    "unsupported_content_encoding",
    "invalid_input",
    "too_many_requests",
    "model_error",
    "queue_full",
    "deadline_unreachable",
    "memory_exhausted",
    "model_unavailable",
    "model_loading",
    "worker_died",
    "deadline_exceeded",
    *ANY_REQUEST,
)
_OPTIONS = ("RequestTimeout", "Priority", "Reproducible", "Receipt")
_RECEIPT_HEADERS: Mapping[str, object] = {
    f"X-Penstock-{name}": {"description": f"With a receipt: {what}.", "schema": {"type": kind}}
    for name, kind, what in (
        ("Queue-Us", "integer", "microseconds from arrival to the batch being taken"),
        ("Batch-Us", "integer", "microseconds from there to the batch being done"),
        ("Run-Us", "integer", "of these, the model's own"),
        ("Batch-Rows", "integer", "rows that ran together"),
        ("Padding", "number", "share of the batch that was padding"),
        ("Sealed", "string", "why the batch was no larger"),
        ("Model-Version", "string", "the version that answered"),
        ("Instance", "integer", "the worker that ran it"),
    )
}
_HEADER_LENGTH: Json = {
    "description": "Bytes of JSON at the start of the body; without it all of it is JSON.",
    "schema": {"type": "integer", "minimum": 0},
}
# Of the control plane, which reads and writes them piece by piece.
_LINES: Json = {"application/x-ndjson": {}, "text/csv": {}, "application/vnd.apache.arrow.stream": {}}
_STREAMED_IN: Json = {**_LINES, "application/vnd.apache.parquet": {}}
_STREAMED: Json = {
    **_LINES,
    "text/event-stream": {
        "schema": {
            "type": "string",
            "description": "Server-sent events: the data of each is what the line of a row is in NDJSON. The last one, "
            "of the type `end`, has the number of rows.",
        },
        "example": 'data: {"outputs":{"label":0}}\n\nevent: end\ndata: {"rows":1}\n\n',
    },
}
# Likewise: it makes a row of them.
_FILES: Json = {
    "text/plain": {"schema": {"type": "string"}},
    "image/*": {},
    "multipart/form-data": {
        "schema": {"type": "object", "description": "A part for each input, by its name.", "additionalProperties": True}
    },
}
_BY_CONTROL = ("contradiction", "not_acceptable", "internal_error", "control_plane_unavailable")
_ANY_READY = ("model_unavailable",)


def _schema(name: str) -> Json:
    return {"schema": {"$ref": f"#/components/schemas/{name}"}}


def _encoded(name: str, example: object = None) -> Json:
    """OpenAPI 3.1 describes raw bytes by a media type without a schema."""
    shown = {} if example is None else {"example": example}
    return {
        "application/json": {**_schema(name), **shown},
        "application/msgpack": _schema(name),
        "application/octet-stream": {},
    }


def _prediction(name: str, summary: str, description: str, takes: Iterable[str], more: Json) -> Json:
    """Describe a route that runs a model: `more` has its body, what is sent back, and what it refuses beside others."""
    headers = {**RESPONSE_HEADERS, **_RECEIPT_HEADERS, **more.get("headers", {})}
    return {
        "post": {
            "operationId": name,
            "summary": summary,
            "description": description,
            "tags": ["prediction"],
            "parameters": references(*takes, "RequestId", *_OPTIONS),
            "requestBody": {"required": True, **more["body"]},
            "responses": {
                "200": {"description": more["answer"], "headers": headers, "content": more["content"]},
                **problems((*_REFUSALS, *more.get("codes", ()))),
            },
        }
    }


def _predict() -> Json:
    return _prediction(
        "predict",
        "Run a model on one row",
        "One request is one row, without a batch dimension. The server makes the batches.",
        ("ModelName", "ModelVersion", "Output"),
        {
            "body": {
                "description": "A raw body is one row of a single-input model, or many: little-endian, C order. "
                "Files and forms are slower: the control plane makes a row of them.",
                "content": {
                    **_encoded("PredictRequest", {"model": "iris", "inputs": [5.1, 3.5, 1.4, 0.2]}),
                    **_FILES,
                },
            },
            "answer": "The row's outputs. Accept chooses the encoding; raw is one output's tensor.",
            "content": _encoded("PredictResponse"),
            "codes": _BY_CONTROL,
        },
    )


def _predict_rows() -> Json:
    return _prediction(
        "predictRows",
        "Run a model on many rows",
        "A row that cannot be run, or fails, has null for its outputs and an entry in `errors`; others do not care. "
        "Asked for as application/octet-stream, which has no place for errors, one row that fails fails the request.",
        ("ModelName", "ModelVersion", "Output", "InferenceHeaderLength"),
        {
            "body": {
                "description": "Rows as /predict takes them; a raw body is rows side by side, or binary tensors of the "
                "Open Inference Protocol where Inference-Header-Content-Length says so. Lines and record "
                "batches are streamed: run and answered while others are on their way.",
                "content": {
                    **_encoded(
                        "PredictRowsRequest", {"model": "iris", "inputs": [[5.1, 3.5, 1.4, 0.2], [6.7, 3.1, 4.4, 1.4]]}
                    ),
                    **_STREAMED_IN,
                },
            },
            "answer": "The outputs of each row, in the order of the rows; raw is one output's, side by side.",
            "content": {**_encoded("PredictRowsResponse"), **_STREAMED},
            "codes": _BY_CONTROL,
        },
    )


def _infer(name: str, summary: str, takes: Iterable[str]) -> Json:
    example = {
        "inputs": [{"name": "x", "shape": [1, 4], "datatype": "FP32", "data": [5.1, 3.5, 1.4, 0.2]}],
    }
    return _prediction(
        name,
        f"{summary} (Open Inference Protocol)",
        "The first extent of every tensor is the number of rows. They are spread over batches like those of other "
        "requests; one row that fails fails the request, unless `row_errors` is asked for.",
        (*takes, "InferenceHeaderLength"),
        {
            "body": {
                "description": "JSON, and behind it the binary data of inputs with `binary_data_size`, in their order.",
                "content": {
                    "application/json": {**_schema("InferRequest"), "example": example},
                    "application/octet-stream": {},
                },
            },
            "answer": "JSON; with binary data behind it when an output was asked for as such.",
            "headers": {"Inference-Header-Content-Length": _HEADER_LENGTH},
            "content": {"application/json": _schema("InferResponse"), "application/octet-stream": {}},
        },
    )


def _health(operation: str, summary: str, schema: str, codes: Iterable[str] = (), takes: Iterable[str] = ()) -> Json:
    return {
        "get": {
            "operationId": operation,
            "summary": summary,
            "tags": ["health"],
            "parameters": references(*takes, "RequestId"),
            "responses": {
                "200": {
                    "description": "Yes.",
                    "headers": RESPONSE_HEADERS,
                    "content": {"application/json": _schema(schema)},
                },
                **problems((*codes, *ANY_REQUEST)),
            },
        }
    }


_MODEL_READY = ("model_not_found", "version_not_found", "model_unavailable", "model_loading")

PREDICT_PATHS: Json = {
    "/predict": _predict(),
    "/predict/batch": _predict_rows(),
    "/v2/models/{name}/infer": _infer("infer", "Run a model", ("Name",)),
    "/v2/models/{name}/versions/{version}/infer": _infer("inferVersion", "Run a version", ("Name", "Version")),
    "/health/live": _health("isLive", "Whether the process answers", "Health"),
    "/health/ready": _health("isReady", "Whether every model can be asked", "Health", _ANY_READY),
    "/health": _health("isLiveAlias", "The same as /health/live", "Health"),
    "/ready": _health("isReadyAlias", "The same as /health/ready", "Health", _ANY_READY),
    "/v2/health/live": _health("isServerLive", "Whether the process answers (Open Inference Protocol)", "InferLive"),
    "/v2/health/ready": _health(
        "isServerReady", "Whether every model can be asked (Open Inference Protocol)", "InferReady", _ANY_READY
    ),
    "/v2/models/{name}/ready": _health(
        "isModelReady", "Whether a model can be asked (Open Inference Protocol)", "InferReady", _MODEL_READY, ("Name",)
    ),
    "/v2/models/{name}/versions/{version}/ready": _health(
        "isVersionReady",
        "Whether a version can be asked (Open Inference Protocol)",
        "InferReady",
        _MODEL_READY,
        ("Name", "Version"),
    ),
}
