"""Faults of tables: what is expected is said as the data plane says it."""

import json
from pathlib import Path
from typing import Any

import pytest

from penstock.core.written_file import WrittenFile
from penstock.native._dataplane import RecordReader
from penstock.processing.described import described
from penstock.processing.faults import Fault, faults_of
from penstock.processing.record import read_record


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ({"type": "number"}, "x"),
        ({"type": ["number", "null"], "minimum": -0.5, "exclusiveMaximum": 2_000_000}, 2_000_000),
        ({"type": "integer", "exclusiveMinimum": 0}, 0),
        ({"type": "integer", "maximum": 10}, 1.5),
        ({"type": "boolean"}, "yes"),
        ({"enum": ["a", 1, True, '\u00e9"', None]}, "b"),
        ({"type": "string", "x-penstock": {"categories": ["a"]}}, 3),
        ({"x-penstock": {"categories": ["a", True]}}, 3),
        ({"x-penstock": {"categories": [1.5, False]}}, "a"),
        ({"type": "string", "format": "date"}, "today"),
        ({"type": "string", "minLength": 2, "x-penstock": {"hash": True}}, "a"),
        ({"type": "string", "minLength": 2, "maxLength": 3, "x-penstock": {"hash": True}}, "abcd"),
        ({"type": "string", "maxLength": 3, "x-penstock": {"hash": True}}, "abcd"),
        ({"type": "string", "x-penstock": {"hash": True}}, False),
    ],
)
def test_what_is_expected_is_what_the_data_plane_expects(field: dict[str, Any], value: Any) -> None:
    record = read_record(WrittenFile(Path("p.json"), "plan", 1000), {"x": field})
    _, _, told = RecordReader(described(record)).read(json.dumps({"inputs": {"x": value}}).encode(), False)
    ((_, _, detail),) = told
    assert faults_of(record, {"x": [value]}) == [Fault(0, "x", detail)]
