"""Plans as files: what is read from them, and what is refused with which words."""

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.core.errors import ConfigError, ModelLoadError, RequestError
from penstock.processing.offline import inputs_of, transform
from penstock.processing.plan import read_plan
from penstock.processing.plan_files import find_plan
from penstock.processing.program import wire
from penstock.processing.record import FieldKind
from tests.plans import AGE, PASSENGER, plan_of, values_of, written


def test_a_record_is_json_schema_or_its_properties(tmp_path: Path) -> None:
    short = plan_of(tmp_path, []).record
    whole = plan_of(
        tmp_path,
        [],
        {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "type": "object",
            "properties": PASSENGER,
            "required": ["age", "sex", "fare"],
            "additionalProperties": False,
        },
    ).record
    assert short is not None
    assert whole is not None
    assert short.fields == whole.fields
    assert short.closed and whole.closed
    age, sex, fare = short.fields
    assert (age.kind, age.nullable, age.minimum, age.maximum) == (FieldKind.NUMBER, True, 0, 120)
    assert (sex.kind, sex.categories, sex.nullable) == (FieldKind.CATEGORY, ("female", "male"), False)
    assert (fare.minimum, fare.exclusive_minimum) == (-1, True)


def test_what_python_classes_write_is_read(tmp_path: Path) -> None:
    record = plan_of(
        tmp_path,
        [],
        {
            "$ref": "#/$defs/Passenger",
            "$defs": {
                "Passenger": {
                    "title": "Passenger",
                    "type": "object",
                    "properties": {
                        "age": {"anyOf": [{"type": "number", "minimum": 0}, {"type": "null"}], "default": None},
                        "cabin": {"$ref": "#/$defs/Cabin"},
                        "born": {"type": "string", "format": "date-time"},
                        "guest": {"type": "boolean", "default": False},
                    },
                    "required": ["cabin", "born"],
                },
                "Cabin": {
                    "type": "object",
                    "properties": {"deck": {"enum": ["A", "B", None]}, "number": {"type": "integer"}},
                    "required": ["deck"],
                },
            },
        },
    ).record
    assert record is not None
    assert [(field.name, field.kind.value, field.required, field.nullable) for field in record.fields] == [
        ("age", "number", False, True),
        ("cabin.deck", "category", True, True),
        ("cabin.number", "integer", False, False),
        ("born", "date", True, False),
        ("guest", "boolean", False, False),
    ]
    assert not record.closed


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ({}, "record has no fields"),
        ({"a": {}}, "record.properties.a.type is null: it must be a string"),
        ({"a": {"type": "money"}}, 'record.properties.a.type is "money": it must be number, integer'),
        ({"a": {"type": ["number", "string"]}}, "one type, and null, is all"),
        ({"a": {"type": "number", "multipleOf": 2}}, "has a member 'multipleOf', which means nothing"),
        ({"a": {"type": "string", "pattern": "^a"}}, "has a member 'pattern', which means nothing"),
        ({"a": {"type": "string", "format": "email"}}, 'format is "email": it must be one of date-time, date'),
        ({"a": {"type": "number", "minimum": "0"}}, 'minimum is "0": it must be a number'),
        (
            {"a": {"type": "number", "minimum": 10, "maximum": 1}},
            "a is bounded by 10 below and by 1 above: no number is",
        ),
        ({"a": {"type": "integer", "minimum": 1, "exclusiveMaximum": 1}}, "a is bounded by 1 below and by 1 above"),
        ({"a": {"type": "string", "minLength": 3, "maxLength": 2}}, "a.minLength is 3, which is above maxLength 2"),
        ({"a": {"enum": []}}, "has no value that its type allows"),
        ({"a": {"enum": ["x", "x"]}}, "has a value twice"),
        ({"a": {"enum": [1, 2**53 + 1]}}, r"enum\[1\] is 9007199254740993: beyond 2\^53"),
        ({"a": {"enum": [10**400]}}, r"beyond 2\^53"),
        ({"a": {"type": "number", "default": "x"}}, 'default is "x": the field is number'),
        ({"a": {"enum": ["x"], "default": "y"}}, 'default is "y": the field is category'),
        ({"a": {"type": "array", "items": {"type": "number"}}}, "minItems and maxItems that are equal"),
        ({"a": {"anyOf": [{"type": "number"}, {"type": "string"}]}}, "must be one schema, and one of type null"),
        ({"a": {"$ref": "https://elsewhere/a.json"}}, "it must name one of \\$defs"),
        ({"a": {"type": ["string", "null"]}}, "is text, which cannot be null"),
        ({"properties": {"a": AGE}, "required": ["b"]}, 'required names "b", which is no property'),
        (
            {"age": {"type": "number", "minimum": 0, "default": -5}},
            "default is -5, which the field itself would refuse",
        ),
        ({"age": {"type": "integer", "default": 1.5}}, "default is 1.5, which the field itself would refuse"),
        ({"day": {"type": "string", "format": "date", "default": "today"}}, 'default is "today", which the field'),
        ({"note": {"type": "string", "maxLength": 2, "default": "abc"}}, 'default is "abc", which the field'),
        ({"b": {"enum": [1, 2], "default": True}}, "default is true: the field is category"),
        (
            {"properties": {"a.b": {"type": "number"}, "a": {"properties": {"b": {"type": "number"}}}}},
            "record has two fields 'a.b'",
        ),
        ({"properties": {"a": {"type": "number"}}, "required": [["a"]]}, r'required\[0\] is \["a"\]: it must be a'),
        ({"properties": {"a": {"type": "number"}}, "$defs": ["A"]}, r'\$defs is \["A"\]: it must be an object'),
    ],
)
def test_records_that_are_refused(tmp_path: Path, record: dict[str, Any], reason: str) -> None:
    with pytest.raises(ModelLoadError, match=reason):
        plan_of(tmp_path, [], record)


