"""Images of a batch as the numbers that a model takes."""

from __future__ import annotations

import numpy as np

from penstock.native import _kernels
from penstock.processing.steps.images import Picture
from penstock.worker.arrays import Array

__all__ = ["Pixels"]


class Pixels:
    """Makes the input of an image step. Its array is kept from batch to batch; used by one thread."""

    def __init__(self, step: Picture, dtype: str) -> None:
        channels = step.channels
        self._step = step
        self._dtype = dtype
        self._scale = [1 / (255 * deviation) for deviation in step.deviation] or [1.0] * channels
        pairs = zip(step.mean, step.deviation, strict=True)
        self._offset = [-mean / deviation for mean, deviation in pairs] or [0.0] * channels
        self._room = np.empty((0, *step.shape), np.float32)

    def of(self, images: Array) -> Array:
        """Return the input for images, uint8 of shape (rows, height, width, channels)."""
        if self._dtype == "uint8":
            return np.ascontiguousarray(images.transpose(0, 3, 1, 2)) if self._step.channels_first else images
        if len(images) > len(self._room):
            self._room = np.empty((len(images), *self._step.shape), np.float32)
        made = self._room[: len(images)]
        _kernels.normalize(images, made, self._scale, self._offset, self._step.channels_first)
        return made
