"""What plans learn: from which rows, and what of it is written down."""

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.core.errors import ConfigError, ModelLoadError
from penstock.processing.fit import fit
from penstock.processing.offline import inputs_of, transform
from penstock.processing.plan import read_plan
from penstock.processing.slots import slots_of, texts_of
from tests.plans import plan_of, values_of, written


def test_learned_encodings_and_what_was_never_seen(tmp_path: Path) -> None:
    record = {"city": {"type": "string", "x-penstock": {"categories": ["Bonn", "Kiel", "Ulm", "Trier"]}}}
    names = ["one-hot", "ordinal", "frequency", "target"]
    plan = plan_of(
        tmp_path,
        [{"column": "city", "name": name, "steps": [{"encode": name}]} for name in names],
        record,
    )
    assert plan.record is not None
    train = ["Ulm", "Ulm", "Bonn", "Kiel"]
    target = np.array([1.0, 1.0, 0.0, 0.0])
    learned = fit(plan, slots_of(plan.record, {"city": train}), target)
    (tmp_path / "processing.json").write_text(json.dumps(learned.document()))
    for of in (learned, read_plan(tmp_path / "processing.json")):
        ulm, trier, new = values_of(of, {"city": ["Ulm", "Trier", "Jena"]})
        assert ulm == [0, 0, 1, 0, 2, 0.5, pytest.approx((2 + 10 * 0.5) / 12)]
        # Of what the record lists and the table has not, only the place is known.
        assert trier == [0, 0, 0, 1, 3, 0, 0.5]
        assert new == [0, 0, 0, 0, -1, 0, 0.5]
    ((labels, _),) = transform(learned, {"city": ["Ulm"]}, inputs_of(learned)).values()
    assert labels[:4] == ("one-hot=Bonn", "one-hot=Kiel", "one-hot=Ulm", "one-hot=Trier")


@pytest.mark.parametrize(
    ("field", "columns"),
    [
        ({"enum": [3, 1, 2, 4]}, ["3", "1", "2", "4"]),
        ({"enum": ["low", "high", None]}, ["low", "high", "missing"]),
        ({"type": ["string", "null"], "x-penstock": {"categories": ["b", "a"]}}, ["b", "a", "missing"]),
        ({"type": "boolean"}, ["False", "True"]),
        ({"type": ["number", "null"]}, ["1.0", "missing"]),  # of a number the table knows more than the record
    ],
)
def test_one_hot_columns_are_those_of_the_record(tmp_path: Path, field: dict[str, Any], columns: list[str]) -> None:
    plan = plan_of(tmp_path, [{"column": "x", "steps": [{"encode": "one-hot"}]}], {"x": field})
    assert plan.record is not None
    first: Any = plan.record.fields[0].categories[:1] or (1.0,) if field.get("type") != "boolean" else (True,)
    learned = fit(plan, slots_of(plan.record, {"x": [first[0]]}))
    ((labels, _),) = transform(learned, {"x": [first[0]]}, inputs_of(learned)).values()
    assert labels == tuple(f"x={column}" for column in columns)


def test_what_was_filled_has_no_column_for_what_is_missing(tmp_path: Path) -> None:
    steps = [{"impute": "most-frequent"}, {"encode": "one-hot"}]
    plan = plan_of(tmp_path, [{"column": "x", "steps": steps}], {"x": {"enum": ["b", "a", None]}})
    assert plan.record is not None
    learned = fit(plan, slots_of(plan.record, {"x": ["a", None]}))
    assert values_of(learned, {"x": ["b", "a", None]}) == [[1, 0], [0, 1], [0, 1]]


def test_words_that_count_once_are_as_frequent_as_their_rows(tmp_path: Path) -> None:
    step = {"words": "counts", "binary": True, "most": 1}
    plan = plan_of(tmp_path, [{"column": "note", "steps": [step]}], {"note": {"type": "string"}})
    assert plan.record is not None
    table = {"note": ["bb bb bb", "aa", "aa"]}
    learned = fit(plan, slots_of(plan.record, table), texts=texts_of(plan.record, table))
    ((labels, _),) = transform(learned, table, inputs_of(learned)).values()
    assert labels == ("note=aa",)


def test_steps_learn_from_what_the_steps_before_them_make(tmp_path: Path) -> None:
    steps = [{"impute": "median"}, {"log": 0}, {"scale": "min-max"}]
    plan = plan_of(tmp_path, [{"column": "fare", "steps": steps}], {"fare": {"type": ["number", "null"]}})
    assert plan.record is not None
    fares = [1.0, math.e, math.e**2, None]
    learned = fit(plan, slots_of(plan.record, {"fare": fares}))
    assert np.allclose(values_of(learned, {"fare": fares}), [[0], [0.5], [1], [0.5]])


@pytest.mark.parametrize("categories", [None, [True, False], [True, 1, 0, False]])
def test_the_most_frequent_bool_is_one(tmp_path: Path, categories: list[bool | int] | None) -> None:
    field = {"type": ["boolean", "null"]} if categories is None else {"enum": [*categories, None]}
    features = [{"column": "b", "steps": [{"impute": "most-frequent"}, {"encode": "one-hot"}]}]
    for usual in (True, False):
        plan = plan_of(tmp_path, features, {"b": field})
        assert plan.record is not None
        table = {"b": [usual, None, usual, not usual]}
        learned = fit(plan, slots_of(plan.record, table))
        (tmp_path / "processing.json").write_text(json.dumps(learned.document()))
        for of in (learned, read_plan(tmp_path / "processing.json")):
            listed = categories or [False, True]
            filled, other = ([float(of is value) for of in listed] for value in (usual, not usual))
            assert values_of(of, table) == [filled] * 3 + [other]


