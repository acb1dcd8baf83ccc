"""The type of a batch's arrays, and how to make them for the dtype of a tensor.

Apart from model.py because the main process imports that and must not load NumPy.
"""

import math
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from penstock.worker.model import TEXTS, TensorSpec

__all__ = ["Array", "aligned_room", "blank", "blank_rows", "dtype_of", "first_that_is_no_text", "room", "text_dtype"]

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
    dtype = dtype_of(tensor.dtype)
    if dtype.hasobject:
        return np.empty((rows, *tensor.shape), dtype)
    size = rows * math.prod(tensor.shape) * dtype.itemsize
    memory = np.empty(size + _ALIGNMENT, np.uint8)
    first = -memory.ctypes.data % _ALIGNMENT
    return memory[first : first + size].view(dtype).reshape(rows, *tensor.shape)


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
