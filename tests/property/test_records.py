"""Records are taken and refused as JSON Schema says, whatever the schema and the row; jsonschema is the judge."""

import json
import math
import os
from collections.abc import Mapping
from datetime import UTC, date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from jsonschema import Draft202012Validator

from penstock.core.errors import ModelLoadError
from penstock.core.written_file import WrittenFile
from penstock.native._dataplane import RecordReader
from penstock.native._kernels import hash_text
from penstock.processing.described import described, example_of
from penstock.processing.record import FieldKind, Record, read_record
from penstock.processing.slots import slots_of

EXACT = 1 << 53
# A checkout of https://github.com/json-schema-org/JSON-Schema-Test-Suite.
SUITE = os.environ.get("PENSTOCK_JSON_SCHEMA_SUITE")

Json = dict[str, Any]


def record_of(schema: Mapping[str, Any]) -> Record:
    return read_record(WrittenFile(Path("processing.json"), "plan", 1 << 20), schema)


def read(reader: RecordReader, row: object, *, packed: bool = False) -> tuple[list[float] | None, set[str]]:
    """Return the slots, or which fields are refused."""
    body = {"inputs": row}
    slots, code, faults = reader.read(msgpack.packb(body) if packed else json.dumps(body).encode(), packed)
    assert slots is not None or code == "invalid_input"
    assert (slots is None) == bool(faults) or not isinstance(row, dict)
    return slots, {field for field, _, _ in faults}


# ---- schemas and rows ------------------------------------------------------------------------------------------------

names = st.text(st.characters(codec="utf-8", exclude_characters="."), min_size=1, max_size=6)
numbers = st.one_of(
    st.integers(-10, 10),
    st.integers(-EXACT, EXACT),
    st.floats(-20, 20).map(lambda value: round(value, 1)),
    st.floats(allow_nan=False, allow_infinity=False),
)
scalars = st.one_of(numbers, st.booleans(), st.text(st.characters(codec="utf-8"), max_size=8))
values = st.recursive(
    st.one_of(st.none(), scalars),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(names, inner, max_size=3),
    max_leaves=6,
)


@st.composite
def bounds(draw: st.DrawFn) -> Json:
    keys = draw(st.sets(st.sampled_from(["minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"]), max_size=3))
    return {key: draw(st.integers(-10, 10) | st.floats(-10, 10)) for key in sorted(keys)}


def leave_room(bounds: Json) -> bool:
    """Whether a number can be within; records refuse bounds that nothing is between."""
    low, above = (bounds.get(key, -math.inf) for key in ("minimum", "exclusiveMinimum"))
    high, below = (bounds.get(key, math.inf) for key in ("maximum", "exclusiveMaximum"))
    return bool(max(low, above) < min(high, below) or (above < low == high < below))


@st.composite
def field_schemas(draw: st.DrawFn) -> Json:
    kind = draw(st.sampled_from(["number", "integer", "boolean", "string", "enum", "categories"]))
    nullable = draw(st.booleans())
    if kind == "enum":
        category = st.one_of(st.integers(-3, 3), st.sampled_from([0.5, -1.5]), st.booleans(), st.text(max_size=3))
        categories = draw(
            st.lists(category, min_size=1, max_size=6, unique_by=lambda value: (type(value) is bool, value))
        )
        return {"enum": [*categories, *([None] if nullable else [])]}
    schema: Json = {"type": ["null", "string" if kind == "categories" else kind] if nullable else kind}
    if kind == "categories":
        schema["type"] = ["string", "null"] if nullable else "string"
        words = draw(st.lists(st.text(max_size=3), min_size=1, max_size=4, unique=True))
        schema["x-penstock"] = {"categories": words}
    elif kind == "string":
        schema["x-penstock"] = {"hash": True}
        if draw(st.booleans()):
            schema["minLength"], schema["maxLength"] = 1, draw(st.integers(1, 6))
    elif kind in ("number", "integer"):
        schema |= draw(bounds().filter(leave_room))
        if draw(st.booleans()) and not nullable:
            schema = {"anyOf": [schema, {"type": "null"}]}
    return schema


