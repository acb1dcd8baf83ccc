"""The type of a batch's arrays, and how to make them for the dtype of a tensor.

Apart from model.py because the main process imports that and must not load NumPy.
"""

import math
from collections.abc import Container, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from penstock.worker.model import TEXTS, TensorSpec

__all__ = [
    "Array",
    "aligned_like",
    "aligned_room",
    "blank",
    "blank_rows",
    "dtype_of",
    "first_that_is_no_text",
    "room",
    "text_dtype",
    "with_stand_ins",
]

Array: TypeAlias = NDArray[Any]

_ALIGNMENT = 64


def dtype_of(name: str) -> np.dtype[Any]:
    """Return NumPy's dtype for the dtype of a tensor: strings are objects."""
    return np.dtype(object if name in TEXTS else name)


def blank(shape: tuple[int, ...], name: str) -> Array:
    """Return zeros, or empty strings."""
    if name in TEXTS:
        return np.full(shape, "" if name == "str" else b"", object)
    return np.zeros(shape, name)


def blank_rows(tensor: TensorSpec, rows: int, length: int) -> Array:
    """Return rows of an input to try a model with: zeros, empty strings, or the tensor's sample."""
    array = blank((rows, *tensor.shape_at(length)), tensor.dtype)
    if tensor.sample:
        array[...] = np.array(tensor.sample, object)
    return array


def room(shape: tuple[int, ...], name: str) -> Array:
    """Return an array to write into."""
    return np.empty(shape, dtype_of(name))


def aligned_room(tensor: TensorSpec, rows: int) -> Array:
    """Return room for so many rows that begins on a cache line, as the ring's arrays do."""
    return _aligned((rows, *tensor.shape), dtype_of(tensor.dtype))


def aligned_like(rows: int, like: Array) -> Array:
    """Return room for so many rows like these, aligned as in the ring: sums may depend on it in their last bits."""
    return _aligned((rows, *like.shape[1:]), like.dtype)


def with_stand_ins(arrays: Sequence[Array], absent: Container[int]) -> list[Array]:
    """Return copies with another row in place of each absent one; there must be another.

    What runs has as many rows as before, and each of the others its place.
    """
    rows = range(len(arrays[0]))
    stand_in = next(row for row in rows if row not in absent)
    taken = [stand_in if row in absent else row for row in rows]
    copies = [aligned_like(len(taken), array) for array in arrays]
    for array, copy in zip(arrays, copies, strict=True):
        copy[...] = array[taken]
        copy.flags.writeable = False  # as the ring's are
    return copies


def _aligned(shape: tuple[int, ...], dtype: np.dtype[Any]) -> Array:
    if dtype.hasobject:
        return np.empty(shape, dtype)
    size = math.prod(shape) * dtype.itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    first = -memory.ctypes.data % _ALIGNMENT
    return memory[first : first + size].view(dtype).reshape(shape)


def text_dtype(array: Array) -> str | None:
    """Return "str" or "bytes" for an array of strings, whatever NumPy calls it; None for any other."""
    if array.dtype.kind in "US":
        return "str" if array.dtype.kind == "U" else "bytes"
    if array.dtype.kind != "O" or not array.size:
        return None
    for kind, name in ((str, "str"), (bytes, "bytes")):
        if all(isinstance(item, kind) for item in array.flat):
            return name
    return None


def first_that_is_no_text(array: Array) -> object:
    """Return the first item of an array of objects that is neither str nor bytes; None when all are."""
    return next((item for item in array.flat if not isinstance(item, str | bytes)), None)
