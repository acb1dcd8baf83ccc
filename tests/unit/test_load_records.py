"""Records that are drawn from a schema are taken by whoever has the schema."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from penstock.load.dialects import PenstockJson, PenstockMsgpack
from penstock.load.records import has_images, random_records
from penstock.load.rows import Row
from penstock.native._dataplane import RecordReader
from penstock.processing.described import described
from tests.property.test_records import has_a_field, object_schemas, record_of

WIDE = {
    "type": "object",
    "properties": {
        "age": {"type": ["integer", "null"], "minimum": 0, "maximum": 120},
        "share": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1e-9},
        "cold": {"type": "number", "maximum": -5},
        "sex": {"enum": ["female", "male", None]},
        "city": {"type": "string", "x-penstock": {"categories": ["Ulm", "Bonn"]}},
        "place": {"$ref": "#/$defs/Place"},
        "born": {"type": "string", "format": "date-time"},
        "day": {"anyOf": [{"type": "string", "format": "date"}, {"type": "null"}]},
        "agent": {"type": "string", "minLength": 3, "maxLength": 5, "x-penstock": {"hash": True}},
        "tall": {"type": "boolean", "default": False},
        "rank": {"const": 7},
    },
    "required": ["age", "share", "cold", "sex", "city", "place", "born", "day", "agent", "rank"],
    "additionalProperties": False,
    "$defs": {"Place": {"type": "object", "properties": {"x": {"type": "number"}}, "required": ["x"]}},
}


def taken(schema: dict[str, Any], rows: list[Row]) -> None:
    reader = RecordReader(described(record_of(schema)))
    for row in rows:
        for dialect, is_msgpack in ((PenstockJson(), False), (PenstockMsgpack(), True)):
            slots, _, faults = reader.read(dialect.request("m", row).body, is_msgpack)
            assert slots is not None, (row, faults)


def test_records_of_a_wide_schema() -> None:
    rows = random_records(WIDE, 300)
    taken(WIDE, rows)
    assert {row["sex"].item() for row in rows} == {"female", "male", None}
    assert {row["city"].item() for row in rows} == {"Ulm", "Bonn"}
    assert {"tall" in row for row in rows} == {True, False}
    assert {row["age"].item() is None for row in rows} == {True, False}
    assert len({row["share"].item() for row in rows}) >= 1
    assert all("place.x" in row for row in rows)
    assert Draft202012Validator(WIDE["properties"]["agent"]).is_valid(rows[0]["agent"].item())


def test_records_are_never_twice_the_same_and_can_be_made_again() -> None:
    bodies = [PenstockJson().request("m", row).body for row in random_records(WIDE, 50, seed=3)]
    assert len(set(bodies)) == 50
    assert bodies == [PenstockJson().request("m", row).body for row in random_records(WIDE, 50, seed=3)]


def is_possible(schema: dict[str, Any]) -> bool:
    """Whether its numbers leave room for one of six decimals."""
    if "properties" in schema:
        return bool(schema["properties"]) and all(is_possible(of) for of in schema["properties"].values())
    (of,) = [of for of in schema.get("anyOf", [schema]) if of != {"type": "null"}]
    if of.get("type") not in ("number", "integer", ["null", "number"], ["null", "integer"]):
        return True
    low = max(of.get("minimum", -1e9), of.get("exclusiveMinimum", -1e9))
    high = min(of.get("maximum", 1e9), of.get("exclusiveMaximum", 1e9))
    return high - low > 2


@given(object_schemas().filter(has_a_field).filter(is_possible), st.integers(0, 100))
def test_records_of_any_schema(schema: dict[str, Any], seed: int) -> None:
    taken(schema, random_records(schema, 5, seed))


@pytest.mark.parametrize("decoded", [True, False])
def test_images_are_those_of_the_example(decoded: bool) -> None:
    file: dict[str, Any] = {"type": "string", "contentMediaType": "image/*"}
    field = {"type": "object", "properties": {"base64": file}} if decoded else file
    value = {"base64": "AAAA"} if decoded else "AAAA"
    schema = {"properties": {"photo": field}, "required": ["photo"], "examples": [{"photo": value}]}
    assert has_images(schema) and not has_images(WIDE)
    (row,) = random_records(schema, 1)
    assert row["photo"].item() == value