@st.composite
def object_schemas(draw: st.DrawFn, depth: int = 0) -> Json:
    fields = st.one_of(field_schemas(), object_schemas(depth + 1)) if depth < 2 else field_schemas()
    properties = draw(st.dictionaries(names, fields, min_size=1, max_size=5))
    schema = {"type": "object", "properties": properties}
    schema["required"] = sorted(draw(st.sets(st.sampled_from(sorted(properties)))))
    if draw(st.booleans()):
        schema["additionalProperties"] = draw(st.booleans())
    return schema


@st.composite
def likely(draw: st.DrawFn, schema: Json) -> Any:
    """Return what a schema is likely to take."""
    if "properties" in schema:
        row = {
            name: draw(likely(of))
            for name, of in schema["properties"].items()
            if name in schema["required"] or draw(st.booleans())
        }
        return row | draw(st.dictionaries(names, values, max_size=1) if draw(st.integers(0, 5)) == 0 else st.just({}))
    if draw(st.integers(0, 11)) == 0:
        return draw(values)
    if "anyOf" in schema:
        return draw(likely(schema["anyOf"][0]) | st.none())
    if "enum" in schema:
        return draw(st.sampled_from(schema["enum"]))
    kind = schema["type"]
    kind = draw(st.sampled_from(kind)) if isinstance(kind, list) else kind
    made = {
        "null": st.none(),
        "number": numbers,
        "integer": st.integers(-12, 12) | st.integers(-12, 12).map(float),
        "boolean": st.booleans(),
        "string": st.text(st.characters(codec="utf-8"), max_size=8),
    }
    return draw(made[kind])


def has_a_field(schema: Json) -> bool:
    return any("properties" not in of or has_a_field(of) for of in schema["properties"].values())


rows_of_schemas = (
    object_schemas()
    .filter(has_a_field)
    .flatmap(lambda schema: st.tuples(st.just(schema), st.lists(likely(schema) | values, min_size=1, max_size=6)))
)


# ---- properties ------------------------------------------------------------------------------------------------------


def beyond_exact(row: object) -> bool:
    """Whether a whole number is in it that no float64 holds exactly, which we refuse and JSON Schema does not."""
    if isinstance(row, dict | list):
        return any(beyond_exact(inner) for inner in (row.values() if isinstance(row, dict) else row))
    return isinstance(row, int | float) and abs(row) > EXACT


@given(rows_of_schemas)
def test_decisions_are_those_of_json_schema(case: tuple[Json, list[Any]]) -> None:
    schema, rows = case
    reader = RecordReader(described(record_of(schema)))
    judge = Draft202012Validator(schema)
    for row in rows:
        expected = judge.is_valid(row)
        for packed in (False, True):
            slots, fields = read(reader, row, packed=packed)
            if slots is None and expected:
                assert beyond_exact(row), (schema, row, fields)
            else:
                assert (slots is not None) == expected, (schema, row, fields)


@given(rows_of_schemas)
def test_slots_are_what_the_row_says(case: tuple[Json, list[Any]]) -> None:
    schema, rows = case
    record = record_of(schema)
    reader = RecordReader(described(record))
    for row in rows:
        for packed in (False, True):
            slots, _ = read(reader, row, packed=packed)
            if slots is None:
                continue
            for field, slot in zip(record.slots, slots, strict=True):
                value: Any = row
                for name in field.path:
                    value = value.get(name) if isinstance(value, dict) else None
                if value is None:
                    assert math.isnan(slot)
                elif field.kind is FieldKind.HASH:
                    assert slot == hash_text(value)
                elif field.kind is FieldKind.CATEGORY:
                    kind = isinstance(value, bool)
                    places = [
                        place
                        for place, category in enumerate(field.categories)
                        if category == value and isinstance(category, bool) == kind
                    ]
                    assert slot == (places[0] if places else -1)
                else:
                    assert slot == float(value)


