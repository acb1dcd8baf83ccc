"""The compute that all rivals share: one ONNX Runtime session, and a count of what it ran.

Runs inside the rivals' environments, so it imports nothing of ours; NumPy and ONNX Runtime must be installed there.
"""

from __future__ import annotations

import mmap
import os
import struct
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import onnxruntime
from numpy.typing import NDArray

__all__ = ["Counts", "Predictor", "Tensor"]

FORMAT = "=qq"


class Tensor(NamedTuple):
    """An input or output of a model; the shape is that of one row."""

    name: str
    dtype: np.dtype[Any]
    shape: tuple[int, ...]


class Counts:
    """Rows and batches in a file of two int64, which the bench reads while the server runs. One writer."""

    def __init__(self, path: str | Path) -> None:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        os.ftruncate(descriptor, struct.calcsize(FORMAT))
        self._map = mmap.mmap(descriptor, struct.calcsize(FORMAT))
        os.close(descriptor)
        self._rows, self._batches = struct.unpack(FORMAT, self._map[:])

    def add(self, rows: int) -> None:
        """Count one batch."""
        self._rows += rows
        self._batches += 1
        struct.pack_into(FORMAT, self._map, 0, self._rows, self._batches)


class Predictor:
    """A model on one thread of ONNX Runtime's CPU provider, which counts its batches into the file `counts`.

    `inputs` and `outputs` are as the model file says.
    """

    def __init__(self, model: str | Path, counts: str | Path) -> None:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = 1
        options.inter_op_num_threads = 1
        self._session = onnxruntime.InferenceSession(str(model), options, providers=["CPUExecutionProvider"])
        self._counts = Counts(counts)
        self.inputs = [_tensor(argument) for argument in self._session.get_inputs()]
        self.outputs = [_tensor(argument) for argument in self._session.get_outputs()]
        self._output_names = [tensor.name for tensor in self.outputs]

    def run(self, batch: Mapping[str, NDArray[Any]]) -> list[NDArray[Any]]:
        """Run a batch: arrays by input name, rows first; a list of arrays in the order of `outputs`."""
        self._counts.add(len(next(iter(batch.values()))))
        arrays: list[NDArray[Any]] = self._session.run(self._output_names, batch)
        return arrays

    def run_rows(self, rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """Run rows given as {input name: nested lists or array of one row}; {output name: nested lists} of each."""
        batch = {tensor.name: np.array([row[tensor.name] for row in rows], tensor.dtype) for tensor in self.inputs}
        outputs = [array.tolist() for array in self.run(batch)]
        return [dict(zip(self._output_names, answer, strict=True)) for answer in zip(*outputs, strict=True)]


DTYPES = {
    "tensor(float)": "float32",
    "tensor(double)": "float64",
    "tensor(float16)": "float16",
    "tensor(bool)": "bool",
}


def _tensor(argument: onnxruntime.NodeArg) -> Tensor:
    kind = argument.type
    return Tensor(argument.name, np.dtype(DTYPES.get(kind, kind[len("tensor(") : -1])), tuple(argument.shape[1:]))
