"""Engines of TensorRT on a device. The only file that imports tensorrt; tensorrt_engines.py builds and keeps them."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from penstock.core.devices import CPU, HOST
from penstock.core.errors import ModelLoadError
from penstock.worker.backends import LoadOptions
from penstock.worker.backends.probing import Declared, input_specs
from penstock.worker.backends.tensorrt_engines import Engines, read
from penstock.worker.backends.trust import refuse_code
from penstock.worker.devices import Device, DeviceArray, DeviceMemoryError, Eager, Graph, Stream, open_device
from penstock.worker.devices.backend import GraphBackend
from penstock.worker.devices.cuda import CudaError
from penstock.worker.model import ModelSpec, TensorSpec

__all__ = ["TensorRtNetwork", "load"]

logger = logging.getLogger("penstock.worker.tensorrt")

# By TensorRT's names of its types, which are NumPy's but for these.
_DTYPES = {"FLOAT": "float32", "HALF": "float16"}


def load(path: Path, options: LoadOptions) -> GraphBackend:
    """Load an engine, or build one from an ONNX file; ModelLoadError says what is wrong and how to mend it."""
    try:
        import tensorrt
    except ImportError as error:
        raise ModelLoadError(
            "TensorRT models need tensorrt: pip install 'penstock[tensorrt]' (its libraries come from "
            "https://pypi.nvidia.com), or serve the ONNX file with backend = 'onnx'"
        ) from error
    if options.device in (CPU, HOST):
        raise ModelLoadError(f"TensorRT runs on a GPU, and device is {options.device!r}: set device = 'cuda:0'")
    if options.convert not in ("none", "refit"):
        raise ModelLoadError(f"convert = {options.convert!r} is not for TensorRT: use refit, or leave it out")
    file = _file_of(path)
    is_onnx = file.suffix.lower() == ".onnx"
    if not is_onnx:
        refuse_code(file, options, "is an engine of TensorRT, which holds machine code", "An ONNX file holds none.")
    device = open_device(options.device)
    log = tensorrt.Logger(tensorrt.Logger.WARNING)
    tensorrt.init_libnvinfer_plugins(log, "")
    engine = (
        Engines(tensorrt, log, device.title, options).of(file)
        if is_onnx
        else read(tensorrt, log, file.read_bytes(), file)
    )
    network = TensorRtNetwork(device, engine, options.lengths)
    spec = ModelSpec(inputs=network.inputs, outputs=network.outputs, max_batch_size=network.rows_max)
    return GraphBackend("tensorrt", device, network, spec, rows_min=network.rows_min)


def _file_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = [file for file in sorted(path.iterdir()) if file.suffix.lower() in (".onnx", ".engine", ".plan")]
    if len(found) != 1:
        raise ModelLoadError(f"{path} is a folder without exactly one file of .onnx, .engine or .plan: name the file")
    return found[0]


class TensorRtNetwork:
    """An engine on a device; see Network.

    Each graph has an execution context of its own: what is done to a context after its run was written down makes the
    graph undefined. Those of a stream, of which one runs at a time, share the memory that runs need.
    """

    def __init__(self, device: Device, engine: Any, lengths: Sequence[int]) -> None:
        import tensorrt

        self._device = device
        self._engine = engine
        self._own_memory = tensorrt.ExecutionContextAllocationStrategy.USER_MANAGED
        self._contexts: dict[tuple[Any, ...], Any] = {}
        self._memory: dict[int, int] = {}
        names = [engine.get_tensor_name(number) for number in range(engine.num_io_tensors)]
        given = [name for name in names if engine.get_tensor_mode(name) == tensorrt.TensorIOMode.INPUT]
        declared = [
            Declared(
                name, _dtype(engine, name), str(engine.get_tensor_dtype(name)), tuple(engine.get_tensor_shape(name))
            )
            for name in given
        ]
        self.inputs, fixed = input_specs(declared, lengths)
        self.outputs = tuple(self._output(name, lengths) for name in names if name not in given)
        if fixed:
            self.rows_min = self.rows_max = fixed
        else:  # what the profile allows that the engine was built with
            least, _, most = engine.get_tensor_profile_shape(given[0], 0)
            self.rows_min, self.rows_max = int(least[0]), int(most[0])

    def _output(self, name: str, lengths: Sequence[int]) -> TensorSpec:
        dtype, (_, *row) = _dtype(self._engine, name), tuple(self._engine.get_tensor_shape(name))
        if dtype is None or any(size < 0 for size in row[1:]):
            raise ModelLoadError(f"output {name!r} has no fixed shape of numbers: export the model with one")
        varies = bool(row) and row[0] < 0
        return TensorSpec(name, dtype, (lengths[-1], *row[1:]) if varies else tuple(row), varies)

    def stream(self) -> Stream:
        """Return a new stream of the device."""
        return self._device.stream()

    def enqueue(self, stream: Stream, inputs: Sequence[DeviceArray], outputs: Sequence[DeviceArray]) -> None:
        """Append a run; see Network."""
        key = (stream.handle, *inputs, *outputs)
        if key not in self._contexts:
            self._contexts[key] = self._context(stream, inputs, outputs)
        if not self._contexts[key].execute_async_v3(stream.handle):
            raise RuntimeError("TensorRT refused to run a batch: its log says why")

    def _context(self, stream: Stream, inputs: Sequence[DeviceArray], outputs: Sequence[DeviceArray]) -> Any:
        """Return a context whose shapes and addresses stay."""
        context = self._engine.create_execution_context(self._own_memory)
        if context is None:
            raise DeviceMemoryError("no room for another execution context of TensorRT")
        size = int(self._engine.device_memory_size_v2)
        if stream.handle not in self._memory:
            self._memory[stream.handle] = self._device.memory(size)
        context.set_device_memory(self._memory[stream.handle], size)
        done = [context.set_input_shape(spec.name, at.shape) for spec, at in zip(self.inputs, inputs, strict=True)]
        for specs, arrays in ((self.inputs, inputs), (self.outputs, outputs)):
            done += [context.set_tensor_address(spec.name, at.address) for spec, at in zip(specs, arrays, strict=True)]
        if not all(done):
            raise ModelLoadError(f"TensorRT refused {inputs[0].shape[0]} rows: its log says why")
        return context

    def graph(self, stream: Stream, body: Callable[[], None]) -> Graph:
        """Write down what `body` appends; it has run once for this shape, as enqueueV3 must before it is captured.

        Networks with loops, or shapes that depend on data, cannot be written down, and are appended each time.
        """
        try:
            return stream.capture(body)
        except (RuntimeError, CudaError) as error:
            stream.fault()  # DeviceLostError where it is that
            logger.warning("batches are started layer by layer, since TensorRT's run cannot be captured: %s", error)
            return Eager(body)


def _dtype(engine: Any, name: str) -> str | None:
    said = str(engine.get_tensor_dtype(name).name)
    dtype = _DTYPES.get(said, said.lower())
    return dtype if dtype in ("float32", "float16", "int8", "int32", "int64", "uint8", "bool") else None
