"""One batch through a model, so that a bad row fails alone."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from typing import Protocol

from penstock.worker.arrays import Array
from penstock.worker.backends import Backend
from penstock.worker.fault import FaultLog, describe
from penstock.worker.model import BadOutputError

__all__ = ["Batch", "BatchRunner"]

logger = logging.getLogger("penstock.worker")


class Batch(Protocol):
    """What a runner needs of penstock.native._batcher.Batch."""

    @property
    def rows(self) -> int:
        """How many rows were taken."""

    @property
    def singly(self) -> bool:
        """Whether each row must run alone: the batch has killed two workers."""

    @property
    def inputs(self) -> tuple[Array, ...]:
        """Read-only, one per input, shape (rows, *row shape)."""

    @property
    def outputs(self) -> tuple[Array, ...]:
        """Writable, one per output, shape (rows, *row shape)."""

    def is_completed(self, row: int) -> bool:
        """Whether an earlier attempt has answered the row."""

    def mark_running(self, row: int) -> None:
        """Name the row as the culprit should the worker die now."""

    def complete_row(self, row: int) -> None:
        """The row's outputs are in place."""

    def fail_row(self, row: int, error: str, detail: str) -> None:
        """Give the row an error of its own."""

    def complete(self) -> None:
        """Publish the batch."""


class BatchRunner:
    """Runs batches on one backend and completes them. Used by one thread."""

    def __init__(self, backend: Backend) -> None:
        self._run = backend.run
        self._log = FaultLog(logger)

    def run(self, batch: Batch) -> None:
        """Run all rows and complete the batch, whatever the model does short of killing the process."""
        if batch.singly:
            self._run_singly(batch)
        else:
            inputs, outputs = batch.inputs, batch.outputs
            try:
                self._run(inputs, outputs)
            except (
                BaseException
            ) as error:  # KeyboardInterrupt and SystemExit are the model's own here: signals are ignored
                self._bisect(batch, inputs, outputs, 0, batch.rows, error)
        batch.complete()

    def _bisect(
        self,
        batch: Batch,
        inputs: Sequence[Array],
        outputs: Sequence[Array],
        first: int,
        end: int,
        error: BaseException,
    ) -> None:
        """Rows [first, end) have failed together: run each half again until every culprit is alone with its error.

        2 log2(n) runs for one culprit among n rows.
        """
        if end - first == 1:
            self._fail(batch, first, error)
            return
        middle = (first + end) // 2
        for low, high in ((first, middle), (middle, end)):
            try:
                self._run([array[low:high] for array in inputs], [array[low:high] for array in outputs])
            except BaseException as narrower:
                self._bisect(batch, inputs, outputs, low, high, narrower)

    def _run_singly(self, batch: Batch) -> None:
        """Run row by row, each marked while it runs, so that the row that kills is known by its death."""
        inputs, outputs = batch.inputs, batch.outputs
        for row in range(batch.rows):
            if batch.is_completed(row):
                continue
            batch.mark_running(row)
            try:
                self._run([array[row : row + 1] for array in inputs], [array[row : row + 1] for array in outputs])
            except BaseException as error:
                self._fail(batch, row, error)
            else:
                batch.complete_row(row)

    def _fail(self, batch: Batch, row: int, error: BaseException) -> None:
        if isinstance(error, BadOutputError):
            batch.fail_row(row, "bad_output", describe(error).removeprefix("BadOutputError: "))
        else:
            batch.fail_row(row, "model_raised", describe(error))
        self._log.write("the model failed for a row", error)
