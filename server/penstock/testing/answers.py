"""What a model answered, held to what it declares."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.load.rows import TEXTS, TensorSpec

__all__ = ["as_array", "flat", "length_of", "not_finite", "shape_of", "wrong_outputs"]


def wrong_outputs(outputs: Mapping[str, Any], declared: Sequence[TensorSpec], length: int) -> str:
    """Say what in plain outputs is not as declared; empty when all is. `length` is that of a row that varies."""
    names = [spec.name for spec in declared]
    if list(outputs) != names and set(outputs) != set(names):
        return f"the outputs are {', '.join(outputs)}, and {', '.join(names)} are declared"
    for spec in declared:
        value, shape = outputs[spec.name], spec.shape_at(length)
        got = shape_of(value)
        if got != shape:
            return f"output {spec.name!r} has the shape {_shape(got)}, and {_shape(shape)} is declared"
        for item in flat(value):
            if not _fits(item, spec.dtype):
                return f"output {spec.name!r} holds {item!r}, which is no {spec.dtype}"
    return ""


def not_finite(outputs: Mapping[str, Any]) -> str:
    """Say which output holds NaN or infinity; empty when none does."""
    for name, value in outputs.items():
        for item in flat(value):
            if isinstance(item, float) and not math.isfinite(item):
                return f"output {name!r} holds {item}"
    return ""


def as_array(value: Any, spec: TensorSpec) -> NDArray[Any]:
    """Return a plain output as an array of the declared type; strings are objects, in UTF-8."""
    if spec.dtype in TEXTS:
        texts = list(flat(value.tolist() if isinstance(value, np.ndarray) else value))
        array = np.empty(len(texts), object)
        array[:] = [text.encode() if isinstance(text, str) else text for text in texts]
        return array
    with np.errstate(over="ignore"):
        return np.asarray(value, np.dtype(spec.dtype)).reshape(-1)


def length_of(row: Mapping[str, Any], inputs: Sequence[TensorSpec]) -> int:
    """Return the length of a row that varies; 0 of any other."""
    return next((len(row[spec.name]) for spec in inputs if spec.varies and isinstance(row.get(spec.name), list)), 0)


def shape_of(value: Any) -> tuple[int, ...] | None:
    """Return the shape of nested lists; None when they are uneven."""
    if not isinstance(value, list):
        return ()
    inner = {shape_of(item) for item in value}
    if len(inner) > 1 or None in inner:
        return None
    return (len(value), *(inner.pop() or () if inner else ()))


def flat(value: Any) -> Iterator[Any]:
    """Yield the items of nested lists."""
    if isinstance(value, list):
        for item in value:
            yield from flat(item)
    else:
        yield value


def _fits(item: object, dtype: str) -> bool:
    if dtype in TEXTS:
        return isinstance(item, str | bytes)
    if dtype == "bool":
        return isinstance(item, bool)
    if dtype.startswith("float"):
        return isinstance(item, int | float) and not isinstance(item, bool)
    limits = np.iinfo(dtype)
    return isinstance(item, int) and not isinstance(item, bool) and limits.min <= item <= limits.max


def _shape(shape: tuple[int, ...] | None) -> str:
    return "uneven" if shape is None else str(list(shape))
