"""Tensors as columns of Arrow."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow

__all__ = ["nested_lists"]


def nested_lists(values: Any, kind: Any) -> Any:
    """Return a tensor, rows in front, as a column of nested lists of the type `kind`."""
    leaf = kind
    while pyarrow.types.is_list(leaf):
        leaf = leaf.value_type
    array = pyarrow.array(values.reshape(-1), leaf if values.dtype == object else None)
    if array.type != leaf:
        array = array.cast(leaf)
    for depth in range(values.ndim - 1, 0, -1):
        lists = int(np.prod(values.shape[:depth], dtype=np.int64))
        offsets = np.arange(lists + 1, dtype=np.int32) * np.int32(values.shape[depth])
        array = pyarrow.ListArray.from_arrays(pyarrow.array(offsets), array)
    return array
