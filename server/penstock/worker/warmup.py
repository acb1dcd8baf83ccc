"""First runs of a model, before its first request: allocations, code generation and page faults happen here."""

from __future__ import annotations

import logging

import numpy as np

from penstock.core.errors import ModelLoadError
from penstock.worker.backends import Backend
from penstock.worker.fault import describe
from penstock.worker.model import BadOutputError

__all__ = ["warm_up"]

logger = logging.getLogger("penstock.worker")


def warm_up(backend: Backend, max_batch_size: int) -> None:
    """Run zeros at each power of two up to `max_batch_size`, and at that size.

    ModelLoadError when a run fails; a plain Python model that merely refuses zeros is warned about.
    """
    for rows in _batch_sizes(max_batch_size):
        inputs = [np.zeros((rows, *tensor.shape), tensor.dtype) for tensor in backend.spec.inputs]
        outputs = [np.empty((rows, *tensor.shape), tensor.dtype) for tensor in backend.spec.outputs]
        for array in inputs:
            array.flags.writeable = False  # as rows of the ring are: a model that writes into them must fail here
        try:
            backend.run(inputs, outputs)
        except BadOutputError as error:
            raise ModelLoadError(f"warm-up with {rows} rows of zeros: {error}") from error
        except BaseException as error:
            if not backend.may_refuse_zeros:
                raise ModelLoadError(f"the model fails for {rows} rows of zeros: {describe(error)}") from error
            logger.warning(
                "the model raised for %d rows of zeros and is served without warm-up: %s", rows, describe(error)
            )
            return


def _batch_sizes(max_batch_size: int) -> list[int]:
    sizes = [1 << exponent for exponent in range(max_batch_size.bit_length()) if 1 << exponent < max_batch_size]
    return [*sizes, max_batch_size]
