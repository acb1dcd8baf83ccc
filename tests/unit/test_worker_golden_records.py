"""Golden rows of models with plans: they are records, as clients send them."""

import json
import math
from base64 import b64encode
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.core.errors import ModelLoadError
from penstock.processing.plan import read_plan
from penstock.worker.golden import GoldenRow, read_golden
from penstock.worker.model import ModelSpec, TensorSpec

RECORD = {
    "type": "object",
    "properties": {
        "age": {"type": ["number", "null"], "minimum": 0},
        "sex": {"enum": ["female", "male"]},
        "address": {
            "type": "object",
            "properties": {"city": {"enum": ["Ulm", "Bonn"]}},
            "required": ["city"],
        },
        "born": {"type": "string", "format": "date"},
        "tall": {"type": "boolean", "default": True},
        "note": {"type": "string", "default": "none"},
        "point": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
        "file": {"type": "string", "contentMediaType": "image/png"},
    },
    "required": ["age", "sex", "point", "file"],
    "additionalProperties": False,
}
SPEC = ModelSpec(
    (
        TensorSpec("$record", "float64", (5,)),
        TensorSpec("note", "str", ()),
        TensorSpec("point", "float32", (2,)),
        TensorSpec("file", "bytes", ()),
    ),
    (TensorSpec("y", "float32", ()),),
)
FILE = b64encode(b"\x89PNG").decode()
FIRST = {"age": None, "sex": "male", "point": [1, 2], "file": FILE}
SECOND = {
    "age": 3.5,
    "sex": "female",
    "address": {"city": "Bonn"},
    "born": "1970-01-02",
    "tall": False,
    "note": "hello",
    "point": [3, 4],
    "file": {"base64": FILE},
}


def rows_of(
    folder: Path, inputs: Any, record: dict[str, Any] = RECORD, spec: ModelSpec = SPEC
) -> tuple[GoldenRow, ...]:
    (folder / "processing.json").write_text(json.dumps({"format": 1, "record": record}))
    file = folder / "golden.json"
    rows = len(inputs) if isinstance(inputs, list) else len(next(iter(inputs.values())))
    file.write_text(json.dumps({"inputs": inputs, "outputs": {"y": [1.0] * rows}}))
    return read_golden(file, spec, read_plan(folder / "processing.json").record).rows


def test_golden_rows_are_records(tmp_path: Path) -> None:
    first, second = rows_of(tmp_path, [FIRST, SECOND])
    slots, note, point, file = first.inputs
    assert np.array_equal(slots, [math.nan, 1, math.nan, math.nan, 1], equal_nan=True)
    assert (note.item(), point.tolist(), file.item()) == ("none", [1, 2], b"\x89PNG")
    slots, note, point, file = second.inputs
    assert slots.tolist() == [3.5, 0, 1, 86400, 0]
    assert (note.item(), point.tolist(), file.item()) == ("hello", [3, 4], b"\x89PNG")


def test_golden_rows_may_be_columns_of_fields(tmp_path: Path) -> None:
    columns = {"age": [None, 3], "sex": ["male", "female"], "point": [[1, 2], [3, 4]], "file": [FILE, FILE]}
    columns["address.city"] = ["Ulm", "Bonn"]
    first, second = rows_of(tmp_path, columns)
    assert first.inputs[0].tolist()[1:3] == [1, 0]
    assert second.inputs[0].tolist()[:3] == [3, 0, 1]


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"sex": "none"}, "sex: expected category, got 'none'"),
        ({"sex": None}, "row 0 of the inputs: sex cannot be null"),
        ({"age": -1}, "age: expected at least 0, got -1"),
        ({"$record": [1]}, r"row 0 of the inputs has '\$record', which is no field; known are age, sex, address.city"),
        ({"point": [1]}, r"row 0 of input 'point' must have the shape \(2,\)"),
        ({"note": 3}, "row 0 of input 'note' must hold strings"),
        ({"file": "?"}, "row 0 of the inputs: file must be an image in base64"),
        ({"file": 7}, "row 0 of the inputs: file must be an image in base64"),
    ],
)
def test_what_is_no_record_is_told(tmp_path: Path, change: dict[str, Any], text: str) -> None:
    with pytest.raises(ModelLoadError, match=text):
        rows_of(tmp_path, [{**FIRST, **change}])


def test_a_missing_field_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="row 1 of the inputs has no 'sex', which is required"):
        rows_of(tmp_path, [FIRST, {"age": 1, "point": [1, 2], "file": FILE}])
    with pytest.raises(ModelLoadError, match="must be a list of records as clients send them"):
        rows_of(tmp_path, {"age": "1"})
    with pytest.raises(ModelLoadError, match="must be an object with the fields of the record"):
        rows_of(tmp_path, [3])
