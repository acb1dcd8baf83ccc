"""ONNX models on a device: ONNX Runtime's CUDA provider, bound to fixed addresses; or the host's thread in its place.

A session has one stream, so the batches in flight follow each other there. Its own CUDA graphs are left off: their
replay waits for the stream's end whatever the run's options say (onnxruntime pull request 28686), and the worker could
neither take nor complete a batch meanwhile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import onnxruntime

from penstock.core.devices import HOST
from penstock.core.errors import ModelLoadError
from penstock.worker.backends.probing import first_line
from penstock.worker.devices import Device, DeviceArray, DeviceLostError, DeviceMemoryError, Eager, Graph, Stream
from penstock.worker.model import BadOutputError, TensorSpec

__all__ = ["OnnxNetwork", "on_gpu"]

CUDA = "CUDAExecutionProvider"

# What ONNX Runtime says, whose errors have no types, when a context is of no more use.
_SAID_OF_LOSS = ("illegal memory access", "unspecified launch failure", "misaligned address", "uncorrectable")
_SAID_OF_MEMORY = ("Failed to allocate memory", "out of memory", "is smaller than requested bytes")


def on_gpu(open_session: Callable[[list[Any]], Any], device: Device, stream: Stream) -> Any:
    """Return a session on a GPU, whose runs go to the stream.

    ModelLoadError when ONNX Runtime was built without CUDA or cannot use it, DeviceMemoryError when there is no room.
    """
    if CUDA not in onnxruntime.get_available_providers():
        raise ModelLoadError(
            f"device = {device.name!r}: this onnxruntime ({onnxruntime.__version__}) was built for the CPU: pip "
            "uninstall onnxruntime, then pip install 'penstock[onnx-gpu]' (of the same modules), or set device = 'cpu'"
        )
    if hasattr(onnxruntime, "preload_dlls"):  # 1.21: those of NVIDIA's wheels, where no loader looks
        onnxruntime.preload_dlls()
    options = {
        "device_id": device.name.removeprefix("cuda:"),
        "user_compute_stream": str(stream.handle),
        # It would otherwise take twice as much each time.
        "arena_extend_strategy": "kSameAsRequested",
    }
    try:
        session = open_session([(CUDA, options), "CPUExecutionProvider"])
    except ModelLoadError as error:
        _raise_for_device(error)
        raise
    if session.get_providers()[0] != CUDA:  # it falls back to the CPU, with a line in its log
        raise ModelLoadError(
            f"device = {device.name!r}: ONNX Runtime {onnxruntime.__version__} cannot use CUDA here, as a rule because "
            "libcudart, cuDNN or the driver is missing or of another release: pip install "
            "'onnxruntime-gpu[cuda,cudnn]', or set device = 'cpu'"
        )
    return session


def _raise_for_device(error: Exception) -> None:
    """Raise ONNX Runtime's error as ours, if it is one of the device."""
    text = str(error)
    if any(said in text for said in _SAID_OF_LOSS):
        raise DeviceLostError(first_line(error)) from error
    if any(said in text for said in _SAID_OF_MEMORY):
        raise DeviceMemoryError(first_line(error)) from error


class OnnxNetwork:
    """A session on a device; see Network."""

    def __init__(
        self,
        device: Device,
        stream: Stream,
        session: Any,
        inputs: tuple[TensorSpec, ...],
        outputs: tuple[TensorSpec, ...],
    ) -> None:
        self.inputs = inputs
        self.outputs = outputs
        self._device = device
        self._own = stream
        self._session = session
        self._names = [tensor.name for tensor in outputs]
        self._bindings: dict[tuple[int, ...], tuple[Any, Any]] = {}

    def stream(self) -> Stream:
        """Return the session's stream; on the host each batch has one of its own, which tells its own errors."""
        return self._device.stream() if self._device.name == HOST else self._own

    def enqueue(self, stream: Stream, inputs: Sequence[DeviceArray], outputs: Sequence[DeviceArray]) -> None:
        """Append a run; see Network."""
        if self._device.name == HOST:
            given = {tensor.name: self._device.view(array) for tensor, array in zip(self.inputs, inputs, strict=True)}
            results = [self._device.view(array) for array in outputs]
            stream.call(lambda: self._run_on_host(given, results))
        else:
            self._run_bound(inputs, outputs)

    def graph(self, stream: Stream, body: Callable[[], None]) -> Graph:
        """Write down what `body` appends; on a GPU it is appended each time."""
        if self._device.name == HOST:
            return stream.capture(body)
        return Eager(body)

    def _run_on_host(self, given: dict[str, Any], results: list[Any]) -> None:
        found = self._session.run(self._names, given)
        for name, result, output in zip(self._names, found, results, strict=True):
            if result.shape != output.shape:
                raise BadOutputError(f"output {name!r} has shape {result.shape}, expected {output.shape}")
            output[...] = result

    def _run_bound(self, inputs: Sequence[DeviceArray], outputs: Sequence[DeviceArray]) -> None:
        key = (inputs[0].shape[0], *(array.address for array in (*inputs, *outputs)))
        key = (*key, *(array.shape[1] if len(array.shape) > 1 else 0 for array in inputs))
        if key not in self._bindings:
            self._bindings[key] = self._bind(inputs, outputs)
        binding, options = self._bindings[key]
        try:
            self._session.run_with_iobinding(binding, options)
        except Exception as error:
            _raise_for_device(error)
            raise

    def _bind(self, inputs: Sequence[DeviceArray], outputs: Sequence[DeviceArray]) -> tuple[Any, Any]:
        """Bind a run to its addresses."""
        binding = self._session.io_binding()
        ordinal = int(self._device.name.removeprefix("cuda:"))
        for tensor, array in zip(self.inputs, inputs, strict=True):
            binding.bind_input(tensor.name, "cuda", ordinal, np.dtype(array.dtype), list(array.shape), array.address)
        for tensor, array in zip(self.outputs, outputs, strict=True):
            binding.bind_output(tensor.name, "cuda", ordinal, np.dtype(array.dtype), list(array.shape), array.address)
        options = onnxruntime.RunOptions()
        options.add_run_config_entry("disable_synchronize_execution_providers", "1")
        return binding, options
