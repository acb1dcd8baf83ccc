"""One batch through a model, so that a bad row fails alone."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, Protocol, TypeAlias

import numpy as np

from penstock.processing.unfit import UnfitFeatureError
from penstock.worker.arrays import Array, aligned_like
from penstock.worker.backends import Backend
from penstock.worker.device_errors import DeviceLostError
from penstock.worker.fault import FaultLog, describe
from penstock.worker.model import BadOutputError

__all__ = ["Batch", "BatchRunner", "Rows"]

logger = logging.getLogger("penstock.worker")

_Run: TypeAlias = Callable[[Sequence[Array], Sequence[Array], Array | None], None]


class Batch(Protocol):
    """What a runner needs of penstock.native._batcher.Batch."""

    @property
    def rows(self) -> int:
        """How many rows were taken: the first ones of each array."""

    @property
    def run_rows(self) -> int:
        """How many rows each array has: more than were taken when the batch is padded to a size that is allowed."""

    @property
    def singly(self) -> bool:
        """Whether each row must run alone: the batch has killed two workers."""

    @property
    def fixed_rows(self) -> int:
        """How many rows every run of its rows has, whose answers must not depend on their neighbours; 0 for any."""

    @property
    def inputs(self) -> tuple[Array, ...]:
        """Read-only, one per input, shape (run_rows, *row shape)."""

    @property
    def outputs(self) -> tuple[Array, ...]:
        """Writable, one per output, shape (run_rows, *row shape)."""

    @property
    def lengths(self) -> Array | None:
        """Each row's own length, int32 of shape (run_rows,), where rows vary in length and are padded; else None."""

    def is_completed(self, row: int) -> bool:
        """Whether an earlier attempt has answered the row."""

    def mark_running(self, row: int) -> None:
        """Name the row as the culprit should the worker die now."""

    def complete_row(self, row: int) -> None:
        """The row's outputs are in place."""

    def fail_row(self, row: int, error: str, detail: str) -> None:
        """Give the row an error of its own."""

    def mark_unmeasured(self) -> None:
        """What it takes says nothing of what the model costs."""

    def complete(self) -> None:
        """Publish the batch."""


class BatchRunner:
    """Runs batches on one backend and completes them. Used by one thread."""

    def __init__(self, backend: Backend, batch_sizes: Sequence[int] = ()) -> None:
        """`batch_sizes` are the sizes that the backend may be run with, ascending; any when there are none."""
        self._run = backend.run
        self._varies = backend.spec.varies
        self._sizes = batch_sizes
        self._log = FaultLog(logger)

    def run(self, batch: Batch) -> None:
        """Run all rows and complete the batch, whatever the model does short of killing the process."""
        if batch.singly:
            self._run_singly(batch)
        else:
            inputs, outputs = batch.inputs, batch.outputs
            lengths = batch.lengths if self._varies else None
            try:
                self._run(inputs, outputs, lengths)
            except DeviceLostError:
                raise  # nothing runs here any more: the process ends, and another runs the batch again
            except (
                BaseException
            ) as error:  # KeyboardInterrupt and SystemExit are the model's own here: signals are ignored
                self._bisect(batch, Rows(inputs, outputs, lengths, 0, batch.rows), error)
        batch.complete()

    def rescue(self, batch: Batch, error: BaseException) -> None:
        """Complete a batch that has failed elsewhere: its rows run again here, until every culprit is alone."""
        lengths = batch.lengths if self._varies else None
        self._bisect(batch, Rows(batch.inputs, batch.outputs, lengths, 0, batch.rows), error)
        batch.complete()

    def refuse(self, batch: Batch, faults: Mapping[int, str], rows: range) -> None:
        """Fail those of `rows` that have faults, which are counted from the first of them; the others are answered."""
        for number, detail in faults.items():
            if number < len(rows):  # what is behind them only pads
                batch.fail_row(rows[number], "invalid_input", detail)  # not the model's fault: nothing for the log

    def _bisect(self, batch: Batch, rows: Rows, error: BaseException) -> None:
        """The rows have failed together: run each half again until every culprit is alone with its error.

        2 log2(n) runs for one culprit among n rows. Rows that are known to be unfit need none: the others have run.
        """
        if isinstance(error, UnfitFeatureError) and error.faults:
            if len(error.faults) >= rows.end - rows.first:
                batch.mark_unmeasured()  # no model has run
            self.refuse(batch, error.faults, range(rows.first, rows.end))
            return
        batch.mark_unmeasured()
        if rows.end - rows.first == 1:
            self._fail(batch, rows.first, error)
            return
        for half in rows.halves():
            try:
                half.run(self._run, self._sizes_of(batch))
            except DeviceLostError:
                raise
            except BaseException as narrower:
                self._bisect(batch, half, narrower)

    def _run_singly(self, batch: Batch) -> None:
        """Run row by row, each marked while it runs, so that the row that kills is known by its death."""
        inputs, outputs = batch.inputs, batch.outputs
        lengths = batch.lengths if self._varies else None
        for row in range(batch.rows):
            if batch.is_completed(row):
                continue
            batch.mark_running(row)
            try:
                Rows(inputs, outputs, lengths, row, row + 1).run(self._run, self._sizes_of(batch))
            except DeviceLostError:
                raise
            except BaseException as error:
                self._fail(batch, row, error)
            else:
                batch.complete_row(row)

    def _sizes_of(self, batch: Batch) -> Sequence[int]:
        return (batch.fixed_rows,) if batch.fixed_rows else self._sizes

    def _fail(self, batch: Batch, row: int, error: BaseException) -> None:
        if isinstance(error, UnfitFeatureError):
            batch.fail_row(row, "invalid_input", error.detail)  # not the model's fault: nothing for the log
            return
        if isinstance(error, BadOutputError):
            batch.fail_row(row, "bad_output", describe(error).removeprefix("BadOutputError: "))
        else:
            batch.fail_row(row, "model_raised", describe(error))
        self._log.write("the model failed for a row", error)


class Rows(NamedTuple):
    """Some neighbouring rows of a batch, [first, end)."""

    inputs: Sequence[Array]
    outputs: Sequence[Array]
    lengths: Array | None
    first: int
    end: int

    def halves(self) -> tuple[Rows, Rows]:
        """Return the first and the second half of them."""
        middle = (self.first + self.end) // 2
        return self._replace(end=middle), self._replace(first=middle)

    def run(self, run: _Run, sizes: Sequence[int]) -> None:
        """Run them, padded with copies of the first one to the next size that is allowed."""
        rows = self.end - self.first
        inputs = [array[self.first : self.end] for array in self.inputs]
        outputs = [array[self.first : self.end] for array in self.outputs]
        lengths = None if self.lengths is None else self.lengths[self.first : self.end]
        size = next((size for size in sizes if size >= rows), rows)
        if size == rows:
            run(inputs, outputs, lengths)
            return
        padded = [aligned_like(size, array) for array in inputs]
        for array, copy in zip(inputs, padded, strict=True):
            copy[:rows], copy[rows:] = array, array[:1]
            copy.flags.writeable = False  # as the ring's are
        results = [aligned_like(size, array) for array in outputs]
        if lengths is not None:
            lengths = np.append(lengths, np.repeat(lengths[:1], size - rows))
        try:
            run(padded, results, lengths)
        finally:  # where some rows are unfit, the others are answered
            for output, result in zip(outputs, results, strict=True):
                output[...] = result[:rows]
