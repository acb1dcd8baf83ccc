"""The program of a plan's features, run on the CPU, and what is said of numbers that an integer input does not hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.native._kernels import Program
from penstock.processing.program import Origin, Wiring
from penstock.processing.unfit import UnfitFeatureError

__all__ = ["FeatureProgram"]

_DETAIL_BYTES = 125  # of a row's word in the ring


class FeatureProgram:
    """Makes the matrices of a wiring. Used by one thread."""

    def __init__(self, wiring: Wiring, inputs: Sequence[str]) -> None:
        """`inputs` are the names of those of the model that the wiring was made for."""
        self._program = Program(list(wiring.numbers), list(wiring.steps), list(wiring.matrices))
        self._columns = wiring.columns
        self._inputs = [
            name for name, (origin, _) in zip(inputs, wiring.inputs, strict=True) if origin is Origin.MATRIX
        ]
        self._dtypes = [dtype for dtype, _, _ in wiring.matrices]

    def run(self, sources: Sequence[NDArray[Any]], matrices: Sequence[NDArray[Any]]) -> None:
        """Fill the matrices; UnfitFeatureError with the first row of which an integer does not hold its number."""
        unfit = self._program.run(list(sources), list(matrices))
        if unfit is not None:
            raise UnfitFeatureError({unfit[0]: self._told(unfit)})

    def faults(self, sources: Sequence[NDArray[Any]], matrices: Sequence[NDArray[Any]]) -> dict[int, str]:
        """Fill the matrices; return the first fault of each row of which an integer does not hold its number."""
        unfit = self._program.run(list(sources), list(matrices))
        if unfit is None:
            return {}
        found = {unfit[0]: self._told(unfit)}
        for row in _suspects(matrices):
            if row > unfit[0]:
                alone = slice(row, row + 1)
                fault = self._program.run([source[alone] for source in sources], [matrix[alone] for matrix in matrices])
                if fault is not None:
                    found[row] = self._told(fault)
        return found

    def _told(self, unfit: tuple[int, int, int, float]) -> str:
        _, matrix, column, value = unfit
        return _told(self._columns[matrix][column], value, self._inputs[matrix], self._dtypes[matrix])


def _suspects(matrices: Sequence[NDArray[Any]]) -> list[int]:
    """Return the rows with a lowest integer: what does not fit becomes one, but it may have been sent as well."""
    integers = [matrix.reshape(len(matrix), -1) for matrix in matrices if matrix.dtype.kind == "i"]
    lowest = [(matrix == np.iinfo(matrix.dtype).min).any(axis=1) for matrix in integers]
    return [int(row) for row in np.flatnonzero(np.any(lowest, axis=0))]


def _told(column: str, value: float, input: str, dtype: str) -> str:
    """Say it so shortly that what mends it is told even where names are long."""
    if math.isnan(value):
        form = f"{{}}: missing, and input '{{}}' is {dtype}: send a value, or let the plan impute one"
    else:
        form = f"{{}}: {_written(value)} does not fit input '{{}}', which is {dtype}: let the plan clip it"
    left = _DETAIL_BYTES - len(form.format("", ""))
    input = _cut(input, left // 2)
    return form.format(_cut(column, left - len(input.encode())), input)


def _written(value: float) -> str:
    """Write a number in few digits only where they are all that it has: others may look as if they fitted."""
    short = f"{value:g}"
    if float(short) == value:
        return short
    return f"{value:.0f}" if abs(value) < 1e21 and value.is_integer() else repr(value)


def _cut(name: str, bytes_max: int) -> str:
    data = name.encode()
    if len(data) <= bytes_max:
        return name
    return data[: bytes_max - len("…".encode())].decode(errors="ignore") + "…"
