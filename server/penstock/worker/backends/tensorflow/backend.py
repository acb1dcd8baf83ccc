"""A TensorFlow function over the rows of a batch."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Any

import numpy as np

from penstock.core.errors import ModelLoadError
from penstock.worker.arrays import Array
from penstock.worker.backends.probing import Declared, Padding, copy_results, input_specs, probe_outputs
from penstock.worker.backends.tensorflow.runtime import Opened
from penstock.worker.model import DTYPES, ModelSpec

__all__ = ["TensorFlowBackend"]

logger = logging.getLogger("penstock.worker.tensorflow")

# EIGEN_MAX_ALIGN_BYTES. A tensor that begins elsewhere makes some kernels abort ("Check failed: IsAligned()").
_ALIGNMENT = 64
# What is called otherwise: strings of TensorFlow are bytes.
_NAMES = {"string": "bytes"}


class TensorFlowBackend:
    """A concrete function and its schema.

    The function is called as the operation that it is: 21 us for a small network, and 76 through the layers of Python
    around it, for the same bits. Inputs are handed to TensorFlow where they lie, through DLPack: 3 us an input, of any
    size, where tf.constant, which copies, takes 6 us for small ones and 5,600 us for 64 images of 224 x 224 pixels.
    """

    name = "tensorflow"
    rerun = True
    may_refuse_zeros = False

    def __init__(self, opened: Opened, lengths: Sequence[int]) -> None:
        import tensorflow

        self._call = tensorflow.raw_ops.StatefulPartitionedCall
        self._constant, self._shared = tensorflow.constant, tensorflow.experimental.dlpack.from_dlpack
        self._error = tensorflow.errors.OpError
        inputs, self._fixed_batch = input_specs(
            [_declared(name, spec) for name, spec in opened.inputs.items()], lengths
        )
        self._function, self._keeps = opened.function, opened.keeps
        self._captured = list(opened.function.captured_inputs)
        self._dtypes = [tensor.dtype for tensor in opened.function.outputs]
        self._names = _wanted_outputs(opened.outputs)
        self._places = [list(opened.outputs).index(name) for name in self._names]
        self._padding = Padding(self._fixed_batch or 0)
        outputs = probe_outputs(self._names, self._run, inputs, self._fixed_batch)
        self.spec = ModelSpec(inputs, outputs, self._fixed_batch)

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array], lengths: Array | None = None) -> None:
        """Run the rows of `inputs` into `outputs`; see Backend.run. Their own lengths are no input of the model."""
        rows = len(inputs[0])
        padded = self._fixed_batch is not None and rows != self._fixed_batch
        copy_results(self._names, self._run(self._padding.pad(inputs, rows) if padded else inputs), outputs, padded)

    def _run(self, inputs: Sequence[Array]) -> list[Array]:
        try:
            results = self._call(
                args=[*map(self._tensor, inputs), *self._captured],
                Tout=self._dtypes,
                f=self._function,
                config="",
                config_proto="",
                executor_type="",
            )
        except self._error as error:
            raise RuntimeError(_said_by(error)) from error
        return [results[place].numpy() for place in self._places]

    def _tensor(self, array: Array) -> Any:
        if array.dtype.hasobject or array.ctypes.data % _ALIGNMENT or not array.flags.c_contiguous or not array.size:
            return self._constant(array)
        return self._shared(np.asarray(_Shared(array)).__dlpack__())


class _Shared:
    """Shows an array as one that may be written: a DLPack capsule that TensorFlow reads cannot say that it may not.

    TensorFlow does not write into memory that it does not own (tests/formats/test_tensorflow.py sees to that).
    """

    def __init__(self, array: Array) -> None:
        self.array = array  # as long as the tensor lives, so does what it reads
        interface = array.__array_interface__
        interface["data"] = (interface["data"][0], False)
        self.__array_interface__ = interface


def _said_by(error: Any) -> str:
    """Return the line of TensorFlow's error that says what happened: the one before the node that it happened at."""
    lines = [line.strip() for line in str(error.message).splitlines() if line.strip()]
    nodes = [place for place, line in enumerate(lines) if line.startswith("[[{{")]
    return lines[nodes[0] - 1 if nodes and nodes[0] else 0] if lines else type(error).__name__


def _declared(name: str, spec: Any) -> Declared:
    if spec.shape.rank is None:
        raise ModelLoadError(
            f"input {name!r} has a shape of unknown rank: export the model with an input_signature that gives it"
        )
    dtype = _NAMES.get(spec.dtype.name, spec.dtype.name)
    return Declared(name, dtype if dtype in DTYPES else None, f"tensor of {dtype}", spec.shape.as_list())


def _wanted_outputs(specs: dict[str, Any]) -> list[str]:
    """Return the outputs that can be served; others are left out as long as there is one."""
    found = {name: getattr(getattr(spec, "dtype", None), "name", type(spec).__name__) for name, spec in specs.items()}
    dtypes = {name: _NAMES.get(dtype, dtype) for name, dtype in found.items()}
    wanted = [name for name, dtype in dtypes.items() if dtype in DTYPES and hasattr(specs[name], "shape")]
    names = ", ".join(f"{name!r} ({dtype})" for name, dtype in dtypes.items() if name not in wanted)
    if not wanted:
        raise ModelLoadError(
            f"the model has no output that Penstock can serve, only {names}: export tensors of numbers or strings"
        )
    if names:
        logger.warning("output %s is not served: only tensors of numbers and strings are", names)
    return wanted
