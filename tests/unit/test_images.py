"""Resizing against Pillow, bit for bit, and normalisation against NumPy; every lane."""

from io import BytesIO

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from penstock.native import _kernels

FILTERS = {
    "nearest": Image.Resampling.NEAREST,
    "box": Image.Resampling.BOX,
    "bilinear": Image.Resampling.BILINEAR,
    "bicubic": Image.Resampling.BICUBIC,
    "lanczos": Image.Resampling.LANCZOS,
}
MODES = {1: "L", 3: "RGB", 4: "CMYK"}
SIZES = st.tuples(st.integers(1, 70), st.integers(1, 70))


def drawn(seed: int, height: int, width: int, channels: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (height, width, channels), np.uint8)


def resized(image: Image.Image, size: tuple[int, int], filter: int, box: tuple[float, ...]) -> np.ndarray:
    """Let Pillow resize the width, then the height: in which order it would itself depends on its release."""
    left, top, right, bottom = box
    narrowed = image.resize((size[1], image.height), filter, box=(left, 0, right, image.height))
    return np.asarray(narrowed.resize((size[1], size[0]), filter, box=(0, top, size[1], bottom)))


@pytest.mark.parametrize("lane", _kernels.lanes())
@pytest.mark.parametrize("name", FILTERS)
@settings(deadline=None, max_examples=25)
@given(seed=st.integers(0, 1 << 30), before=SIZES, after=SIZES, channels=st.sampled_from(list(MODES)), data=st.data())
def test_resizing_is_pillows(
    lane: str, name: str, seed: int, before: tuple[int, int], after: tuple[int, int], channels: int, data: st.DataObject
) -> None:
    height, width = before
    pixels = drawn(seed, height, width, channels)
    left, top = data.draw(st.integers(0, width - 1)), data.draw(st.integers(0, height - 1))
    box = (left, top, data.draw(st.integers(left + 1, width)), data.draw(st.integers(top + 1, height)))
    result = np.empty((*after, channels), np.uint8)
    _kernels.resize(pixels, result, name, box, lane)
    image = Image.fromarray(pixels if channels != 1 else pixels[:, :, 0], MODES[channels])
    assert np.array_equal(result, resized(image, after, FILTERS[name], box).reshape(*after, channels))


def test_a_photograph_is_resized_as_pillow_does() -> None:
    y, x = np.mgrid[0:480, 0:640]
    pixels = np.stack([x % 256, y % 256, (x * y // 97) % 256], axis=2).astype(np.uint8)
    saved = BytesIO()
    Image.fromarray(pixels).save(saved, "JPEG")
    image = Image.open(saved)
    result = np.empty((224, 224, 3), np.uint8)
    box = (80.0, 0.0, 560.0, 480.0)
    _kernels.resize(np.asarray(image), result, "bilinear", box)
    assert np.array_equal(result, resized(image, (224, 224), Image.Resampling.BILINEAR, box))
    at_once = np.asarray(image.resize((224, 224), Image.Resampling.BILINEAR, box=box))
    assert np.abs(result.astype(int) - at_once).max() <= 1


@pytest.mark.parametrize("lane", _kernels.lanes())
@pytest.mark.parametrize("planes", [True, False])
@pytest.mark.parametrize("channels", [1, 2, 3, 4])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (4, 4), (16, 3), (7, 31)])
def test_normalisation_is_a_product_and_a_sum(lane: str, planes: bool, channels: int, size: tuple[int, int]) -> None:
    pixels = np.stack([drawn(seed, *size, channels) for seed in range(3)])
    scale, offset = np.float32([0.1, 0.5, -2, 3])[:channels], np.float32([1, -1, 0.25, 7])[:channels]
    expected = pixels.astype(np.float32) * scale + offset
    if planes:
        expected = np.ascontiguousarray(expected.transpose(0, 3, 1, 2))
    result = np.empty(expected.shape, np.float32)
    _kernels.normalize(pixels, result, scale.tolist(), offset.tolist(), planes, lane)
    assert np.array_equal(result, expected)


@pytest.mark.parametrize(
    ("pixels", "result", "filter", "box", "reason"),
    [
        ((4, 4, 3), (2, 2, 1), "box", (0, 0, 4, 4), "the same channels"),
        ((4, 4, 5), (2, 2, 5), "box", (0, 0, 4, 4), "1 to 4 channels"),
        ((4, 4, 3), (2, 2, 3), "blur", (0, 0, 4, 4), "unknown filter blur"),
        ((4, 4, 3), (2, 2, 3), "box", (0, 0, 5, 4), "not inside the image"),
        ((4, 4, 3), (2, 2, 3), "box", (2, 0, 2, 4), "the box is empty"),
        ((4, 4, 3), (2, 2, 3), "box", (float("nan"), 0, 2, 4), "the box is empty"),
        ((0, 4, 3), (2, 2, 3), "box", (0, 0, 4, 4), "between 1 and 32768"),
        ((4, 4, 3), (2, 0, 3), "box", (0, 0, 4, 4), "between 1 and 32768"),
    ],
)
def test_what_cannot_be_resized(
    pixels: tuple[int, ...], result: tuple[int, ...], filter: str, box: tuple[float, ...], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        _kernels.resize(np.zeros(pixels, np.uint8), np.zeros(result, np.uint8), filter, box)


@pytest.mark.parametrize(
    ("result", "scale", "planes"),
    [
        ((1, 3, 2, 2), [1.0] * 3, False),
        ((1, 2, 2, 3), [1.0] * 3, True),
        ((1, 3, 2, 2), [1.0] * 2, True),
        ((2, 3, 2, 2), [1.0] * 3, True),
    ],
)
def test_what_cannot_be_normalised(result: tuple[int, ...], scale: list[float], planes: bool) -> None:
    with pytest.raises(ValueError, match=r"shape|channels"):
        _kernels.normalize(np.zeros((1, 2, 2, 3), np.uint8), np.zeros(result, np.float32), scale, [0.0] * 3, planes)
