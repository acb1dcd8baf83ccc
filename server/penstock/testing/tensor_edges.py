"""What is special in rows of tensors."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.load.rows import TEXTS, TensorSpec
from penstock.testing.edges import ABSENT, UNUSUAL_TEXTS, WORD

if TYPE_CHECKING:
    from penstock.testing.rows import Kind

__all__ = ["TensorEdges"]

_Change = tuple[str, str, Any]

# Every string has this much room in a row, and a lone one 1024 bytes unless `string_bytes_max` says otherwise.
_TEXT_BYTES = 64
_LONG_TEXT_BYTES = 1024


class TensorEdges:
    """Changes to a row of tensors; see penstock.testing.rows.Edges."""

    def __init__(self, inputs: Sequence[TensorSpec], seed: int) -> None:
        self._inputs = inputs
        self._generator = random.Random(seed)

    def of(self, kind: Kind) -> Sequence[_Change]:
        """Return the changes of a kind."""
        make = {"valid": self._valid, "extreme": self._extreme, "invalid": self._invalid}[kind.value]
        return [(spec.name, f"{spec.name}: {about}", value) for spec in self._inputs for about, value in make(spec)]

    def _valid(self, spec: TensorSpec) -> Iterator[tuple[str, Any]]:
        if spec.dtype in TEXTS:
            for about, text in (("empty", ""), ("a letter", "a"), ("64 bytes", "x" * _TEXT_BYTES), *UNUSUAL_TEXTS):
                yield about, _filled(spec, text)
        elif spec.dtype == "bool":
            yield "all true", _filled(spec, True)
            yield "all false", _filled(spec, False)
        else:
            yield "all 0", _filled(spec, 0)
            yield "all 1", _filled(spec, 1)
        if spec.dtype.startswith("float"):
            yield "all -1", _filled(spec, -1.0)
            yield "all -0.0", _filled(spec, -0.0)
            yield "as small as can be", _filled(spec, float(np.finfo(spec.dtype).tiny))

    def _extreme(self, spec: TensorSpec) -> Iterator[tuple[str, Any]]:
        if spec.dtype in TEXTS:
            yield "control characters", _filled(spec, "\x00\x01\x1f\x7f")
            if _size(spec) == 1:
                yield f"{_LONG_TEXT_BYTES} bytes", _filled(spec, "x" * _LONG_TEXT_BYTES)
        elif spec.dtype.startswith("float"):
            most = float(np.finfo(spec.dtype).max)
            for about, value in (
                ("the largest number", most),
                ("the smallest number", -most),
                ("NaN", float("nan")),
                ("infinity", float("inf")),
                ("minus infinity", float("-inf")),
            ):
                yield f"all {about}", _filled(spec, value)
                if _size(spec) > 1:
                    yield f"one is {about}", self._one(value)
        elif spec.dtype != "bool":
            limits = np.iinfo(spec.dtype)
            yield f"all {limits.max}", _filled(spec, int(limits.max))
            if limits.min:
                yield f"all {limits.min}", _filled(spec, int(limits.min))

    def _invalid(self, spec: TensorSpec) -> Iterator[tuple[str, Any]]:
        yield "missing", ABSENT
        yield "null", None
        yield "an object", {"a": 1}
        yield "a level of lists too many", lambda value: [value]
        if spec.shape:
            yield "a bare value", WORD if spec.dtype in TEXTS else 1
            if not spec.varies:
                yield "one value too many", lambda value: [*value, value[-1]] if value else [0]
            if spec.shape[0]:
                yield "no values", []
        if spec.dtype in TEXTS:
            yield "a number", _filled(spec, 1)
            return
        yield "text", _filled(spec, WORD)
        if spec.dtype == "bool":
            yield "2 as a bool", _filled(spec, 2)
        elif spec.dtype.startswith("float"):
            yield "true as a number", _filled(spec, True)
            if spec.dtype != "float64":
                yield "beyond its type", _filled(spec, float(np.finfo(spec.dtype).max) * 4)
        else:
            yield "a fraction", _filled(spec, 1.5)
            yield "beyond its type", _filled(spec, int(np.iinfo(spec.dtype).max) + 1)

    def _one(self, value: float) -> Any:
        place = self._generator.random()

        def change(before: Any) -> Any:
            if not isinstance(before, list):
                return value
            after = list(before)
            at = int(place * len(after))
            after[at] = change(after[at])
            return after

        return change


def _filled(spec: TensorSpec, item: Any) -> Any:
    """Return the value of a whole tensor; of one that varies, in the length that the row has."""

    def like(before: Any) -> Any:
        return [like(each) for each in before] if isinstance(before, list) else item

    return like


def _size(spec: TensorSpec) -> int:
    return int(np.prod(spec.shape)) if spec.shape else 1
