"""Offline a column of a table becomes the slots that the data plane makes of its values, and is refused where it is."""

import json
import math
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from penstock.core.errors import RequestError
from penstock.core.written_file import WrittenFile
from penstock.native._dataplane import RecordReader
from penstock.processing.described import described
from penstock.processing.record import Record, read_record
from penstock.processing.slots import slots_of

FIELDS: dict[str, dict[str, Any]] = {
    "number": {"type": "number"},
    "bounded": {"type": "number", "minimum": 0, "exclusiveMaximum": 8},
    "whole": {"type": "integer"},
    "bool": {"type": "boolean"},
    "words": {"enum": ["7", "a", "", "true", "0.5"]},
    "numbers": {"enum": [7, 0.5, 1]},
    "mixed": {"enum": [True, 3, "3", "true"]},
    "open words": {"type": "string", "x-penstock": {"categories": ["7", "a"]}},
    "open numbers": {"type": "number", "x-penstock": {"categories": [7, 1]}},
    "date": {"type": "string", "format": "date-time"},
    "hash": {"type": "string", "minLength": 2, "maxLength": 3, "x-penstock": {"hash": True}},
    "null": {"type": ["number", "null"]},
}
SPELT = [
    *("7", "7.0", "07", "+7", " 7", "7\t", "1_0", "1e3", "-0", "inf", "nan", "Infinity", ".5", "5.", "٣", "1e999"),
    *("true", "True", "TRUE", " false", "0", "1", "a", "ab", "äöü", "abcd", ""),
    *("2024-01-31", "0000-02-29", "2023-02-29", "20240131", "2024-W05-3", "2024-01-31t10:00:00z"),
    *("2024-01-31T10:00:00", "2024-01-31 10:00:00Z", "2024-01-31T10:00Z", "2024-01-31T10:00:00.123456789Z"),
    *("1969-12-31T23:59:59.999Z", "2016-12-31T23:59:60Z", "2024-01-31T24:00:00Z", "2024-01-31T10:00:00+0200"),
    *("2024-01-31T10:00:00-23:59", "2024-01-31T10:00:00,5Z", "0001-01-01T00:00:00+10:00"),
]
values = st.one_of(
    st.sampled_from([*SPELT, None, True, False, [1], {"a": 1}, 2**53, 2**53 + 1, -(2**53) - 1]),
    st.integers(-3, 9),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(st.characters(codec="utf-8"), max_size=4),
    st.datetimes(timezones=st.just(UTC)).map(datetime.isoformat),
)


def record_of(kind: str, coerce: bool) -> Record:
    schema = dict(FIELDS[kind])
    if coerce:
        schema["x-penstock"] = {**schema.get("x-penstock", {}), "coerce": True}
    return read_record(WrittenFile(Path("processing.json"), "plan", 1 << 20), {"x": schema})


RECORDS = {(kind, coerce): record_of(kind, coerce) for kind in FIELDS for coerce in (False, True)}
READERS = {key: RecordReader(described(record)) for key, record in RECORDS.items()}


def online(key: tuple[str, bool], value: Any) -> float | None:
    slots, _, _ = READERS[key].read(json.dumps({"inputs": {"x": value}}).encode(), False)
    return None if slots is None else slots[0]


def offline(key: tuple[str, bool], column: Any) -> float | None:
    try:
        return float(slots_of(RECORDS[key], {"x": column})[0, 0])
    except RequestError:
        return None


def same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return np.float64(one).tobytes() == np.float64(other).tobytes() or (math.isnan(one) and math.isnan(other))


@given(st.sampled_from(sorted(RECORDS)), values)
def test_values_are_read_as_online(key: tuple[str, bool], value: Any) -> None:
    assert same(online(key, value), offline(key, [value]))


@pytest.mark.parametrize("key", sorted(RECORDS))
def test_what_is_easily_read_otherwise(key: tuple[str, bool]) -> None:
    for value in [*SPELT, None, True, False, 0, 1, 7, 7.0, 0.5, -0.0, [1], 2**53, 2**53 + 1, -(2**53) - 1]:
        assert same(online(key, value), offline(key, [value])), value


@given(
    st.datetimes(min_value=datetime(1678, 1, 1), max_value=datetime(2262, 1, 1)), st.sampled_from(["us", "ns", "ms"])
)
@example(datetime(1969, 12, 31, 23, 59, 59, 999000), "us")
def test_moments_are_those_of_their_text(moment: datetime, unit: str) -> None:
    column = np.array([moment], f"datetime64[{unit}]")
    text = f"{column[0]}Z"
    key = ("date", False)
    expected = online(key, text)
    assert expected is not None
    assert same(expected, offline(key, column))
    if unit == "us":
        assert same(expected, offline(key, [moment]))
        assert same(expected, offline(key, [moment.replace(tzinfo=UTC) + timedelta(0)]))


@given(st.dates())
def test_days_are_those_of_their_text(day: date) -> None:
    assert same(online(("date", False), day.isoformat()), offline(("date", False), [day]))


def test_whole_numbers_are_looked_at_before_they_are_rounded() -> None:
    assert offline(("whole", False), np.array([2**53 + 1])) is None
    assert offline(("whole", False), np.array([-(2**53)])) == -(2**53)
    assert offline(("number", False), np.array([math.inf])) is None
