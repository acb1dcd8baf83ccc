"""Rows for fuzzing: what a JSON Schema or a tensor takes, and what it does not."""

import json
import math
from typing import Any

import jsonschema
import pytest

import penstock_client
from penstock.load.rows import TensorSpec
from penstock.testing.rows import Kind, examples_of
from penstock.testing.target import Target

RECORD: dict[str, Any] = {
    "type": "object",
    "properties": {
        "age": {"type": ["integer", "null"], "minimum": 18, "maximum": 99},
        "share": {"type": "number", "exclusiveMinimum": 0, "exclusiveMaximum": 1},
        "sex": {"enum": ["female", "male"]},
        "port": {"type": "string", "x-penstock": {"categories": ["Cork", "Riga"]}},
        "address": {"$ref": "#/$defs/address"},
        "born": {"type": "string", "format": "date"},
        "note": {"type": "string", "minLength": 1, "maxLength": 12},
        "point": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
        "member": {"type": "boolean", "default": False},
    },
    "required": ["age", "share", "sex", "note", "point", "address"],
    "additionalProperties": False,
    "$defs": {
        "address": {"type": "object", "properties": {"city": {"enum": ["Ulm", "Bonn"]}}, "required": ["city"]},
    },
    "examples": [{}],
}


def target(inputs: tuple[TensorSpec, ...] = (), record: dict[str, Any] | None = None) -> Target:
    client = penstock_client.Client("http://127.0.0.1:1")
    return Target(client, "m", "1", inputs, (), record, "http://127.0.0.1:8000")


def nested(row: dict[str, Any]) -> dict[str, Any]:
    """Undo the paths: "address.city" is the city of the address."""
    found: dict[str, Any] = {}
    for path, value in row.items():
        *parents, name = path.split(".")
        inner = found
        for parent in parents:
            inner = inner.setdefault(parent, {})
        inner[name] = value
    return found


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_records_are_what_the_schema_says(seed: int) -> None:
    validator = jsonschema.Draft202012Validator(RECORD, format_checker=jsonschema.Draft202012Validator.FORMAT_CHECKER)
    examples = examples_of(target(record=RECORD), 200, seed)
    for example in examples:
        row = nested(example.row)
        point = row.get("point")
        if example.kind is not Kind.EXTREME or all(map(math.isfinite, point)):
            assert validator.is_valid(row) == (example.kind is not Kind.INVALID), (example.about, row)
    kinds = {kind: [example for example in examples if example.kind is kind] for kind in Kind}
    assert all(kinds.values())
    abouts = {example.about for example in examples}
    assert {"age: null", "age: its minimum", "sex: 'male'", "note: 12 characters, the most", "member: absent"} <= abouts
    assert {"share: just inside its exclusiveMinimum", "port: a category that is not listed"} <= abouts
    assert {
        "age: above its maximum",
        "note: too long",
        "extra0: a field that is none",
        "address.city: missing",
    } <= abouts


INPUTS = (
    TensorSpec("x", "float32", (2, 3)),
    TensorSpec("n", "int8", ()),
    TensorSpec("flag", "bool", (2,)),
    TensorSpec("word", "str", ()),
    TensorSpec("ids", "uint16", (5,), varies=True),
)


def test_tensors_have_their_edges() -> None:
    examples = examples_of(target(INPUTS), 500, 1)
    abouts = {example.about for example in examples}
    assert {"x: all NaN", "x: one is infinity", "n: all 127", "n: all -128", "word: empty", "flag: all true"} <= abouts
    assert {"x: missing", "n: a fraction", "n: beyond its type", "flag: 2 as a bool", "word: a number"} <= abouts
    lengths = {len(example.row["ids"]) for example in examples if example.kind is Kind.VALID}
    assert lengths == {1, 2, 3, 4, 5}


def test_the_same_seed_makes_the_same_rows() -> None:
    first, second, other = (
        json.dumps([example.row for example in examples_of(target(INPUTS), 30, seed)]) for seed in (5, 5, 6)
    )
    assert first == second
    assert first != other


def test_fewer_rows_than_edges_are_a_choice() -> None:
    examples = examples_of(target(INPUTS), 4, 1)
    for kind in Kind:
        assert 4 <= sum(example.kind is kind for example in examples) <= 5