def test_true_and_1_are_two_categories(tmp_path: Path) -> None:
    numbers = [[True, 0], [1, 1], [False, 2], [0, 3]]
    features = [{"column": "b", "steps": [{"encode": "ordinal", "numbers": numbers}]}]
    plan = plan_of(tmp_path, features, {"b": {"enum": [1, True, 0, False]}})
    assert values_of(plan, {"b": [True, 1, False, 0]}) == [[0], [1], [2], [3]]


@pytest.mark.parametrize(
    ("kind", "values", "edges"),
    [
        ("quantile", [0, 1, 2, 3, 3, 3, 3, 3, 3], [2]),  # nothing is above the last edge
        ("quantile", [0, 0, 0, 0, 1, 2], [0.75]),
        ("uniform", [0.0, 1e-9, 4e-9], [1e-9, 2e-9, 3e-9]),
        ("uniform", [5.0, 5.0], []),
    ],
)
def test_bins_have_a_width(tmp_path: Path, kind: str, values: list[float], edges: list[float]) -> None:
    features = [{"column": "x", "steps": [{"bin": kind, "bins": 4}]}]
    plan = plan_of(tmp_path, features, {"x": {"type": "number"}})
    assert plan.record is not None
    learned = fit(plan, slots_of(plan.record, {"x": [float(value) for value in values]}))
    (step,) = learned.features[0].steps
    assert step.members().get("edges", []) == pytest.approx(edges, rel=1e-12, abs=0)
    assert read_plan(written(tmp_path, learned.document())).features == learned.features


def test_tokens_leave_the_rest_to_be_learned(tmp_path: Path) -> None:
    record = {"note": {"type": "string"}, "age": {"type": "number"}}
    features = [
        {"column": "note", "steps": [{"tokens": "tokenizer.json", "length": 8}], "into": "ids"},
        {"column": "age", "steps": [{"scale": "max-abs"}]},
    ]
    plan = plan_of(tmp_path, features, record)
    assert plan.record is not None
    learned = fit(plan, slots_of(plan.record, {"note": ["a", "b"], "age": [2.0, -4.0]}))
    assert learned.features[0] == plan.features[0]
    assert learned.features[1].steps[0].members()["width"] == 4
    assert inputs_of(learned) == (("features", "float32", (1,)),)
    with pytest.raises(ConfigError, match="feature 'note' is tokens, which are no columns of a table"):
        transform(learned, {"note": ["a"], "age": [1.0]}, inputs_of(learned))


def test_words_are_learned_and_counted(tmp_path: Path) -> None:
    record = {"note": {"type": "string", "maxLength": 40}, "age": {"type": "number"}}
    features = [
        {"column": "note", "name": "counts", "steps": [{"words": "counts", "stop-words": ["the"], "least": 2}]},
        {"column": "age"},
        {"column": "note", "name": "rare", "steps": [{"words": "tf-idf", "ngrams": [1, 2], "most": 3}]},
        {"column": "note", "name": "hashed", "steps": [{"words": "hash", "buckets": 4, "norm": "l1"}]},
    ]
    plan = plan_of(tmp_path, features, record)
    assert plan.record is not None
    notes = ["the old Straße", "the old old dog", "STRASSE ÉTÉ", "a", ""]
    table = {"note": notes, "age": [float(row) for row in range(5)]}
    learned = fit(plan, slots_of(plan.record, table), texts=texts_of(plan.record, table))
    (tmp_path / "processing.json").write_text(json.dumps(learned.document()))
    for of in (learned, read_plan(tmp_path / "processing.json")):
        ((labels, values),) = transform(of, table, inputs_of(of, "float64")).values()
        assert labels[:5] == ("counts=old", "age", "rare=old", "rare=the", "rare=the old")
        assert values[:, 0].tolist() == [1, 2, 0, 0, 0]
        assert values[:, 1].tolist() == [0, 1, 2, 3, 4]
        assert np.allclose(values[:2, 2:5], [[1 / 3**0.5] * 3, [2 / 6**0.5, 1 / 6**0.5, 1 / 6**0.5]])
        assert values[:, 5:].sum(axis=1).tolist() == [1, 1, 1, 0, 0]


@pytest.mark.parametrize(
    ("features", "fares", "reason"),
    [
        *(
            ([{"column": "fare", "steps": [step]}], [None, None], "every value is missing")
            for step in (
                {"impute": "mean"},
                {"scale": "robust"},
                {"power": "yeo-johnson"},
                {"clip": "quantiles"},
                {"bin": "uniform", "bins": 3},
                {"bin": "quantile", "bins": 3},
            )
        ),
        ([{"column": "fare", "steps": [{"power": "box-cox"}]}], [0.0, 1.0], "box-cox is for numbers above 0"),
        ([{"column": "fare", "steps": [{"encode": "target"}]}], [0.0, 1.0], "name the target"),
        ([{"column": "fare"}], [], "a table without rows"),
    ],
)
def test_what_cannot_be_learned(
    tmp_path: Path, features: list[dict[str, Any]], fares: list[float | None], reason: str
) -> None:
    plan = plan_of(tmp_path, features, {"fare": {"type": ["number", "null"]}})
    assert plan.record is not None
    with pytest.raises(ModelLoadError, match=reason):
        fit(plan, slots_of(plan.record, {"fare": fares}))
