"""ONNX models on ONNX Runtime's CPU provider. The only file that imports onnxruntime."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from penstock.core.errors import ModelLoadError
from penstock.worker.arrays import Array
from penstock.worker.backends import LoadOptions, find_artefact
from penstock.worker.model import BadOutputError, ModelSpec, TensorSpec

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
}
# ZipMap's results: skl2onnx puts one dictionary {class: probability} per row where a matrix was.
_ZIP_MAPS = {"seq(map(int64,tensor(float)))", "seq(map(string,tensor(float)))"}

# More classes than this are not worth naming to every client that asks for the model's description.
LABELS_MAX = 1000

Dimension = int | str | None


@dataclass(frozen=True, slots=True)
class _Output:
    """An output that is served. `classes` are the keys of its dictionaries, when it comes out of a ZipMap."""

    spec: TensorSpec
    classes: tuple[int | str, ...] | None = None


def load(path: Path, options: LoadOptions) -> OnnxBackend:
    """Load an ONNX file, or the one in a folder; ModelLoadError says what is wrong with it and how to mend it."""
    session = _open_session(_file_of(path), options.threads)
    inputs, batch = _input_specs(session, options.lengths)
    wanted = _wanted_outputs(session)
    outputs = _probe_outputs(session, inputs, wanted, batch)
    return OnnxBackend(session, inputs, outputs, batch)


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
        self._padded: dict[tuple[int, ...], list[Array]] = {}  # by the shapes of rows

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array], lengths: Array | None = None) -> None:
        """Run the rows of `inputs` into `outputs`; see Backend.run. Their own lengths are no input of the model."""
        rows = len(inputs[0])
        if self._fixed_batch is not None and rows != self._fixed_batch:
            inputs = self._pad(inputs, rows)
        results = self._run(self._output_names, dict(zip(self._input_names, inputs, strict=True)), None)
        if not self._plain:
            results = [_matrix(result, classes) for result, classes in zip(results, self._classes, strict=True)]
        for index, output in enumerate(outputs):
            result = results[index]
            if result.shape != output.shape:
                if self._fixed_batch is None or result.shape[1:] != output.shape[1:]:
                    name = self._output_names[index]
                    raise BadOutputError(f"output {name!r} has shape {result.shape}, expected {output.shape}")
                result = result[:rows]
            output[...] = result

    def _pad(self, inputs: Sequence[Array], rows: int) -> list[Array]:
        size = self._fixed_batch or 0
        shape = tuple(extent for array in inputs for extent in array.shape[1:])
        if shape not in self._padded:
            self._padded[shape] = [np.zeros((size, *array.shape[1:]), array.dtype) for array in inputs]
        for padded, given in zip(self._padded[shape], inputs, strict=True):
            padded[:rows] = given
            padded[rows:] = 0
        return self._padded[shape]


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


def _open_session(path: Path, threads: int) -> Any:
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
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise ModelLoadError(
            f"onnxruntime {onnxruntime.__version__} cannot load {path}: {_first_line(error)}. "
            f"Check that the file is complete and was exported for an opset this release knows"
        ) from error


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")


def _input_specs(session: Any, lengths: Sequence[int]) -> tuple[tuple[TensorSpec, ...], int | None]:
    """Return the inputs without their batch dimension, and the batch size when the model fixes it."""
    specs = []
    batches = set()
    for node in session.get_inputs():
        dtype = _DTYPES.get(node.type)
        if dtype is None:
            raise ModelLoadError(
                f"input {node.name!r} is a {node.type}, which Penstock cannot serve yet: "
                f"encode it outside the model, or export the model with a numeric input"
            )
        if not node.shape:
            raise ModelLoadError(
                f"input {node.name!r} is a scalar and has no batch dimension: export it with shape [None]"
            )
        batch, *row = node.shape
        for position, size in enumerate(row, start=1):
            if not _is_static(size) and (position > 1 or not lengths):
                raise ModelLoadError(
                    f"input {node.name!r} has shape {_shape_text(node.shape)}: dimension {position} has no fixed size. "
                    + _mend_dimension(position)
                )
        if _is_static(batch):
            batches.add(int(batch))
        varies = bool(row) and not _is_static(row[0])
        shape = tuple(lengths[-1] if varies and place == 0 else int(size) for place, size in enumerate(row))
        specs.append(TensorSpec(node.name, dtype, shape, varies))
    if len(batches) > 1:
        sizes = ", ".join(map(str, sorted(batches)))
        raise ModelLoadError(
            f"the inputs have different first dimensions ({sizes}), so they hold no rows of one batch: "
            f"export the model with a dynamic first dimension"
        )
    return tuple(specs), batches.pop() if batches else None


def _mend_dimension(position: int) -> str:
    if position == 1:
        return (
            "Set lengths for the model, the lengths that rows are padded to, such as [32, 128, 512], or export it with "
            "a number there"
        )
    return "Only the batch and the dimension behind it may vary; export the model with a number there"


def _is_static(size: Dimension) -> bool:
    return isinstance(size, int) and size > 0


def _shape_text(shape: Sequence[Dimension]) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


def _wanted_outputs(session: Any) -> list[Any]:
    """Return the outputs that can be served; strings are left out as long as something else is there."""
    wanted: list[Any] = []
    refused: list[Any] = []
    for node in session.get_outputs():
        (wanted if node.type in _DTYPES or node.type in _ZIP_MAPS else refused).append(node)
    names = ", ".join(f"{node.name!r} ({node.type})" for node in refused)
    if not wanted:
        raise ModelLoadError(
            f"the model has no output that Penstock can serve yet, only {names}: export numeric outputs"
        )
    if refused:
        logger.warning("output %s is not served: only numbers are yet", names)
    return wanted


def _probe_outputs(
    session: Any, inputs: tuple[TensorSpec, ...], wanted: list[Any], batch: int | None
) -> tuple[_Output, ...]:
    """Return the outputs' true shapes, from runs on zeros at two batch sizes, and two lengths where rows vary.

    Declared shapes leave dimensions open, a ZipMap declares none, and an output that does not follow the batch (a
    scalar, a constant) must be found before a client does.
    """
    longest = next((tensor.shape[0] for tensor in inputs if tensor.varies), 0)
    sizes = (1, 2) if batch is None else (batch,)
    lengths = (longest, max(1, longest // 2)) if longest else (0,)
    runs = [(rows, length, _probe(session, inputs, wanted, rows, length)) for rows in sizes for length in lengths]
    outputs = []
    for index, node in enumerate(wanted):
        shapes = set()
        classes = None
        for rows, length, results in runs:
            result = results[index]
            if node.type in _ZIP_MAPS:
                classes = _classes_of(node.name, result)
                result = _matrix(result, classes)
            if result.ndim == 0 or result.shape[0] != rows:
                raise ModelLoadError(
                    f"output {node.name!r} has shape {_shape_text(result.shape)} for a batch of {rows}: its first "
                    f"dimension must be the batch. Export the model so that each output has one value per row"
                )
            shapes.add((length, result.shape[1:]))
            dtype = result.dtype.name
        outputs.append(_Output(_output_spec(node.name, dtype, shapes, longest), classes))
    return tuple(outputs)


def _output_spec(name: str, dtype: str, shapes: set[tuple[int, tuple[int, ...]]], longest: int) -> TensorSpec:
    """Return what an output is whose rows had these shapes, each at a length of the inputs' rows."""
    found = {shape for _, shape in shapes}
    if len(found) == 1:
        return TensorSpec(name, dtype, found.pop())
    if all(shape[:1] == (length,) for length, shape in shapes) and len({shape[1:] for shape in found}) == 1:
        return TensorSpec(name, dtype, next(shape for length, shape in shapes if length == longest), True)
    cause, allowed = "the batch", "first dimension"
    if longest:
        cause, allowed = "the batch or the inputs' length", "first dimension, and with the inputs' length the second,"
    raise ModelLoadError(
        f"output {name!r} changes its shape with {cause} ({', '.join(map(str, sorted(found)))} per row): "
        f"only the {allowed} may vary"
    )


def _probe(session: Any, inputs: tuple[TensorSpec, ...], wanted: list[Any], rows: int, length: int) -> list[Any]:
    feed = {tensor.name: np.zeros((rows, *tensor.shape_at(length)), tensor.dtype) for tensor in inputs}
    try:
        results: list[Any] = session.run([node.name for node in wanted], feed)
    except Exception as error:
        raise ModelLoadError(f"the model cannot run a batch of {rows} rows of zeros: {_first_line(error)}") from error
    return results


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
