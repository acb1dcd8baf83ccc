"""ONNX models on ONNX Runtime. This file and onnx_device.py, which has them on other devices, alone import it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.core.devices import CPU, HOST
from penstock.core.errors import ModelLoadError
from penstock.worker.arrays import Array
from penstock.worker.backends import Backend, LoadOptions, find_artefact
from penstock.worker.backends.probing import Declared, Padding, first_line, input_specs, probe_outputs
from penstock.worker.model import BadOutputError, ModelSpec, TensorSpec

if TYPE_CHECKING:
    from penstock.worker.devices.backend import GraphBackend

__all__ = ["OnnxBackend", "load"]

logger = logging.getLogger("penstock.worker.onnx")

_DTYPES = {
    "tensor(bool)": "bool",
    "tensor(uint8)": "uint8",
    "tensor(uint16)": "uint16",
    "tensor(uint32)": "uint32",
    "tensor(uint64)": "uint64",
    "tensor(int8)": "int8",
    "tensor(int16)": "int16",
    "tensor(int32)": "int32",
    "tensor(int64)": "int64",
    "tensor(float16)": "float16",
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(string)": "str",
}
# ZipMap's results: skl2onnx puts one dictionary {class: probability} per row where a matrix was.
_ZIP_MAPS = {"seq(map(int64,tensor(float)))", "seq(map(string,tensor(float)))"}

# More classes than this are not worth naming to every client that asks for the model's description.
LABELS_MAX = 1000


@dataclass(frozen=True, slots=True)
class _Output:
    """An output that is served. `classes` are the keys of its dictionaries, when it comes out of a ZipMap."""

    spec: TensorSpec
    classes: tuple[int | str, ...] | None = None


def load(path: Path, options: LoadOptions) -> Backend:
    """Load an ONNX file, or the one in a folder; ModelLoadError says what is wrong with it and how to mend it."""
    if options.device != CPU:
        return _load_on_device(_file_of(path), options)
    session = _open_session(_file_of(path), options.threads)
    declared = [Declared(node.name, _DTYPES.get(node.type), node.type, node.shape) for node in session.get_inputs()]
    inputs, batch = input_specs(declared, options.lengths)
    wanted = _wanted_outputs(session)
    outputs = _probe_outputs(session, inputs, wanted, batch)
    return OnnxBackend(session, inputs, outputs, batch)


def _load_on_device(file: Path, options: LoadOptions) -> GraphBackend:
    """The model's schema is found out on the CPU: a session on a GPU would write down the runs that ask for it."""
    asked = _open_session(file, options.threads)
    declared = [Declared(node.name, _DTYPES.get(node.type), node.type, node.shape) for node in asked.get_inputs()]
    inputs, batch = input_specs(declared, options.lengths)
    outputs = _probe_outputs(asked, inputs, _wanted_outputs(asked), batch)
    if any(output.classes for output in outputs):
        raise ModelLoadError(f"{file} ends with a ZipMap, which only the CPU runs: export the model with zipmap=False")
    if options.precision != "float32":
        raise ModelLoadError(
            f"precision = {options.precision!r}: an ONNX file says itself what it computes in; convert the file "
            "(onnxconverter_common.float16), and leave precision out"
        )
    from penstock.worker.backends.onnx_device import OnnxNetwork, on_gpu
    from penstock.worker.devices import open_device
    from penstock.worker.devices.backend import GraphBackend

    device = open_device(options.device)
    stream = device.stream()
    session = asked
    if options.device != HOST:
        session = on_gpu(partial(_open_session, file, options.threads), device, stream)
    specs = tuple(output.spec for output in outputs)
    spec = ModelSpec(inputs=inputs, outputs=specs, max_batch_size=batch)
    return GraphBackend("onnx", device, OnnxNetwork(device, stream, session, inputs, specs), spec, rows_min=batch or 1)


