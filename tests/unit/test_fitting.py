"""Images that come to the size of an input: against Pillow, and around the middle."""

import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from penstock.jobs.fitting import fitted


def drawn(height: int, width: int, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(height * width).integers(0, 256, (height, width, channels), np.uint8)


def fit(image: np.ndarray, resize: list[int], crop: list[int], size: tuple[int, int]) -> np.ndarray:
    height, width, channels = image.shape
    made = fitted(image.tobytes(), (width, height), channels, (resize, crop, "bilinear"))
    return np.frombuffer(made, np.uint8).reshape(*size, channels)


def resized(image: np.ndarray, height: int, width: int) -> np.ndarray:
    """Width first, as fitted() does whatever the release of Pillow."""
    narrowed = Image.fromarray(image).resize((width, image.shape[0]), Image.Resampling.BILINEAR)
    return np.asarray(narrowed.resize((width, height), Image.Resampling.BILINEAR))


@pytest.mark.parametrize(("height", "width"), [(40, 60), (60, 40), (50, 50), (7, 90)])
def test_the_short_side_is_resized_and_the_middle_kept(height: int, width: int) -> None:
    image = drawn(height, width)
    size = (20, 20 * width // height) if height <= width else (20 * height // width, 20)
    whole = resized(image, *size)
    top, left = round((whole.shape[0] - 16) / 2), round((whole.shape[1] - 16) / 2)
    assert np.array_equal(fit(image, [20], [16, 16], (16, 16)), whole[top : top + 16, left : left + 16])


def test_a_height_and_a_width_are_taken_as_they_are() -> None:
    image = drawn(30, 20)
    assert np.array_equal(fit(image, [10, 50], [], (10, 50)), resized(image, 10, 50))
    assert np.array_equal(fit(image, [30, 20], [], (30, 20)), image)


def test_what_is_smaller_than_the_crop_gets_a_border() -> None:
    image = drawn(3, 10, 1)
    made = fit(image, [], [6, 4], (6, 4))
    assert np.array_equal(made[1:4], image[:, 3:7])
    assert not made[0].any()
    assert not made[4:].any()


def test_the_process_of_images_loads_no_numpy() -> None:
    """Its library starts threads, and with those glibc keeps what a hostile file had asked for."""
    script = "import sys, penstock.jobs.images; sys.exit('numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", script], check=False).returncode == 0
