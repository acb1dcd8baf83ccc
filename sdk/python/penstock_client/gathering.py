"""Rows that are predicted at the same time, as one request, and what each of them is answered."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

from penstock_client.batches import Batches, BatchResult, Chunk
from penstock_client.core import Call
from penstock_client.errors import ArgumentError, PenstockError, TransportError
from penstock_client.plain import is_array
from penstock_client.predicting import Encoding, Prediction
from penstock_client.steps import Steps

__all__ = ["Answers", "Gathers", "answer_of"]


@dataclass(frozen=True, slots=True)
class Gathers:
    """What is gathered, and for how long."""

    batches: Batches
    model: str
    version: str | None
    rows_max: int
    delay_s: float
    call: Call

    def __post_init__(self) -> None:
        if self.rows_max < 1 or not self.delay_s >= 0:
            raise ArgumentError(f"rows_max {self.rows_max}, delay_s {self.delay_s}: at least 1 row, no negative time")

    def steps(self, rows: Sequence[Any]) -> Steps[Answers]:
        """Give the steps of the request for these rows, or of several, where rows of one kind are not all."""
        answers: dict[int, Prediction | PenstockError] = {}
        for numbers in _kinds_of(rows):
            answers.update((yield from self._together(rows, numbers)))
        return answers

    def _together(self, rows: Sequence[Any], numbers: Sequence[int]) -> Steps[Answers]:
        try:
            chunk = _chunk_of([rows[number] for number in numbers])
            encoding: Encoding = "json" if chunk.arrays is None else "binary"
            result = yield from self.batches.predict(self.model, chunk, self.version, encoding, self.call)
        except ArgumentError as error:
            if len(numbers) == 1:
                return {numbers[0]: error}
        except PenstockError as error:
            return dict.fromkeys(numbers, error)
        else:
            return {number: _answer_in(result, at) for at, number in enumerate(numbers)}
        # A row that cannot be sent is its caller's affair. Nothing has been sent, so each can go by itself.
        answers: dict[int, Prediction | PenstockError] = {}
        for number in numbers:
            answers.update((yield from self._together(rows, [number])))
        return answers


# By the row's number.
Answers: TypeAlias = Mapping[int, "Prediction | PenstockError"]


def _kinds_of(rows: Sequence[Any]) -> Iterable[list[int]]:
    """Return the numbers of the rows that may be one request: arrays of one shape and dtype each, or plain values.

    NumPy would make all of them what holds any of them: of whole numbers and floats, floats.
    """
    kinds: dict[object, list[int]] = {}
    for number, row in enumerate(rows):
        kinds.setdefault(_kind_of(row), []).append(number)
    return kinds.values()


def _kind_of(row: object) -> object:
    if isinstance(row, Mapping):
        if row and all(is_array(value) for value in row.values()):
            return frozenset((name, _type_of(value)) for name, value in row.items())
        return None
    return _type_of(row) if is_array(row) else None


def _type_of(array: Any) -> tuple[tuple[int, ...] | None, str]:
    shape = getattr(array, "shape", None)
    return (None if shape is None else tuple(shape), str(getattr(array, "dtype", "")))


def _chunk_of(rows: Sequence[Any]) -> Chunk:
    """Return rows of one kind as arrays, where they are arrays, else as a list."""
    first = rows[0]
    if _kind_of(first) is None:
        return Chunk(0, len(rows), listed=rows)
    if isinstance(first, Mapping):
        return Chunk(0, len(rows), arrays={name: _stacked([row[name] for row in rows]) for name in first})
    return Chunk(0, len(rows), arrays={"": _stacked(rows)})


def _stacked(values: Sequence[Any]) -> Any:
    import numpy as np

    if any(np.ma.is_masked(value) for value in values):
        raise ArgumentError("elements are masked, and a tensor has all of them: use .filled(...)")
    try:
        return np.stack([np.asarray(value) for value in values])
    except Exception as error:  # each library has its own, as for tensors on a GPU
        raise ArgumentError(f"the inputs cannot be made an array: {error}") from error


def _answer_in(result: BatchResult, row: int) -> Prediction | PenstockError:
    error = result.errors.get(row)
    if isinstance(error, PenstockError):
        return error
    return Prediction(result.model, result.versions[0] if result.versions else "", result[row])


def answer_of(ended: Answers | BaseException | None, row: int) -> Prediction:
    """Return the answer to one of the rows of a call that has ended, or raise what befell it."""
    answer = ended.get(row) if isinstance(ended, Mapping) else ended
    if isinstance(answer, Prediction):
        return answer
    if isinstance(answer, PenstockError):
        # Each caller has an exception of its own, with a traceback of its own.
        raise copy.copy(answer)
    raise TransportError("the call that this row went with was given up", may_have_run=True)
