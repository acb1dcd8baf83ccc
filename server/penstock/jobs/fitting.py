"""Images resized and cropped to the size that a model takes, natively."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from penstock.native import _kernels

__all__ = ["fitted"]


def fitted(pixels: bytes, size: tuple[int, int], channels: int, fit: tuple[Sequence[int], Sequence[int], str]) -> bytes:
    """Return the pixels of an image of this width and height as `fit` wants it (core.status.ImageFit)."""
    resize, crop, filter = fit
    image = np.frombuffer(pixels, np.uint8).reshape(size[1], size[0], channels)
    if resize:
        image = _resized(image, resize, filter)
    return (_cropped(image, crop[0], crop[1]) if crop else image).tobytes()


def _resized(image: np.ndarray[tuple[int, int, int], np.dtype[np.uint8]], to: Sequence[int], filter: str) -> np.ndarray:
    height, width, channels = image.shape
    if len(to) == 2:
        size = (to[0], to[1])
    elif height <= width:
        size = (to[0], int(to[0] * width / height))
    else:
        size = (int(to[0] * height / width), to[0])
    if size == (height, width):
        return image
    result = np.empty((*size, channels), np.uint8)
    _kernels.resize(image, result, filter, (0.0, 0.0, float(width), float(height)))
    return result


def _cropped(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Cut the middle out; what is smaller gets a black border."""
    below, right = max(height - image.shape[0], 0), max(width - image.shape[1], 0)
    if below or right:
        image = np.pad(image, ((below // 2, below - below // 2), (right // 2, right - right // 2), (0, 0)))
    top, left = round((image.shape[0] - height) / 2), round((image.shape[1] - width) / 2)
    return image[top : top + height, left : left + width]