@pytest.mark.parametrize(
    ("features", "reason"),
    [
        ([{}], r"features\[0\] must have exactly one of column, columns, ratio"),
        ([{"column": "age", "steps": [{}]}], r"features\[0\].steps\[0\] must begin with one of impute"),
        ([{"column": "age", "steps": [{"impute": "mode"}]}], 'impute is "mode": it must be one of mean, median'),
        ([{"column": "age", "steps": [{"impute": "constant"}]}], "has no member 'value', the constant"),
        ([{"column": "age", "steps": [{"scale": "standard", "center": 0, "width": 0}]}], "width is 0"),
        ([{"column": "age", "steps": [{"scale": "standard", "factor": 1}]}], "has a member 'factor'"),
        ([{"column": "age", "steps": [{"clip": "bounds"}]}], "has neither 'low' nor 'high'"),
        ([{"column": "age", "steps": [{"clip": "bounds", "low": 2, "high": 1}]}], "low 2.0, which is above high 1.0"),
        ([{"column": "age", "steps": [{"bin": "edges", "edges": [2, 1]}]}], "edges must ascend"),
        ([{"column": "age", "steps": [{"bin": "quantile"}]}], "has no member 'bins'"),
        ([{"column": "age", "steps": [{"date": ["century"]}]}], 'date is "century": it must be one of year'),
        ([{"column": "age", "steps": [{"cycle": 0}]}], "cycle is 0.0: a period is more than 0"),
        ([{"column": "age", "steps": [{"hash": 0}]}], "hash is 0: it must be a whole number from 1 on"),
        ([{"column": "age", "steps": [{"words": "some"}]}], 'words is "some": it must be one of counts, tf-idf, hash'),
        ([{"column": "age", "steps": [{"words": "hash"}]}], "has no member 'buckets', their number"),
        ([{"column": "age", "steps": [{"words": "counts", "ngrams": [2, 1]}]}], "must be two numbers from 1 to 8"),
        ([{"column": "age", "steps": [{"words": "tf-idf", "vocabulary": ["a"]}]}], "as many as the words"),
        ([{"column": "age", "steps": [{"words": "counts", "vocabulary": ["a", "a"]}]}], "has a word twice"),
        ([{"ratio": ["age"]}], "names 1 columns: it takes two"),
        ([{"column": "age"}, {"column": "age"}], "is 'age' for the second time: give it another name"),
        ([{"columns": ["age", "fare", "sex"]}, {"column": "age"}], r"features\[1\].name is 'age' for the second time"),
        ([{"columns": ["age", "fare"], "name": "x"}], "cannot be that of several columns"),
        *(
            ([{"column": "sex", "steps": [{"encode": "one-hot", **members}]}], reason)
            for members, reason in (
                ({"numbers": [["male", 0]]}, "has no member 'width', the number of columns"),
                ({"numbers": [["male", 2]], "width": 2}, "has the column 2: they are from 0 to 1"),
                ({"numbers": [["male", 0.5]], "width": 2}, "has the column 0.5: they are"),
                ({"numbers": [["male", 0]], "width": 2, "unknown": 3}, "has the column 3: they are"),
                ({"numbers": [["male", 0], ["male", 1]], "width": 2}, 'has the category "male" for the second time'),
                ({"numbers": [["male", 0, 1]], "width": 2}, "must be two: a string, a number or a bool, and its"),
            )
        ),
    ],
)
def test_features_that_are_refused(tmp_path: Path, features: list[dict[str, Any]], reason: str) -> None:
    with pytest.raises(ModelLoadError, match=reason):
        plan_of(tmp_path, features)