class OnnxBackend:
    """A session and its schema.

    Inputs are handed to the session where they lie; results are copied into the ring (0.3 us a batch for W1; binding
    the outputs to the ring for each batch costs 0.8 us more than it saves, docs/adr/0005-workers.md).
    """

    name = "onnx"
    rerun = True
    may_refuse_zeros = False

    def __init__(
        self, session: Any, inputs: tuple[TensorSpec, ...], outputs: tuple[_Output, ...], fixed_batch: int | None
    ) -> None:
        self.spec = ModelSpec(
            inputs=inputs,
            outputs=tuple(output.spec for output in outputs),
            max_batch_size=fixed_batch,
            labels={output.spec.name: output.classes for output in outputs if output.classes and _few(output.classes)},
        )
        self._run = _inner_run(session)
        self._input_names = tuple(tensor.name for tensor in inputs)
        self._output_names = [output.spec.name for output in outputs]
        self._classes = [output.classes for output in outputs]
        self._plain = not any(self._classes)
        self._fixed_batch = fixed_batch
        self._padding = Padding(fixed_batch or 0)

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array], lengths: Array | None = None) -> None:
        """Run the rows of `inputs` into `outputs`; see Backend.run. Their own lengths are no input of the model."""
        rows = len(inputs[0])
        padded = self._fixed_batch is not None and rows != self._fixed_batch
        if padded:
            inputs = self._padding.pad(inputs, rows)
        results = self._run(self._output_names, dict(zip(self._input_names, inputs, strict=True)), None)
        if not self._plain:
            results = [_matrix(result, classes) for result, classes in zip(results, self._classes, strict=True)]
        for index, output in enumerate(outputs):  # copy_results, without the call: 0.5 us of 5 for W1
            result = results[index]
            if result.shape != output.shape:
                if not padded or result.shape[1:] != output.shape[1:]:
                    name = self._output_names[index]
                    raise BadOutputError(f"output {name!r} has shape {result.shape}, expected {output.shape}")
                result = result[:rows]
            output[...] = result


def _file_of(path: Path) -> Path:
    if not path.is_dir():
        return path
    found = find_artefact(path)
    if found is None or found.suffix.lower() != ".onnx":
        raise ModelLoadError(f"{path} is a folder, but an ONNX model is a file: name the .onnx file inside it")
    return found


def _few(classes: Sequence[object]) -> bool:
    return len(classes) <= LABELS_MAX


def _inner_run(session: Any) -> Callable[..., list[Any]]:
    """Return the session's native run, without the Python wrapper that costs 0.4 to 0.9 us a batch."""
    run: Callable[..., list[Any]] = getattr(session, "_sess", session).run
    return run


def _open_session(path: Path, threads: int, providers: Sequence[Any] = ("CPUExecutionProvider",)) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise ModelLoadError("ONNX models need onnxruntime: pip install 'penstock[onnx]'") from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    options.log_severity_level = 3
    # Spinning threads would take the cores of the data plane between batches.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=list(providers))
    except Exception as error:
        raise ModelLoadError(
            f"onnxruntime {onnxruntime.__version__} cannot load {path}: {first_line(error)}. "
            f"Check that the file is complete and was exported for an opset this release knows"
        ) from error


def _wanted_outputs(session: Any) -> list[Any]:
    """Return the outputs that can be served; others, such as sequences, are left out as long as there is one."""
    wanted: list[Any] = []
    refused: list[Any] = []
    for node in session.get_outputs():
        (wanted if node.type in _DTYPES or node.type in _ZIP_MAPS else refused).append(node)
    names = ", ".join(f"{node.name!r} ({node.type})" for node in refused)
    if not wanted:
        raise ModelLoadError(
            f"the model has no output that Penstock can serve, only {names}: export tensors of numbers or strings"
        )
    if refused:
        logger.warning("output %s is not served: only tensors of numbers and strings are", names)
    return wanted


def _probe_outputs(
    session: Any, inputs: tuple[TensorSpec, ...], wanted: list[Any], batch: int | None
) -> tuple[_Output, ...]:
    """Return the outputs' true shapes, and the classes of those that come out of a ZipMap."""
    names = [node.name for node in wanted]
    found: dict[str, tuple[int | str, ...]] = {}

    def run(arrays: Sequence[Array]) -> Sequence[Array]:
        feed = {tensor.name: array for tensor, array in zip(inputs, arrays, strict=True)}
        results: list[Any] = session.run(names, feed)
        for index, node in enumerate(wanted):
            if node.type in _ZIP_MAPS:
                found[node.name] = _classes_of(node.name, results[index])
                results[index] = _matrix(results[index], found[node.name])
        return results

    return tuple(_Output(spec, found.get(spec.name)) for spec in probe_outputs(names, run, inputs, batch))


def _classes_of(output: str, result: Sequence[dict[int | str, float]]) -> tuple[int | str, ...]:
    if not result:
        raise ModelLoadError(f"output {output!r} is empty for a row of zeros: export the model with zipmap=False")
    return tuple(result[0])


def _matrix(result: Any, classes: tuple[int | str, ...] | None) -> Any:
    """Turn a ZipMap's dictionaries back into float32 (rows, classes); anything else stays as it is."""
    if classes is None:
        return result
    return np.array([[row[label] for label in classes] for row in result], np.float32).reshape(
        len(result), len(classes)
    )
