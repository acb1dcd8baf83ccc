"""Every native step against NumPy and the calendar, in every lane."""

import math
from collections.abc import Callable
from datetime import UTC, datetime

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from penstock.native import _kernels
from penstock.native._kernels import Program

NAN = math.nan
NUMBERS = np.array([0.0, -0.0, 1.0, -1.0, 0.5, 2.0, 3.0, -2.5, 7.0, 1e300, -1e300, math.inf, -math.inf, NAN])
TABLE = [-1.0, 0.0, 2.0, 3.0]


def run(
    kind: str, *columns: np.ndarray, a: float = 0.0, b: float = 0.0, table: list[float] | None = None
) -> np.ndarray:
    """Run one step in every lane, which all agree."""
    rows = np.ascontiguousarray(np.stack(columns, axis=1), np.float64)
    results = []
    for lane in _kernels.lanes():
        width = len(columns)
        step = (kind, 0, width - 1, a, b, table or [])
        program = Program([("float64", width)], [step], [("float64", 1, [(width, 0, 0)])], lane)
        result = np.empty((len(rows), 1))
        program.run([rows], [result])
        results.append(result[:, 0])
    for result in results:
        assert np.array_equal(result, results[0], equal_nan=True)
    return results[0]


def equal(found: np.ndarray, expected: np.ndarray) -> bool:
    return np.allclose(found, expected, rtol=1e-14, atol=0, equal_nan=True)


def yeo_johnson(x: np.ndarray, exponent: float) -> np.ndarray:
    above = ((x + 1) ** exponent - 1) / exponent if exponent else np.log(x + 1)
    below = -((1 - x) ** (2 - exponent) - 1) / (2 - exponent) if exponent != 2 else -np.log(1 - x)
    return np.where(x >= 0, above, below)


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("kind", "a", "b", "expected"),
    [
        ("fill", 5.0, 0.0, lambda x: np.where(np.isnan(x), 5.0, x)),
        ("is_missing", 0.0, 0.0, lambda x: np.isnan(x).astype(float)),
        ("standardize", 2.0, 3.0, lambda x: (x - 2) / 3),
        ("scale", 2.0, 3.0, lambda x: x * 2 + 3),
        ("clip", -1.5, 2.5, lambda x: np.clip(x, -1.5, 2.5)),
        ("clip", -math.inf, 2.5, lambda x: np.minimum(x, 2.5)),
        ("log", 1.0, 0.0, lambda x: np.log(x + 1)),
        ("sine", 0.3, 0.0, lambda x: np.sin(x * 0.3)),
        ("cosine", 0.3, 0.0, lambda x: np.cos(x * 0.3)),
        ("modulo", 3.0, 0.0, lambda x: np.mod(x, 3)),
    ],
)
def test_steps_of_one_column(kind: str, a: float, b: float, expected: Callable[[np.ndarray], np.ndarray]) -> None:
    numbers = NUMBERS if kind != "modulo" else np.array([0.0, 1.0, 2.0, 3.0, 7.0, 4294967295.0, NAN])
    assert equal(run(kind, numbers, a=a, b=b), expected(numbers))


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize("exponent", [0.0, 0.5, 1.0, 2.0, -1.3, 3.1])
def test_power_transforms(exponent: float) -> None:
    numbers = np.array([0.0, 0.1, 1.0, 5.0, 40.0, -0.1, -3.0, NAN])
    found = run("yeo_johnson", numbers, a=exponent)
    assert np.allclose(found, yeo_johnson(numbers, exponent), rtol=1e-12, atol=1e-15, equal_nan=True)
    expected = (numbers**exponent - 1) / exponent if exponent else np.log(numbers)
    expected[numbers <= 0] = NAN
    assert np.allclose(run("box_cox", numbers, a=exponent), expected, rtol=1e-12, atol=1e-15, equal_nan=True)


def test_a_power_next_to_zero_is_the_logarithm() -> None:
    """The quotient by so small an exponent has no digits left."""
    numbers = np.array([0.5, 1.0, 5.0])
    assert np.array_equal(run("yeo_johnson", numbers, a=5e-324), np.log1p(numbers))
    assert np.array_equal(run("box_cox", numbers, a=-5e-324), np.log(numbers))


def test_bins_and_places() -> None:
    bins = run("bin", NUMBERS, table=TABLE)
    expected = np.searchsorted(TABLE, NUMBERS, side="right").astype(float)
    assert np.array_equal(bins, np.where(np.isnan(NUMBERS), NAN, expected), equal_nan=True)
    places = run("place", NUMBERS, table=TABLE)
    known = {-1.0: 0.0, 0.0: 1.0, 2.0: 2.0, 3.0: 3.0}
    assert np.array_equal(places, [NAN if math.isnan(x) else known.get(x, -1.0) for x in NUMBERS], equal_nan=True)


def test_a_lookup_knows_what_is_missing_and_what_is_unknown() -> None:
    codes = np.array([0.0, 1.0, 2.0, 3.0, -1.0, 1e300, -math.inf, NAN])
    found = run("lookup", codes, table=[10.0, 11.0, 12.0, -5.0, -6.0])
    assert found.tolist() == [10.0, 11.0, 12.0, -6.0, -6.0, -6.0, -6.0, -5.0]


