"""Models as the Open Inference Protocol and Triton's extensions of it describe them.

https://github.com/kserve/open-inference-protocol/blob/main/specification/protocol/inference_rest.md
https://github.com/triton-inference-server/server/tree/main/docs/protocol (model configuration, statistics)
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from penstock import __version__
from penstock.control.state import HistogramStats, RingStats
from penstock.core.config import BackendName, ModelConfig
from penstock.core.devices import ALL_GPUS, visible_gpus
from penstock.core.status import ModelState, ModelStatus, Tensor

__all__ = ["EXTENSIONS", "config", "datatype", "is_in_memory", "metadata", "server_metadata", "statistics"]

# Only what is served in full: clients change what they send by this list.
EXTENSIONS = (
    "binary_tensor_data",
    "model_configuration",
    "model_repository",
    "model_repository(unload_dependents)",
    "statistics",
)

_DATATYPES = {
    "bool": "BOOL",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "bytes": "BYTES",
    "str": "BYTES",
}
# Triton's names of what runs a model, and of the format it is in; what Triton does not know goes by our name.
_PLATFORMS = {
    BackendName.ONNX: ("onnxruntime", "onnxruntime_onnx"),
    BackendName.TORCH: ("pytorch", "pytorch_libtorch"),
    BackendName.TENSORRT: ("tensorrt", "tensorrt_plan"),
    BackendName.TENSORFLOW: ("tensorflow", "tensorflow_savedmodel"),
}
# Of these only the registry's history tells; nothing about them is in memory.
_GONE = (ModelState.REGISTERED, ModelState.UNLOADED, ModelState.FAILED, ModelState.STOPPED)


def datatype(dtype: str) -> str:
    """Return the protocol's name of an element type."""
    return _DATATYPES[dtype]


def server_metadata() -> dict[str, object]:
    """Return who answers and what it can do beyond the protocol."""
    return {"name": "penstock", "version": __version__, "extensions": list(EXTENSIONS)}


def metadata(status: ModelStatus, versions: Iterable[ModelStatus]) -> dict[str, object]:
    """Return a version's tensors; `versions` are all of the model's."""
    return {
        "name": status.config.name,
        "versions": [each.config.version for each in versions if each.state not in _GONE],
        "platform": _platform(status)[1],
        "inputs": _tensors(status.inputs),
        "outputs": _tensors(status.outputs),
    }


def config(status: ModelStatus) -> dict[str, object]:
    """Return how a version is run, as far as Triton's model configuration has words for it."""
    given = status.config
    backend, platform = _platform(status)
    most = status.max_batch_size or given.max_batch_size
    return {
        "name": given.name,
        "platform": platform,
        "backend": backend,
        "version_policy": {"specific": {"versions": [given.version]}},
        "max_batch_size": most,
        "input": [
            {
                **tensor,
                "format": "FORMAT_NONE",
                "is_shape_tensor": False,
                "optional": False,
                "allow_ragged_batch": False,
            }
            for tensor in _dimensions(status.inputs)
        ],
        "output": [
            {**tensor, "label_filename": "", "is_shape_tensor": False} for tensor in _dimensions(status.outputs)
        ],
        "instance_group": [_instances(given)],
        "dynamic_batching": _batching(given, most),
        "model_transaction_policy": {"decoupled": False},
        "parameters": {},
    }


def _instances(given: ModelConfig) -> dict[str, object]:
    """Say how many instances there are for each device, as Triton counts them."""
    gpus = [int(number) for number in given.device.split(":")[1:] if number.isdecimal()]
    if given.device == ALL_GPUS:
        gpus = list(range(visible_gpus()))
    kind = "KIND_GPU" if gpus else "KIND_CPU"
    return {"name": given.name, "kind": kind, "count": given.instances, "gpus": gpus}


