"""Images resized and cropped to the size that a model takes, natively.

Without NumPy: its library starts threads, and with those glibc would keep what a hostile file had asked for.
"""

from __future__ import annotations

from collections.abc import Sequence

from penstock.native import _kernels

__all__ = ["fitted"]


def fitted(pixels: bytes, size: tuple[int, int], channels: int, fit: tuple[Sequence[int], Sequence[int], str]) -> bytes:
    """Return the pixels of an image of this width and height as `fit` wants it (core.status.ImageFit)."""
    resize, crop, filter = fit
    width, height = size
    image: bytes | bytearray = pixels
    if resize:
        to = _size_of(resize, height, width)
        if to != (height, width):
            image = bytearray(to[0] * to[1] * channels)
            _kernels.resize(
                memoryview(pixels).cast("B", (height, width, channels)),
                memoryview(image).cast("B", (*to, channels)),
                filter,
                (0.0, 0.0, float(width), float(height)),
            )
            height, width = to
    return bytes(_cropped(image, (height, width), (crop[0], crop[1]), channels) if crop else image)


def _size_of(resize: Sequence[int], height: int, width: int) -> tuple[int, int]:
    if len(resize) == 2:
        return resize[0], resize[1]
    if height <= width:
        return resize[0], int(resize[0] * width / height)
    return int(resize[0] * height / width), resize[0]


def _cropped(image: bytes | bytearray, size: tuple[int, int], to: tuple[int, int], channels: int) -> bytearray:
    """Cut the middle out; what is smaller gets a black border."""
    (_, width), (height_to, width_to) = size, to
    (top, above, rows), (left, before, columns) = map(_middle, size, to)
    result = bytearray(height_to * width_to * channels)
    source = memoryview(image)
    for row in range(rows):
        at = ((above + row) * width_to + before) * channels
        first = ((top + row) * width + left) * channels
        result[at : at + columns * channels] = source[first : first + columns * channels]
    return result


def _middle(size: int, to: int) -> tuple[int, int, int]:
    """Along one side: where to begin in the image, where in the result, and how many."""
    return (round((size - to) / 2), 0, to) if size >= to else (0, (to - size) // 2, size)