@pytest.mark.filterwarnings("ignore::RuntimeWarning")
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("add", np.add),
        ("subtract", np.subtract),
        ("multiply", np.multiply),
        ("divide", lambda x, y: np.where(y == 0, NAN, x / y)),
    ],
)
def test_steps_of_two_columns(kind: str, expected: Callable[[np.ndarray, np.ndarray], np.ndarray]) -> None:
    left, right = (axis.ravel() for axis in np.meshgrid(NUMBERS, NUMBERS))
    assert equal(run(kind, left, right), expected(left, right))


PARTS: list[Callable[[datetime], int]] = [
    lambda at: at.year,
    lambda at: at.month,
    lambda at: at.day,
    lambda at: at.weekday(),
    lambda at: at.timetuple().tm_yday,
    lambda at: at.hour,
    lambda at: at.minute,
    lambda at: at.second,
]


@given(
    moments=st.lists(
        st.datetimes(min_value=datetime(1, 1, 1), max_value=datetime(9999, 12, 31)), min_size=1, max_size=80
    )
)
def test_parts_of_dates_are_the_calendars(moments: list[datetime]) -> None:
    # Seconds of year 9999 in float64 are 30 us apart, so the last microseconds of one may be the next.
    moments = [at.replace(microsecond=at.microsecond // 1000 * 1000) for at in moments]
    seconds = np.array([(at - datetime(1970, 1, 1)).total_seconds() for at in moments])
    for number, part in enumerate(PARTS):
        assert run("date_part", seconds, a=number).tolist() == [part(at) for at in moments]


def test_there_is_no_date_where_there_is_no_calendar() -> None:
    assert np.isnan(run("date_part", np.array([1e14, math.inf, -math.inf, NAN]))).all()
    assert run("date_part", np.array([datetime(2024, 2, 29, tzinfo=UTC).timestamp()]), a=4.0).tolist() == [60.0]


@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "int64"])
@pytest.mark.parametrize("rows", [0, 1, 63, 64, 65, 200])
def test_matrices_have_columns_and_places(dtype: str, rows: int) -> None:
    generator = np.random.default_rng(rows)
    numbers = generator.normal(0, 1e4, rows)
    codes = generator.integers(-1, 4, rows).astype(float)
    program = Program([("float64", 2)], [], [(dtype, 5, [(1, 0, 3), (0, 3, 0), (1, 4, 0)])])
    result = np.full((rows, 5), 77, dtype)
    program.run([np.stack([numbers, codes], axis=1)], [result])
    spread = (codes[:, None] == np.arange(3)).astype(dtype)
    assert np.array_equal(result, np.column_stack([spread, numbers.astype(dtype), codes.astype(dtype)]))


@pytest.mark.parametrize(("dtype", "lowest"), [("int32", -(2**31)), ("int64", -(2**63))])
def test_what_is_no_integer_is_the_lowest_one(dtype: str, lowest: int) -> None:
    result = np.empty((4, 1), dtype)
    Program([("float64", 1)], [], [(dtype, 1, [(0, 0, 0)])]).run([np.array([NAN, math.inf, -math.inf, 1e30])], [result])
    assert result[:, 0].tolist() == [lowest] * 4


@pytest.mark.parametrize(
    "dtype",
    ["bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64", "float16", "float32", "float64"],
)
def test_every_type_can_be_a_source(dtype: str) -> None:
    rows = np.arange(12).reshape(4, 3).astype(dtype)
    other = np.arange(4, dtype=np.float64)[:, None] + 100
    result = np.empty((4, 4))
    sources = [(dtype, 3), ("float64", 1)]
    Program(sources, [], [("float64", 4, [(x, x, 0) for x in range(4)])]).run([rows, other], [result])
    assert np.array_equal(result, np.column_stack([rows.astype(float), other]))


@pytest.mark.parametrize(
    ("arrays", "results"),
    [
        ([], [np.empty((2, 1))]),
        ([np.zeros((2, 1))], []),
        ([np.zeros((2, 2))], [np.empty((2, 1))]),
        ([np.zeros((2, 1))], [np.empty((3, 1))]),
        ([np.zeros((2, 1), np.float32)], [np.empty((2, 1))]),
    ],
)
def test_arrays_of_another_size_are_refused(arrays: list[np.ndarray], results: list[np.ndarray]) -> None:
    program = Program([("float64", 1)], [], [("float64", 1, [(0, 0, 0)])])
    with pytest.raises(ValueError, match=r"array|rows"):
        program.run(arrays, results)


@pytest.mark.parametrize(
    ("sources", "steps", "matrices", "reason"),
    [
        ([("complex64", 1)], [], [], "unknown dtype complex64"),
        ([("float64", 1)], [("twist", 0, 0, 0.0, 0.0, [])], [], "unknown step twist"),
        ([("float64", 1)], [("add", 0, 1, 0.0, 0.0, [])], [], "step 0: no such column yet"),
        ([("float64", 1)], [], [("float64", 2, [(0, 0, 0)])], "matrix 0: nothing fills column 1"),
    ],
)
def test_programs_that_do_not_fit_are_refused(sources: list, steps: list, matrices: list, reason: str) -> None:
    with pytest.raises(ValueError, match=reason):
        Program(sources, steps, matrices)