@pytest.mark.parametrize(
    ("features", "reason"),
    [
        ([{"column": "height"}], "is made of 'height', which is no field"),
        ([{"column": "fare", "name": "age"}], "feature 'age' has the name of a field: give it another name"),
        ([{"column": "age", "steps": [{"impute": "median"}]}], "has no 'value': learn it with penstock fit"),
        ([{"column": "age", "steps": [{"scale": "standard"}]}], "has no 'center': learn it with penstock fit"),
        ([{"column": "sex", "steps": [{"encode": "one-hot"}]}], "has no 'numbers': learn them with penstock fit"),
        ([{"column": "sex", "steps": [{"impute": "constant", "value": "x"}]}], "'x' is none of its categories"),
        ([{"column": "age", "steps": [{"impute": "constant", "value": "x"}]}], "'x' is no number"),
        ([{"column": "age", "into": "y"}], "into is 'y', and the model has no such input"),
        (
            [{"column": "age", "steps": [{"words": "hash", "buckets": 3}]}],
            "words, and nothing else, is a step for text",
        ),
        ([{"column": "age"}], "the features make 1 columns, and input 'x' has 3. They are age"),
        (
            [
                {
                    "column": "sex",
                    "steps": [{"encode": "one-hot", "numbers": [["male", 0]], "width": 1}, {"log": 1}],
                }
            ],
            "one-hot columns and words can be no step's input",
        ),
    ],
)
def test_plans_that_do_not_fit_a_model(tmp_path: Path, features: list[dict[str, Any]], reason: str) -> None:
    with pytest.raises(ModelLoadError, match=reason):
        wire(plan_of(tmp_path, features), [("x", "float32", (3,))])


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("{", "is no JSON in UTF-8"),
        ("[]", r"is \[\]: it must be an object"),
        ("{}", "has no member 'format'. A plan looks like this"),
        ('{"format": 2}', "format is 2: this release reads 1"),
        ('{"format": 1}', "has neither a record nor an answer"),
        ('{"format": 1, "format": 1}', "member 'format' occurs twice"),
        ('{"format": 1, "features": [{"column": "a"}], "answer": {"a": {"round": 1}}}', "features need a record"),
    ],
)
def test_files_that_are_no_plans(tmp_path: Path, text: str, reason: str) -> None:
    (tmp_path / "processing.json").write_text(text)
    with pytest.raises(ModelLoadError, match=reason):
        read_plan(tmp_path / "processing.json")


def test_a_plan_lies_in_the_folder_or_beside_the_file(tmp_path: Path) -> None:
    model = tmp_path / "net.onnx"
    assert find_plan(model) is None
    common = written(tmp_path, {"record": PASSENGER})
    assert find_plan(model) == common
    assert find_plan(tmp_path) == common
    own = written(tmp_path, {"record": PASSENGER}, "net.processing.json")
    assert find_plan(model) == own


def test_toml_is_read_too(tmp_path: Path) -> None:
    file = tmp_path / "processing.toml"
    file.write_text(
        """
        format = 1
        [record]
        age = {type = ["number", "null"]}
        sex = {enum = ["female", "male"]}
        [[features]]
        column = "age"
        steps = [{impute = "constant", value = 30.0}, {clip = "bounds", high = 80}]
        [[features]]
        column = "sex"
        """
    )
    plan = read_plan(file)
    assert values_of(plan, {"age": [None, 90.0], "sex": ["male", "female"]}) == [[30.0, 1.0], [80.0, 0.0]]


def test_features_of_features_and_hidden_ones(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        [
            {"column": "age", "name": "years", "steps": [{"impute": "constant", "value": 20}], "hidden": True},
            {"ratio": ["fare", "years"], "name": "fare a year", "steps": [{"clip": "bounds", "high": 5}]},
            {"difference": ["fare", "years"]},
            {"product": ["fare", "fare"]},
            {"sum": ["fare a year", "years"]},
        ],
    )
    table = {"age": [10.0, None, 0.0], "sex": ["male"] * 3, "fare": [30.0, 500.0, 1.0]}
    found = values_of(plan, table)
    assert found[:2] == [[3.0, 20.0, 900.0, 13.0], [5.0, 480.0, 250000.0, 25.0]]
    assert math.isnan(found[2][0]) and found[2][1:3] == [1.0, 1.0]


