"""A model with a plan: what is made of records is what the model sees. It is a backend around the model's own."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np

from penstock.core.errors import ModelLoadError
from penstock.native._kernels import Program
from penstock.processing.plan import Plan, find_plan, read_plan
from penstock.processing.program import Wiring, wire
from penstock.worker.arrays import Array, dtype_of
from penstock.worker.backends import Backend
from penstock.worker.model import TensorSpec

__all__ = ["Processed", "with_plan"]

_ALIGNMENT = 64


def with_plan(backend: Backend, path: Path) -> Backend:
    """Put the plan that lies with the model at `path` around its backend; ModelLoadError when it does not fit."""
    file = find_plan(path)
    return backend if file is None else Processed(backend, read_plan(file))


class Processed:
    """A backend whose inputs are the tensors of a record."""

    def __init__(self, backend: Backend, plan: Plan) -> None:
        """Raises ModelLoadError when the plan does not fit the model, or is not learned yet."""
        self._backend = backend
        inputs = backend.spec.inputs
        if backend.spec.varies:
            raise ModelLoadError(f"{plan.file}: inputs of the model vary in length, and a plan's rows do not")
        self._wiring = wire(plan, [(tensor.name, tensor.ring_dtype, tensor.shape) for tensor in inputs])
        matrices = [tensor for tensor, (made, _) in zip(inputs, self._wiring.inputs, strict=True) if made]
        self._features = _Features(self._wiring, matrices)
        self.spec = replace(backend.spec, inputs=_record_inputs(self._wiring, inputs))

    @property
    def name(self) -> str:
        """The name of the model's own backend."""
        return self._backend.name

    @property
    def rerun(self) -> bool:
        """What the model's own backend says."""
        return self._backend.rerun

    @property
    def may_refuse_zeros(self) -> bool:
        """What the model's own backend says."""
        return self._backend.may_refuse_zeros

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array], lengths: Array | None = None) -> None:
        """Make the features of all rows, and run the model on them."""
        self._backend.run(self._features.of(inputs), outputs, lengths)


class _Features:
    """Makes a model's inputs of a record's tensors. Arrays are kept from batch to batch."""

    def __init__(self, wiring: Wiring, matrices: Sequence[TensorSpec]) -> None:
        self._inputs = wiring.inputs
        self._numbers = [place for place, (_, dtype, _) in enumerate(wiring.sources) if dtype != "bytes"]
        self._program = Program(list(wiring.numbers), list(wiring.steps), list(wiring.matrices))
        self._specs = matrices
        self._room = [_room(tensor, 1) for tensor in matrices]

    def of(self, sources: Sequence[Array]) -> list[Array]:
        rows = len(sources[0])
        if self._room and rows > len(self._room[0]):
            self._room = [_room(tensor, rows) for tensor in self._specs]
        made = [room[:rows] for room in self._room]
        self._program.run([sources[place] for place in self._numbers], made)
        return [made[place] if is_matrix else sources[place] for is_matrix, place in self._inputs]


def _room(tensor: TensorSpec, rows: int) -> Array:
    """Return room for so many rows that begins on a cache line, as the ring's arrays do."""
    dtype = dtype_of(tensor.dtype)
    size = rows * math.prod(tensor.shape) * dtype.itemsize
    room = np.empty(size + _ALIGNMENT, np.uint8)
    first = -room.ctypes.data % _ALIGNMENT
    return room[first : first + size].view(dtype).reshape(rows, *tensor.shape)


def _record_inputs(wiring: Wiring, inputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
    """Return the record's tensors. One that the model takes as it is is declared as the model declares it."""
    as_they_are = {place: tensor for tensor, (made, place) in zip(inputs, wiring.inputs, strict=True) if not made}
    return tuple(
        as_they_are.get(place, TensorSpec(name, dtype, shape))
        for place, (name, dtype, shape) in enumerate(wiring.sources)
    )
