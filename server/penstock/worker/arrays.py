"""The type of a batch's arrays. Apart from model.py because the main process imports that and must not load NumPy."""

from typing import Any, TypeAlias

from numpy.typing import NDArray

__all__ = ["Array"]

Array: TypeAlias = NDArray[Any]