def statistics(status: ModelStatus, ring: RingStats | None) -> dict[str, object]:
    """Return what a version's rows and batches took since the server started.

    Triton counts requests where rows are counted here, and says that each of a batch's rows took the batch's time.
    """
    sizes = [] if ring is None else ring["batches_by_size"]
    executions = sum(batches for _, batches, _, _ in sizes)
    return {
        "name": status.config.name,
        "version": status.config.version,
        "inference_count": 0 if ring is None else ring["rows_ok"],
        "execution_count": executions,
        "inference_stats": _durations(ring),
        "batch_stats": [
            {
                "batch_size": rows,
                "compute_input": _duration(batches, batch_ns - run_ns),
                "compute_infer": _duration(batches, run_ns),
                "compute_output": _duration(batches, 0),
            }
            for rows, batches, batch_ns, run_ns in sizes
        ],
    }


def is_in_memory(status: ModelStatus) -> bool:
    """Whether the version can be described: it is in memory, and a worker has said what its tensors are."""
    return status.state not in _GONE and bool(status.outputs)


def _platform(status: ModelStatus) -> tuple[str, str]:
    backend = status.backend or str(status.config.backend)
    return _PLATFORMS.get(BackendName(backend), (backend, backend))


def _tensors(tensors: Sequence[Tensor]) -> list[dict[str, object]]:
    """The first extent is that of the batch, which is as long as a request likes."""
    return [
        {"name": name, "datatype": datatype(dtype), "shape": [-1, *_extents(shape)]} for name, dtype, shape in tensors
    ]


def _dimensions(tensors: Sequence[Tensor]) -> list[dict[str, object]]:
    return [
        {"name": name, "data_type": _data_type(datatype(dtype)), "dims": _extents(shape)}
        for name, dtype, shape in tensors
    ]


def _data_type(name: str) -> str:
    return "TYPE_STRING" if name == "BYTES" else f"TYPE_{name}"


def _extents(shape: Sequence[int | None]) -> list[int]:
    return [-1 if extent is None else extent for extent in shape]


def _batching(given: ModelConfig, most: int) -> dict[str, object]:
    return {
        "preferred_batch_size": [size for size in given.batch_sizes if size <= most],
        "max_queue_delay_microseconds": given.max_queue_delay_us,
        "preserve_ordering": False,
    }


def _durations(ring: RingStats | None) -> dict[str, object]:
    if ring is None:
        names = ("success", "fail", "queue", "compute_input", "compute_infer", "compute_output")
        return {name: _duration(0, 0) for name in (*names, "cache_hit", "cache_miss")}
    queued = ring["histograms"]["queue_seconds"]
    rows = sum(queued["counts"])
    queue_ns, total_ns = _nanoseconds(queued), _nanoseconds(ring["histograms"]["total_seconds"])
    batch_ns = sum(size * spent_ns for size, _, spent_ns, _ in ring["batches_by_size"])
    run_ns = sum(size * ran_ns for size, _, _, ran_ns in ring["batches_by_size"])
    refused = ring["claims_refused"] + ring["rows_refused_deadline"]
    failed = refused + ring["rows_failed"] + ring["rows_shed"] + ring["deadline_exceeded"]
    return {
        "success": _duration(ring["rows_ok"], total_ns),
        # What is refused is in none of the histograms, and what fails cannot be told apart in them.
        "fail": _duration(failed, 0),
        "queue": _duration(rows, queue_ns),
        "compute_input": _duration(rows, batch_ns - run_ns),
        "compute_infer": _duration(rows, run_ns),
        # From the batch being done to the reply being formed. A row whose batch was counted by another loop may be
        # missing on one side of the difference.
        "compute_output": _duration(rows, max(0, total_ns - queue_ns - batch_ns)),
        # The time is that of looking, and of one lookup in some: the clock costs more than a hit.
        "cache_hit": _duration(ring["cache_hits"], ring["cache_hit_ns"]),
        "cache_miss": _duration(ring["cache_misses"], ring["cache_miss_ns"]),
    }


def _nanoseconds(histogram: HistogramStats) -> int:
    return round(histogram["sum"] * 1e9)


def _duration(count: int, ns: int) -> dict[str, int]:
    return {"count": count, "ns": ns}