def test_a_name_that_a_field_and_a_feature_have_is_the_field_s(tmp_path: Path) -> None:
    plan = plan_of(
        tmp_path,
        [
            {"column": "age", "steps": [{"impute": "constant", "value": 20}, {"log": 1}]},
            {"column": "age", "name": "no age", "steps": [{"missing": True}]},
            {"ratio": ["fare", "age"]},
        ],
    )
    found = values_of(plan, {"age": [4.0, None], "sex": ["male"] * 2, "fare": [8.0, 1.0]})
    assert found[0] == [pytest.approx(math.log(5)), 0.0, 2.0]
    assert found[1][:2] == [pytest.approx(math.log(21)), 1.0] and math.isnan(found[1][2])


def test_dates_make_parts_that_come_round(tmp_path: Path) -> None:
    record = {"at": {"type": "string", "format": "date-time"}}
    features = [
        {"column": "at", "name": "parts", "steps": [{"date": ["year", "weekday"]}]},
        {"column": "at", "name": "hour", "steps": [{"date": ["hour"]}, {"cycle": 24}]},
    ]
    plan = plan_of(tmp_path, features, record)
    ((labels, values),) = transform(plan, {"at": ["2024-02-29T20:00:00+02:00"]}, inputs_of(plan, "float64")).values()
    assert labels == ("parts year", "parts weekday", "hour hour sine", "hour hour cosine")
    assert np.allclose(values, [[2024, 3, -1, 0]])


def test_names_of_categories_are_those_of_the_field(tmp_path: Path) -> None:
    steps = [{"encode": "one-hot", "numbers": [["female", 0], ["man", 1]], "width": 2}]
    plan = plan_of(tmp_path, [{"column": "sex", "steps": steps}])
    with pytest.raises(ModelLoadError, match="encode of 'sex': 'man' is none of its categories, 'female', 'male'"):
        inputs_of(plan)


def test_a_field_may_be_called_as_the_input_of_a_table_is(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [], {"features": {"type": "number"}, "x": {"type": "number"}})
    assert values_of(plan, {"features": [1.0], "x": [2.0]}) == [[1, 2]]


def test_hidden_features_alone_are_nothing(tmp_path: Path) -> None:
    plan = plan_of(tmp_path, [{"column": "age", "hidden": True}])
    with pytest.raises(ConfigError, match="all features are hidden"):
        values_of(plan, {"age": [1.0], "sex": ["male"], "fare": [1.0]})


UNLEARNED: list[dict[str, Any]] = [
    {"words": "counts", "least": 5, "most": 7},
    {"words": "tf-idf", "ngrams": [1, 3], "lower": False, "stop-words": ["a"], "norm": "l1", "sublinear": True},
    {"impute": "constant", "value": "", "indicator": True},
    {"impute": "constant", "value": False},
    {"clip": "quantiles"},
    {"bin": "quantile", "bins": 3},
    {"encode": "target", "missing": 0, "unknown": 0},
    {"tokens": "t.json", "length": 3, "mask": "m", "types": "t"},
]


@pytest.mark.parametrize("step", UNLEARNED, ids=lambda step: next(iter(step)))
def test_steps_are_written_as_they_are_read(tmp_path: Path, step: dict[str, Any]) -> None:
    plan = plan_of(tmp_path, [{"column": "age", "steps": [step], "hidden": True, "into": "x"}])
    assert read_plan(written(tmp_path, plan.document())).features == plan.features


@pytest.mark.parametrize(
    ("table", "reason"),
    [
        ({"age": [1.0], "sex": ["male"]}, "fare: the table has no such column, and it is required"),
        (
            {"age": [1.0, 121.0], "sex": ["male"] * 2, "fare": [0.0] * 2},
            "row 1: age: expected at least 0 and at most 120",
        ),
        ({"age": [1.0], "sex": ["other"], "fare": [0.0]}, "row 0: sex: expected category, got 'other'"),
        ({"age": [1.0], "sex": ["male"], "fare": [-1.0]}, "row 0: fare: expected above -1, got -1"),
        ({"age": [1.0], "sex": ["male"], "fare": [None]}, "row 0: fare: expected a value"),
        ({"age": ["1"], "sex": ["male"], "fare": [0.0]}, "row 0: age: expected number, got '1'"),
        ({"age": [True], "sex": ["male"], "fare": [0.0]}, "row 0: age: expected number, got True"),
    ],
)
def test_rows_that_are_no_records(tmp_path: Path, table: dict[str, list[Any]], reason: str) -> None:
    with pytest.raises(RequestError, match=reason):
        values_of(plan_of(tmp_path, []), table)
