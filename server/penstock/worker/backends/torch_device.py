"""PyTorch models on a device: graphs of CUDA, or the host's thread in their place."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from penstock.core.devices import HOST
from penstock.core.errors import ModelLoadError
from penstock.worker.backends import LoadOptions
from penstock.worker.backends.torch_convert import convert
from penstock.worker.backends.torch_exported import call_of, moved
from penstock.worker.backends.torch_model import TorchModel, first_line
from penstock.worker.devices import (
    Device,
    DeviceArray,
    DeviceLostError,
    DeviceMemoryError,
    Graph,
    Stream,
    open_device,
)
from penstock.worker.devices.backend import GraphBackend
from penstock.worker.model import BadOutputError, ModelSpec

__all__ = ["place"]

# Runs before a run is written down: libraries choose their kernels and take their room in them.
WARM_RUNS = 2  # beside the one before

# Of torch.AcceleratorError and its forerunners: the context is of no more use. cudaGetErrorString's words for what
# cuda.py lists by name.
_SAID_OF_LOSS = (
    "illegal memory access",
    "unspecified launch failure",
    "device-side assert",
    "misaligned address",
    "illegal instruction",
    "invalid program counter",
    "operation not supported on global/shared address space",
    "uncorrectable",
    "hardware stack error",
    "launch timed out",
    "unknown error",
    "unavailable",
    "driver shutting down",
)


def place(model: TorchModel, path: Path, options: LoadOptions) -> GraphBackend:
    """Put a model that was opened on the host onto its device.

    ModelLoadError when that cannot be, DeviceMemoryError when there is no room.
    """
    device = open_device(options.device)
    where = torch.device("cpu")
    if options.device != HOST:
        where = _gpu(options.device)
    precision = getattr(torch, options.precision)
    try:
        moved = _moved(model, where, path, options)
        if where.type != "cpu":
            # Weights were moved, and perhaps folded, on another stream than those that batches run on.
            torch.cuda.synchronize(where)
    except torch.OutOfMemoryError as error:
        raise DeviceMemoryError(first_line(error)) from error
    except RuntimeError as error:
        raise ModelLoadError(f"the model cannot be put on {options.device}: {first_line(error)}") from error
    spec = ModelSpec(inputs=model.inputs, outputs=model.outputs, max_batch_size=model.rows_max)
    network = TorchNetwork(device, moved, where, precision)
    return GraphBackend("torch", device, network, spec, rows_min=model.rows_min)


def _gpu(name: str) -> torch.device:
    if not torch.cuda.is_available():
        raise ModelLoadError(
            f"device = {name!r}: PyTorch {torch.__version__} sees no GPU: it was built for the CPU, or for a newer "
            "driver than this machine has. Install the build for your CUDA (https://pytorch.org/get-started), or set "
            "device = 'cpu'"
        )
    torch.cuda.set_device(name)
    return torch.device(name)


def _moved(model: TorchModel, where: torch.device, path: Path, options: LoadOptions) -> TorchModel:
    if model.source is None:
        raise ModelLoadError(
            f"{path} was compiled for the CPU, or for one kind of GPU, and Penstock cannot tell: serve the exported "
            "program with convert = 'aot-inductor', or set device = 'cpu'"
        )
    if isinstance(model.source, torch.export.ExportedProgram):
        program = model.source if where.type == "cpu" else moved(model.source, where)
        model = replace(model, call=call_of(program), source=program)
    else:
        model.source.to(where)
    return convert(replace(model, device=where), path, options)


class TorchNetwork:
    """A model on a device; see Network."""

    def __init__(self, device: Device, model: TorchModel, where: torch.device, precision: torch.dtype) -> None:
        self.inputs = model.inputs
        self.outputs = model.outputs
        self._device = device
        self._call = model.call
        self._where = where
        self._precision = precision
        self._names = [tensor.name for tensor in model.outputs]
        self._streams: dict[int, Any] = {}
        self._tensors: dict[DeviceArray, Any] = {}
        self._pools: dict[int, Any] = {}

    def stream(self) -> Stream:
        """Return a new stream of the device."""
        return self._device.stream()

    def enqueue(self, stream: Stream, inputs: Sequence[DeviceArray], outputs: Sequence[DeviceArray]) -> None:
        """Append a run; see Network."""
        given = [self._tensor(array) for array in inputs]
        results = [self._tensor(array) for array in outputs]
        stream.call(lambda: self._run(stream, given, results))

    def graph(self, stream: Stream, body: Callable[[], None]) -> Graph:
        """Write down what `body` appends; see Network. PyTorch keeps the memory that its part of it needs."""
        if self._where.type == "cpu":
            return stream.capture(body)
        with _translated():
            return self._captured(stream, body)

    def _captured(self, stream: Stream, body: Callable[[], None]) -> Graph:
        # The runs before it took room in the general pool; what is written down has a pool for each stream, whose
        # graphs never run at once.
        for _ in range(WARM_RUNS):
            body()
        stream.synchronize()
        pool = self._pools.setdefault(stream.handle, torch.cuda.graph_pool_handle())
        graph = torch.cuda.CUDAGraph()
        on = self._stream(stream)
        with torch.cuda.graph(graph, pool=pool, stream=on, capture_error_mode="thread_local"):
            body()
        return _TorchGraph(graph, on)

    def _run(self, stream: Stream, inputs: list[Any], outputs: list[Any]) -> None:
        with _translated(), self._on(stream), torch.inference_mode(), self._cast():
            results = self._in_order(self._call(inputs))
            for name, result, output in zip(self._names, results, outputs, strict=True):
                if not isinstance(result, torch.Tensor) or result.shape != output.shape:
                    shape = tuple(result.shape) if isinstance(result, torch.Tensor) else type(result).__name__
                    raise BadOutputError(f"output {name!r} has shape {shape}, expected {tuple(output.shape)}")
                output.copy_(result)

    def _in_order(self, result: Any) -> Sequence[Any]:
        if isinstance(result, dict):
            return [result[name] for name in self._names]
        return result if isinstance(result, tuple | list) else [result]

    def _cast(self) -> AbstractContextManager[Any]:
        if self._precision == torch.float32:
            return nullcontext()
        # The cache of cast weights is for training; under inference_mode it would hold a copy of each for nothing.
        context: AbstractContextManager[Any] = torch.autocast(self._where.type, self._precision, cache_enabled=False)
        return context

    def _on(self, stream: Stream) -> AbstractContextManager[Any]:
        if self._where.type == "cpu":
            return nullcontext()
        context: AbstractContextManager[Any] = torch.cuda.stream(self._stream(stream))
        return context

    def _stream(self, stream: Stream) -> Any:
        if stream.handle not in self._streams:
            self._streams[stream.handle] = torch.cuda.ExternalStream(stream.handle, device=self._where)
        return self._streams[stream.handle]

    def _tensor(self, array: DeviceArray) -> Any:
        """Return the tensor that lies there."""
        if array not in self._tensors:  # made before the run is written down: the driver is asked about its memory
            if self._where.type == "cpu":
                self._tensors[array] = torch.from_numpy(self._device.view(array))
            else:
                self._tensors[array] = torch.as_tensor(_Foreign(array), device=self._where)
        return self._tensors[array]


class _Foreign:
    """Memory of the device as PyTorch takes it from other libraries (CUDA Array Interface, version 3)."""

    def __init__(self, array: DeviceArray) -> None:
        self.__cuda_array_interface__ = {
            "shape": array.shape,
            "typestr": np.dtype(array.dtype).str,
            "data": (array.address, False),
            "strides": None,
            "version": 3,
        }


class _TorchGraph:
    def __init__(self, graph: Any, stream: Any) -> None:
        self._graph = graph
        self._stream = stream

    def launch(self) -> None:
        with _translated():
            torch.cuda.set_stream(self._stream)  # what replay() takes as its own
            self._graph.replay()


class _translated:  # noqa: N801
    """Turns PyTorch's errors of a device into ours. A context manager that is made for each launch: no generator."""

    def __enter__(self) -> None: ...

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or not isinstance(error, RuntimeError):
            return
        if isinstance(error, torch.OutOfMemoryError):
            raise DeviceMemoryError(first_line(error)) from error
        text = str(error)
        if "CUDA error" in text and any(said in text for said in _SAID_OF_LOSS):
            raise DeviceLostError(first_line(error)) from error
