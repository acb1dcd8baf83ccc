"""First runs of a model, before its first request: allocations, code generation and page faults happen here.

They are timed, too, so that the first request already knows what batches cost.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np

from penstock.core.errors import ModelLoadError
from penstock.processing.unfit import UnfitFeatureError
from penstock.worker.arrays import Array, blank_rows, first_that_is_no_text, room
from penstock.worker.backends import Backend
from penstock.worker.fault import describe
from penstock.worker.messages import CostSample
from penstock.worker.model import TEXTS, BadOutputError, NoNumberError

__all__ = ["most_rows", "sizes_to_run", "warm_up"]

logger = logging.getLogger("penstock.worker")

# Timed runs of one size: more say no more, and a fast model is ready at once.
TIMED_RUNS_MAX = 32


def warm_up(
    backend: Backend,
    sizes: Sequence[int],
    budget_s: float = 0.0,
    clock: Callable[[], float] = time.perf_counter,
    *,
    length: int = 0,
) -> tuple[CostSample, ...]:
    """Run zeros and empty strings, once unmeasured and then at least once measured, in a batch of each of `sizes`.

    Returns what the measured runs took. `length` is that of all rows, for a model whose rows vary.

    `budget_s` is what all measured runs together may take, shared out evenly; only a size's first may go beyond it.
    Nothing is measured without it. ModelLoadError when a run fails; a plain Python model that merely refuses zeros is
    warned about, and measured no further.
    """
    samples: list[CostSample] = []
    for rows in sizes:
        batch = _zeros(backend, rows, length)
        if not batch.runs(backend):
            return ()
        if budget_s > 0:
            measured = _measure(backend, batch, budget_s / len(sizes), clock)
            if measured is None:
                return ()
            samples += measured
    return tuple(samples)


def most_rows(max_batch_size: int, length: int, max_batch_tokens: int) -> int:
    """Return how many rows of a length one batch may have, as the ring counts them."""
    return max(1, min(max_batch_size, max_batch_tokens // length)) if length and max_batch_tokens else max_batch_size


def sizes_to_run(max_batch_size: int, allowed: Sequence[int] = ()) -> list[int]:
    """Return the sizes that batches are run in for a start: those allowed, else powers of two and the largest."""
    if allowed:
        return [size for size in allowed if size <= max_batch_size] or [allowed[0]]
    powers = [1 << exponent for exponent in range(max_batch_size.bit_length())]
    return [*(size for size in powers if size < max_batch_size), max_batch_size]


class _Batch(NamedTuple):
    """Rows of zeros and empty strings, and room for their outputs."""

    inputs: Sequence[Array]
    outputs: Sequence[Array]
    lengths: Array | None

    def runs(self, backend: Backend) -> bool:
        """Run once; False when the model refuses zeros, which it may."""
        rows = len(self.outputs[0])
        try:
            backend.run(self.inputs, self.outputs, self.lengths)
            self._check_texts(backend)
        except NoNumberError as error:  # what zeros are to a model says nothing of its rows, and it is warm now
            logger.warning("of %d rows of zeros: %s", rows, error)
            return True
        except UnfitFeatureError as error:  # clients may send what fits
            logger.warning("served without warm-up, for the record made of the schema does not fit: %s", error.detail)
            return False
        except BadOutputError as error:
            raise ModelLoadError(f"warm-up with {rows} rows of zeros: {error}") from error
        except BaseException as error:
            if not backend.may_refuse_zeros:
                raise ModelLoadError(f"the model fails for {rows} rows of zeros: {describe(error)}") from error
            logger.warning(
                "the model raised for %d rows of zeros and is served without warm-up: %s", rows, describe(error)
            )
            return False
        return True

    def _check_texts(self, backend: Backend) -> None:
        """Find out here what the ring would say of each request: an output of strings that holds something else."""
        for tensor, output in zip(backend.spec.outputs, self.outputs, strict=True):
            wrong = first_that_is_no_text(output) if tensor.dtype in TEXTS else None
            if wrong is not None:
                raise BadOutputError(f"output {tensor.name!r} holds {type(wrong).__name__} where a string was expected")


def _zeros(backend: Backend, rows: int, length: int) -> _Batch:
    inputs = [blank_rows(tensor, rows, length) for tensor in backend.spec.inputs]
    for array in inputs:
        array.flags.writeable = False  # as rows of the ring are: a model that writes into them must fail here
    outputs = [room((rows, *tensor.shape_at(length)), tensor.dtype) for tensor in backend.spec.outputs]
    return _Batch(inputs, outputs, np.full(rows, length, np.int32) if length else None)


def _measure(backend: Backend, batch: _Batch, budget_s: float, clock: Callable[[], float]) -> list[CostSample] | None:
    """Time runs of one size until the budget is spent; None when the model refuses zeros after all."""
    rows = len(batch.outputs[0])
    length = 0 if batch.lengths is None else int(batch.lengths[0])
    samples: list[CostSample] = []
    begin = end = clock()
    while not samples or (end - begin < budget_s and len(samples) < TIMED_RUNS_MAX):
        before = end
        if not batch.runs(backend):
            return None
        end = clock()
        samples.append(CostSample(rows, end - before, length))
    return samples
