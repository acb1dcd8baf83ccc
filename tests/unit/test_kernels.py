"""The kernels library against NumPy: every float16, every lane, every rounding boundary."""

import os
import subprocess
import sys

import numpy as np
import pytest

from penstock.native import _kernels

ALL_HALVES = np.arange(1 << 16, dtype=np.uint16)


def bits(array: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(array).view(np.uint32)


def test_dtypes_are_numpys() -> None:
    *numbers, strings = _kernels.dtypes()
    names = [name for name, _ in numbers]
    assert names[0] == "bool"
    assert names[-3:] == ["float16", "float32", "float64"]
    assert all(np.dtype(name).itemsize == size for name, size in numbers)
    assert strings == ("bytes", 8)  # of a descriptor; NumPy has no such strings


def test_scalar_is_always_there_and_first() -> None:
    assert _kernels.lanes()[0] == "scalar"
    assert _kernels.lane() in _kernels.lanes()


@pytest.mark.parametrize("lane", _kernels.lanes())
def test_every_half_widens_as_numpy_does(lane: str) -> None:
    floats = _kernels.widen(ALL_HALVES, lane)
    expected = ALL_HALVES.view(np.float16).astype(np.float32)
    numbers = ~np.isnan(expected)
    assert np.array_equal(bits(floats)[numbers], bits(expected)[numbers])
    assert np.isnan(floats[~numbers]).all()


@pytest.mark.parametrize("lane", _kernels.lanes())
def test_lanes_agree_bit_for_bit_at_every_length(lane: str) -> None:
    for length in range(40):
        halves = ALL_HALVES[31700 : 31700 + length]
        assert np.array_equal(bits(_kernels.widen(halves, lane)), bits(_kernels.widen(halves, "scalar")))


def test_rounding_to_half_is_numpys_at_and_beside_every_boundary() -> None:
    finite = ALL_HALVES[ALL_HALVES < 0x7C00].view(np.float16).astype(np.float64)
    ties = np.append((finite[1:] + finite[:-1]) / 2, 65520.0)
    values = np.concatenate(
        [finite, ties, np.nextafter(ties, 0.0), np.nextafter(ties, np.inf), [np.inf, 1e300, 5e-324]]
    )
    for signed in (values, -values):
        with np.errstate(over="ignore"):
            expected = signed.astype(np.float16).view(np.uint16)
        got = np.array([_kernels.round_to_half(float(value)) for value in signed], dtype=np.uint16)
        assert np.array_equal(got, expected)


def test_rounding_keeps_nan() -> None:
    assert np.isnan(np.array([_kernels.round_to_half(float("nan"))], dtype=np.uint16).view(np.float16))[0]


def test_gather_copies_rows_in_order() -> None:
    rng = np.random.default_rng(7)
    rows = [rng.integers(0, 256, size=130, dtype=np.uint8) for _ in range(9)]
    assert np.array_equal(_kernels.gather(rows), np.stack(rows))
    assert _kernels.gather([]).shape == (0, 0)
    assert _kernels.gather([np.zeros(0, np.uint8)] * 3).shape == (3, 0)


@pytest.mark.parametrize("lane", _kernels.lanes())
def test_gather_widened_is_gather_then_widen(lane: str) -> None:
    rng = np.random.default_rng(8)
    rows = [rng.standard_normal(37).astype(np.float16).view(np.uint8) for _ in range(5)]
    expected = np.stack([row.view(np.float16).astype(np.float32) for row in rows])
    assert np.array_equal(_kernels.gather_widened(rows, lane), expected)


def test_rows_of_different_lengths_are_refused() -> None:
    with pytest.raises(ValueError, match="differ in length"):
        _kernels.gather([np.zeros(3, np.uint8), np.zeros(4, np.uint8)])
    with pytest.raises(ValueError, match="even number of bytes"):
        _kernels.gather_widened([np.zeros(3, np.uint8)])


def test_an_unknown_lane_is_an_error() -> None:
    with pytest.raises(ValueError, match="unknown lane avx9; available: scalar"):
        _kernels.widen(ALL_HALVES, "avx9")


@pytest.mark.parametrize(("name", "expected"), [("scalar", "scalar"), ("avx9", "unknown lane avx9")])
def test_the_environment_forces_a_lane(name: str, expected: str) -> None:
    code = "from penstock.native import _kernels\ntry: print(_kernels.lane())\nexcept ValueError as error: print(error)"
    environment = {**os.environ, "PENSTOCK_LANE": name}
    answer = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    assert answer.stdout.startswith(expected)
