"""The program of a plan's features, run on the CPU, and what is said of numbers that an integer input does not hold."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

from penstock.core.errors import RequestError
from penstock.native._kernels import Program
from penstock.processing.program import Origin, Wiring

__all__ = ["FeatureProgram", "UnfitFeatureError"]


class UnfitFeatureError(RequestError):
    """A feature of a row is no number that the integers of its input hold; `row` is the first such row.

    The detail is for whoever sent that row, and so does not say which one it is; the text does.
    """

    def __init__(self, row: int, detail: str) -> None:
        super().__init__("invalid_input", detail)
        self.row = row
        self.args = (f"row {row}: {detail}",)


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
        """Fill the matrices; UnfitFeatureError when an integer of one does not hold its number."""
        unfit = self._program.run(list(sources), list(matrices))
        if unfit is not None:
            row, matrix, column, value = unfit
            told = _told(self._columns[matrix][column], value, self._inputs[matrix], self._dtypes[matrix])
            raise UnfitFeatureError(row, told)


def _told(column: str, value: float, input: str, dtype: str) -> str:
    """Say it shortly: the row's word in the ring has 125 bytes."""
    if math.isnan(value):
        return f"{column}: missing, and input {input!r} is {dtype}: send a value, or let the plan impute one"
    return f"{column}: {value:g} does not fit input {input!r}, which is {dtype}: let the plan clip it"
