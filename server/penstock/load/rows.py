"""Rows to send: made from a model's schema, never twice the same."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

__all__ = ["TOLERANCE", "Row", "TensorSpec", "dtype_of", "random_array", "random_rows", "same"]

# One row: arrays by input or output name, without the batch dimension.
Row: TypeAlias = Mapping[str, NDArray[Any]]

INTEGER_MAX = 100
LETTERS = 8  # of a string
TEXTS = ("str", "bytes")
TOLERANCE = 1e-5  # a backend may round otherwise in a batch of another size


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """One input or output of a model: name, NumPy dtype name, shape of one row.

    If rows vary in length, the first size is the longest.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    varies: bool = False

    def shape_at(self, length: int) -> tuple[int, ...]:
        """Return the shape of a row of this length; -1 leaves it to the number of elements."""
        return (length, *self.shape[1:]) if self.varies else self.shape


def random_rows(inputs: Sequence[TensorSpec], count: int, seed: int = 1) -> list[Row]:
    """Make `count` rows: floats in [-1, 1) with six decimals, integers in [0, 100), uint8 in its whole range.

    Strings are words of 8 letters. Six decimals give JSON bodies a usual length. Where rows vary in length, all lengths
    are equally likely.
    """
    generator = np.random.default_rng(seed)
    longest = max((spec.shape[0] for spec in inputs if spec.varies), default=0)
    rows: list[Row] = []
    for _ in range(count):
        length = int(generator.integers(1, longest + 1)) if longest else 0
        rows.append({spec.name: random_array(generator, spec.dtype, spec.shape_at(length)) for spec in inputs})
    return rows


def same(answer: Row, expected: Row, tolerance: float = TOLERANCE) -> bool:
    """Tell whether an answer has the expected names, shapes and, within a backend's rounding, values."""
    return answer.keys() == expected.keys() and all(
        answer[name].shape == expected[name].shape
        and (
            answer[name].tolist() == expected[name].tolist()
            if expected[name].dtype.kind in "OU"
            else bool(np.allclose(answer[name], expected[name], rtol=tolerance, atol=tolerance))
        )
        for name in expected
    )


def dtype_of(spec: TensorSpec) -> np.dtype[Any]:
    """Return NumPy's dtype of a tensor; strings are objects."""
    return np.dtype(object if spec.dtype in TEXTS else spec.dtype)


def random_array(generator: np.random.Generator, dtype_name: str, shape: tuple[int, ...]) -> NDArray[Any]:
    """Make an array as random_rows() has them."""
    if dtype_name in TEXTS:
        letters = generator.integers(ord("a"), ord("z") + 1, (*shape, LETTERS)).astype(np.uint8)
        texts = np.empty(shape, object)
        for place in np.ndindex(shape):
            texts[place] = letters[place].tobytes().decode()
        return texts
    dtype = np.dtype(dtype_name)
    if dtype.kind == "f":
        return np.asarray(np.round(generator.uniform(-1.0, 1.0, shape), 6)).astype(dtype)
    if dtype.kind == "b":
        return np.asarray(generator.integers(0, 2, shape)).astype(dtype)
    return np.asarray(generator.integers(0, 256 if dtype == np.uint8 else INTEGER_MAX, shape)).astype(dtype)