@given(rows_of_schemas)
def test_offline_slots_are_the_same(case: tuple[Json, list[Any]]) -> None:
    schema, rows = case
    record = record_of(schema)
    reader = RecordReader(described(record))
    for row in rows:
        slots, _ = read(reader, row)
        if slots is None or beyond_exact(row):
            continue
        table = {}
        for field in record.slots:
            value: Any = row
            for name in field.path:
                value = value.get(name) if isinstance(value, dict) else None
            table[field.name] = [value]
        np.testing.assert_array_equal(slots_of(record, table)[0], slots)


@given(rows_of_schemas)
def test_examples_have_the_shape_of_the_record(case: tuple[Json, list[Any]]) -> None:
    schema, _ = case
    record = record_of(schema)
    example = example_of(record)
    slots, fields = read(RecordReader(described(record)), example)
    empty = [field for field in record.fields if field.minimum >= field.maximum or field.kind is FieldKind.INTEGER]
    assert slots is not None or fields <= {field.name for field in empty}, (schema, example, fields)


offsets = st.integers(-23 * 60, 23 * 60).map(lambda minutes: timezone(timedelta(minutes=minutes)))
moments = st.datetimes(datetime(2, 1, 1), datetime(9998, 1, 1), timezones=offsets | st.just(UTC))
dates = RecordReader(described(record_of({"when": {"type": "string", "format": "date-time"}})))


@given(moments, st.sampled_from(["T", "t", " "]))
def test_moments_are_seconds(moment: datetime, between: str) -> None:
    text = moment.isoformat(between)
    slots, _ = read(dates, {"when": text})
    assert slots == [pytest.approx(moment.timestamp(), abs=2e-4)]
    assert read(dates, {"when": text.replace("+00:00", "Z")})[0] == slots


@given(st.dates())
def test_dates_begin_at_midnight(day: date) -> None:
    slots, _ = read(dates, {"when": day.isoformat()})
    assert slots == [datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp()]


@given(st.text("0123456789-+:TZ. ", max_size=26) | st.text(max_size=12))
def test_other_text_is_no_date(text: str) -> None:
    slots, _ = read(dates, {"when": text})
    if slots is not None:
        moment = datetime.fromisoformat(text.upper().replace(":60", ":59"))
        assert abs(moment.replace(tzinfo=moment.tzinfo or UTC).timestamp() - slots[0]) <= 1.001


# ---- the public suite ------------------------------------------------------------------------------------------------

KEYWORDS = (
    *("type", "required", "enum", "const", "minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum"),
    *("properties", "additionalProperties", "anyOf", "ref", "defs", "default", "minLength", "maxLength"),
)


@pytest.mark.skipif(SUITE is None, reason="PENSTOCK_JSON_SCHEMA_SUITE names no checkout of the suite")
def test_public_suite() -> None:
    """Schemas of the suite that the subset takes, as a record or as the one field of it."""
    judged = 0
    for keyword in KEYWORDS:
        groups = json.loads((Path(SUITE or "") / "tests/draft2020-12" / f"{keyword}.json").read_text())
        for group in groups:
            for wrapped in (False, True):
                judged += _judge(group, wrapped=wrapped)
    assert judged > 100


def _judge(group: Json, *, wrapped: bool) -> int:
    schema = group["schema"]
    if not isinstance(schema, dict):
        return 0
    if wrapped:
        inner = {key: value for key, value in schema.items() if key != "$schema"}
        if inner.get("type") == "string":
            inner["x-penstock"] = {"hash": True}
        schema = {"type": "object", "properties": {"value": inner}, "required": ["value"]}
    try:
        reader = RecordReader(described(record_of(schema)))
    except (ModelLoadError, ValueError):
        return 0
    judged = 0
    for test in group["tests"]:
        row = {"value": test["data"]} if wrapped else test["data"]
        if not isinstance(row, dict) or beyond_exact(row):
            continue
        # Whoever writes no type takes every other type, too; a field is of one type.
        if wrapped and "type" not in inner and test["valid"] != (read(reader, row)[0] is not None):
            assert test["valid"], (group["description"], test)
            continue
        assert (read(reader, row)[0] is not None) == test["valid"], (group["description"], test)
        judged += 1
    return judged
