"""What backends share that run arrays of a whole batch: what they take, what comes of it, padding, copying results."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple, TypeAlias

import numpy as np

from penstock.core.errors import ModelLoadError
from penstock.worker.arrays import Array, blank_rows, text_dtype
from penstock.worker.model import BadOutputError, TensorSpec

__all__ = ["Declared", "Padding", "copy_results", "first_line", "input_specs", "probe_outputs"]

# Runs a batch: one array per input gives one per output.
Run: TypeAlias = Callable[[Sequence[Array]], Sequence[Array]]
Dimension: TypeAlias = int | str | None


class Declared(NamedTuple):
    """An input as a file declares it: `dtype` is None for a `type` that no ring can hold, `shape` has the batch first.

    A dimension that is no positive number has no fixed size.
    """

    name: str
    dtype: str | None
    type: str
    shape: Sequence[Dimension]


def input_specs(declared: Sequence[Declared], lengths: Sequence[int]) -> tuple[tuple[TensorSpec, ...], int | None]:
    """Return the inputs without their batch dimension, and the batch size when the model fixes it."""
    specs = []
    batches = set()
    for node in declared:
        if node.dtype is None:
            raise ModelLoadError(
                f"input {node.name!r} is a {node.type}, which Penstock cannot serve yet: "
                f"encode it outside the model, or export the model with an input of numbers or strings"
            )
        if not node.shape:
            raise ModelLoadError(
                f"input {node.name!r} is a scalar and has no batch dimension: export it with shape [None]"
            )
        batch, *row = node.shape
        for position, size in enumerate(row, start=1):
            if _fixed(size) is None and (position > 1 or not lengths):
                raise ModelLoadError(
                    f"input {node.name!r} has shape {_shape_text(node.shape)}: dimension {position} has no fixed size. "
                    + _mend_dimension(position)
                )
        if (fixed := _fixed(batch)) is not None:
            batches.add(fixed)
        varies = bool(row) and _fixed(row[0]) is None
        specs.append(TensorSpec(node.name, node.dtype, tuple(_fixed(size) or lengths[-1] for size in row), varies))
    if len(batches) > 1:
        sizes = ", ".join(map(str, sorted(batches)))
        raise ModelLoadError(
            f"the inputs have different first dimensions ({sizes}), so they hold no rows of one batch: "
            f"export the model with a dynamic first dimension"
        )
    return tuple(specs), batches.pop() if batches else None


def _fixed(size: Dimension) -> int | None:
    return size if isinstance(size, int) and size > 0 else None


def _mend_dimension(position: int) -> str:
    if position == 1:
        return (
            "Set lengths for the model, the lengths that rows are padded to, such as [32, 128, 512], or export it with "
            "a number there"
        )
    return "Only the batch and the dimension behind it may vary; export the model with a number there"


def probe_outputs(
    names: Sequence[str], run: Run, inputs: Sequence[TensorSpec], fixed_batch: int | None
) -> tuple[TensorSpec, ...]:
    """Return the outputs' true shapes, from runs on zeros at two batch sizes, and two lengths where rows vary.

    Declared shapes leave dimensions open, some formats declare none, and an output that does not follow the batch (a
    scalar, a constant) must be found before a client does.
    """
    longest = next((tensor.shape[0] for tensor in inputs if tensor.varies), 0)
    sizes = (1, 2) if fixed_batch is None else (fixed_batch,)
    lengths = (longest, max(1, longest // 2)) if longest else (0,)
    runs = [(rows, length, _probe(run, inputs, rows, length)) for rows in sizes for length in lengths]
    outputs = []
    for index, name in enumerate(names):
        shapes = set()
        for rows, length, results in runs:
            result = results[index]
            if result.ndim == 0 or result.shape[0] != rows:
                raise ModelLoadError(
                    f"output {name!r} has shape {_shape_text(result.shape)} for a batch of {rows}: its first "
                    f"dimension must be the batch. Export the model so that each output has one value per row"
                )
            shapes.add((length, result.shape[1:]))
        first = runs[0][2][index]
        outputs.append(_output_spec(name, text_dtype(first) or first.dtype.name, shapes, longest))
    return tuple(outputs)


def _probe(run: Run, inputs: Sequence[TensorSpec], rows: int, length: int) -> Sequence[Array]:
    try:
        return run([blank_rows(tensor, rows, length) for tensor in inputs])
    except ModelLoadError:
        raise
    except Exception as error:
        raise ModelLoadError(f"the model cannot run a batch of {rows} rows of zeros: {first_line(error)}") from error


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


def first_line(error: Exception) -> str:
    """Return the first line of what an error says, to be used within a sentence."""
    return str(error).strip().partition("\n")[0].rstrip(".")


def _shape_text(shape: Sequence[Dimension]) -> str:
    return "[" + ", ".join("?" if size is None else str(size) for size in shape) + "]"


class Padding:
    """Room for the batches of a model that takes one size only; used by one thread."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._rooms: dict[tuple[int, ...], list[Array]] = {}  # by the shapes of rows

    def pad(self, inputs: Sequence[Array], rows: int) -> list[Array]:
        """Return the inputs with rows of zeros, or empty strings, behind theirs; valid until the next call."""
        shape = tuple(extent for array in inputs for extent in array.shape[1:])
        if shape not in self._rooms:
            self._rooms[shape] = [np.zeros((self._size, *array.shape[1:]), array.dtype) for array in inputs]
        for padded, given in zip(self._rooms[shape], inputs, strict=True):
            padded[:rows] = given
            padded[rows:] = type(given.flat[0])() if given.dtype.hasobject else 0
        return self._rooms[shape]


def copy_results(names: Sequence[str], results: Sequence[Array], outputs: Sequence[Array], padded: bool) -> None:
    """Copy results into the outputs, without the rows that were padded; BadOutputError when a shape differs."""
    for name, result, output in zip(names, results, outputs, strict=True):
        if result.shape != output.shape:
            if not padded or result.shape[1:] != output.shape[1:]:
                raise BadOutputError(f"output {name!r} has shape {result.shape}, expected {output.shape}")
            result = result[: len(output)]
        output[...] = result
