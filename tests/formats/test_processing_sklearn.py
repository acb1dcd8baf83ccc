"""Plans imported from scikit-learn, and plans learned as it learns, against scikit-learn's own transform."""

import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.compose import ColumnTransformer
from sklearn.decomposition import PCA
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer, TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    KBinsDiscretizer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)

from penstock.core.errors import ModelLoadError, RequestError
from penstock.processing.fit import fit
from penstock.processing.imported import import_fitted
from penstock.processing.offline import inputs_of, transform
from penstock.processing.plan import Plan, read_plan
from penstock.processing.program import sources_of
from penstock.processing.slots import slots_of

NUMBERS = ["a", "b", "c"]
CATEGORIES = ["k", "l"]


def frame(seed: int, rows: int = 120, *, unseen: bool = False, missing: float = 0.15) -> pd.DataFrame:
    """Make a mixed table with holes; `unseen` adds categories that no other table has."""
    generator = np.random.default_rng(seed)
    table: dict[str, Any] = {
        "a": generator.normal(3, 10, rows),
        "b": np.round(generator.gamma(2, 2, rows), 1),
        "c": generator.integers(-3, 4, rows).astype(float),
    }
    for name in NUMBERS:
        table[name][generator.random(rows) < missing] = np.nan
    words = np.array(["ash", "elm", "oak", "yew", "fir"] + (["box", ""] if unseen else []), object)
    for name in CATEGORIES:
        weights = generator.dirichlet(np.ones(len(words)))
        table[name] = generator.choice(words, rows, p=weights)
        table[name][generator.random(rows) < missing] = None
    return pd.DataFrame(table)


def features(plan: Plan, table: pd.DataFrame) -> np.ndarray:
    """Run a plan offline, in every column's full precision."""
    made = transform(plan, {name: table[name].to_numpy() for name in table}, inputs_of(plan, "float64"))
    ((_, values),) = made.values()
    return values


def check(transformer: Any, train: pd.DataFrame, test: pd.DataFrame, tmp_path: Path, **fitting: Any) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformer.fit(train, **fitting)
        expected = np.asarray(transformer.transform(test), np.float64)
    plan = import_fitted(transformer)
    file = tmp_path / "processing.json"
    file.write_text(json.dumps(plan.document()))
    for of in (plan, read_plan(file)):
        found = features(of, test)
        assert found.shape == expected.shape
        assert np.allclose(found, expected, rtol=1e-9, atol=1e-9, equal_nan=True)


NUMERIC = {
    "nothing": lambda: "passthrough",
    "mean": lambda: SimpleImputer(),
    "median and holes": lambda: SimpleImputer(strategy="median", add_indicator=True),
    "most frequent": lambda: SimpleImputer(strategy="most_frequent"),
    "constant": lambda: SimpleImputer(strategy="constant", fill_value=-1.5),
    "standard": lambda: StandardScaler(),
    "standard without mean": lambda: StandardScaler(with_mean=False),
    "standard without deviation": lambda: StandardScaler(with_std=False),
    "min and max": lambda: MinMaxScaler((-1, 2)),
    "min and max, clipped": lambda: MinMaxScaler(clip=True),
    "largest": lambda: MaxAbsScaler(),
    "robust": lambda: RobustScaler(quantile_range=(10, 80)),
    "power": lambda: PowerTransformer(),
    "power alone": lambda: PowerTransformer(standardize=False),
    "all in turn": lambda: Pipeline(
        [
            ("impute", SimpleImputer(add_indicator=True)),
            ("power", PowerTransformer()),
            ("scale", MinMaxScaler()),
        ]
    ),
    "bins": lambda: Pipeline(
        [
            ("impute", SimpleImputer()),
            ("bin", KBinsDiscretizer(4, encode="ordinal", strategy="uniform")),
        ]
    ),
    "bins spread": lambda: Pipeline(
        [("impute", SimpleImputer()), ("bin", KBinsDiscretizer(3, encode="onehot-dense", strategy="uniform"))]
    ),
    "numbers as categories": lambda: Pipeline(
        [("impute", SimpleImputer()), ("one", OneHotEncoder(sparse_output=False, handle_unknown="ignore"))]
    ),
}
CATEGORICAL = {
    "one-hot": lambda: OneHotEncoder(handle_unknown="ignore", sparse_output=False),
    "one-hot, first dropped": lambda: OneHotEncoder(drop="first", handle_unknown="ignore", sparse_output=False),
    "one-hot, rare together": lambda: OneHotEncoder(
        min_frequency=20, handle_unknown="infrequent_if_exist", sparse_output=False
    ),
    "one-hot, few": lambda: OneHotEncoder(
        max_categories=3, handle_unknown="infrequent_if_exist", drop="first", sparse_output=False
    ),
    "one-hot, filled": lambda: Pipeline(
        [
            ("impute", SimpleImputer(strategy="most_frequent")),
            ("one", OneHotEncoder(handle_unknown="ignore", sparse_output=False)),
        ]
    ),
    "ordinal": lambda: OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1),
    "ordinal, missing": lambda: OrdinalEncoder(
        handle_unknown="use_encoded_value", unknown_value=-1, encoded_missing_value=-2
    ),
    "target": lambda: TargetEncoder(target_type="continuous", random_state=0),
}


@pytest.mark.parametrize("numeric", NUMERIC)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_transformers_of_numbers(numeric: str, tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    transformer = ColumnTransformer([("numbers", NUMERIC[numeric](), NUMBERS)])
    check(transformer, frame(seed), frame(seed + 1), tmp_path_factory.mktemp("plan"))


@pytest.mark.parametrize("categorical", CATEGORICAL)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_transformers_of_categories(categorical: str, tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    transformer = ColumnTransformer([("categories", CATEGORICAL[categorical](), CATEGORIES)])
    target = np.random.default_rng(seed).normal(size=120)
    check(transformer, frame(seed), frame(seed + 1, unseen=True), tmp_path_factory.mktemp("plan"), y=target)


def test_a_table_of_numbers_and_categories(tmp_path: Path) -> None:
    transformer = ColumnTransformer(
        [
            ("one", NUMERIC["all in turn"](), ["a", "c"]),
            ("logs", Pipeline([("fill", SimpleImputer()), ("log", FunctionTransformer(np.log1p))]), ["b"]),
            ("words", CATEGORICAL["one-hot, few"](), CATEGORIES),
        ],
        remainder="drop",
    )
    check(transformer, frame(1), frame(2, unseen=True), tmp_path)


def test_a_pipeline_without_names(tmp_path: Path) -> None:
    pipeline = Pipeline([("fill", SimpleImputer()), ("scale", StandardScaler())])
    train, test = frame(1)[NUMBERS].to_numpy(), frame(2)[NUMBERS].to_numpy()
    expected = pipeline.fit(train).transform(test)
    plan = import_fitted(pipeline)
    found = features(plan, pd.DataFrame(test, columns=["x0", "x1", "x2"]))
    assert np.allclose(found, expected, rtol=1e-12)


def test_what_an_encoder_refuses_the_record_refuses() -> None:
    transformer = ColumnTransformer([("words", OneHotEncoder(sparse_output=False), CATEGORIES)])
    plan = import_fitted(transformer.fit(frame(1, missing=0)))
    with pytest.raises(RequestError, match="expected category, got "):
        features(plan, frame(2, unseen=True, missing=0))


BOOLS = pd.DataFrame({"k": [True, False, True, True]})
WHOLE = pd.DataFrame({"k": [3, 1, 2, 3]})
HOLES = pd.DataFrame({"k": np.array(["a", "b", None, "a"], object)}, dtype=object)
CONSTANT = pd.DataFrame({"k": [5.0, 5.0, 5.0, 5.0]})
ODD = {
    "bools, one-hot": (lambda: OneHotEncoder(sparse_output=False), BOOLS),
    "bools, ordinal": (lambda: OrdinalEncoder(), BOOLS),
    "bools, ordinal and scaled": (
        lambda: ColumnTransformer([("o", OrdinalEncoder(), ["k"]), ("s", StandardScaler(), ["k"])]),
        BOOLS,
    ),
    "whole numbers": (lambda: OneHotEncoder(sparse_output=False), WHOLE),
    "None as a category": (lambda: OrdinalEncoder(), HOLES),
    "None, one-hot": (lambda: OneHotEncoder(sparse_output=False), HOLES),
    "one bin": (lambda: KBinsDiscretizer(3, encode="ordinal", strategy="uniform"), CONSTANT),
    "one bin, spread": (lambda: KBinsDiscretizer(3, encode="onehot-dense", strategy="uniform"), CONSTANT),
    "columns from one name to another": (
        lambda: ColumnTransformer([("s", StandardScaler(), slice("a", "b"))]),
        frame(1)[NUMBERS],
    ),
    "bins of no width": (
        lambda: KBinsDiscretizer(5, encode="ordinal", strategy="uniform"),
        pd.DataFrame({"k": [1.0, 1.0, np.nextafter(1.0, 2)]}),
    ),
    "nothing left of a constant": (
        lambda: OneHotEncoder(drop="first", sparse_output=False),
        CONSTANT.assign(l=["a", "b", "a", "c"]),
    ),
    "unknown ones warned of": (
        lambda: OneHotEncoder(min_frequency=2, handle_unknown="warn", sparse_output=False),
        pd.DataFrame({"k": ["a", "a", "b"]}),
    ),
}


@pytest.mark.parametrize("name", ODD)
def test_odd_columns(name: str, tmp_path: Path) -> None:
    transformer, table = ODD[name]
    check(transformer(), table, table, tmp_path)


def test_unknown_ones_go_to_the_rare_ones_when_they_are_warned_of(tmp_path: Path) -> None:
    train, test = pd.DataFrame({"k": ["a", "a", "b"]}), pd.DataFrame({"k": ["a", "z", "b"]})
    check(OneHotEncoder(min_frequency=2, handle_unknown="warn", sparse_output=False), train, test, tmp_path)


@pytest.mark.parametrize(
    ("train", "value"),
    [
        (WHOLE, 9),
        (BOOLS[:1], False),
        (HOLES.dropna(), "c"),
        (HOLES.dropna(), None),
        (WHOLE, None),
    ],
)
@pytest.mark.parametrize("encoder", [OneHotEncoder, OrdinalEncoder])
def test_what_an_encoder_has_not_seen_is_refused(encoder: Any, train: pd.DataFrame, value: Any) -> None:
    plan = import_fitted(encoder().fit(train))
    with pytest.raises(RequestError, match="row 0: k: expected "):
        features(plan, pd.DataFrame({"k": np.array([value], object)}, dtype=object))


def log(values: np.ndarray) -> np.ndarray:
    return np.log(values + 2)


@pytest.mark.parametrize(
    ("transformer", "table", "reason"),
    [
        (FunctionTransformer(log), CONSTANT, "FunctionTransformer of log cannot be imported: numpy's"),
        (StandardScaler(), CONSTANT * np.nan, "scaler of 'k' has learned nan and nan, from values that were all miss"),
        (
            OneHotEncoder(),
            pd.DataFrame({"k": pd.Series(["a", None, np.nan], dtype=object)}),
            "two categories for what is missing, None and NaN",
        ),
        (
            ColumnTransformer([("s", StandardScaler(), ["k"]), ("o", OneHotEncoder(), ["k"])]),
            WHOLE,
            "an encoder of 'k' has handle_unknown='error', and the column is a number for other steps",
        ),
        (
            Pipeline(
                [
                    ("a", ColumnTransformer([("n", StandardScaler(), ["k"])]).set_output(transform="pandas")),
                    ("b", ColumnTransformer([("m", MinMaxScaler(), ["n__k"])])),
                ]
            ),
            CONSTANT,
            "takes the column 'n__k', which is no column of the table",
        ),
    ],
)
def test_what_would_not_be_the_same_is_refused(transformer: Any, table: pd.DataFrame, reason: str) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        transformer.fit(table)
    with pytest.raises(ModelLoadError, match=reason):
        import_fitted(transformer)


NOTES = ["The quick brown fox", "Über die Straße, ÜBER den Fluß", "", "fox fox_2 12 été", "the the fox x"]
VECTORIZERS = {
    "counts": lambda: CountVectorizer(),
    "tf-idf": lambda: TfidfVectorizer(),
    "tf-idf of pairs": lambda: TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True, norm="l1", stop_words=["the"]),
    "shares": lambda: TfidfVectorizer(use_idf=False, binary=True, lowercase=False),
    "hashed": lambda: HashingVectorizer(n_features=32),
    "hashed without signs": lambda: HashingVectorizer(n_features=7, alternate_sign=False, norm=None),
    "english": lambda: TfidfVectorizer(stop_words="english", max_features=3),
}


@pytest.mark.parametrize("name", VECTORIZERS)
def test_vectorizers_of_text(name: str, tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    tables = [
        frame(seed)[NUMBERS].assign(note=generator.choice(np.array(NOTES, object), 120)).astype({"note": object})
        for seed in (1, 2)
    ]
    transformer = ColumnTransformer(
        [("words", VECTORIZERS[name](), "note"), ("numbers", SimpleImputer(), NUMBERS)], sparse_threshold=0
    )
    check(transformer, *tables, tmp_path)


@pytest.mark.parametrize(
    ("transformer", "reason"),
    [
        (PCA(2), "PCA cannot be imported: a plan can have ColumnTransformer, "),
        (SimpleImputer(missing_values=-1), "SimpleImputer has missing_values=-1"),
        (FunctionTransformer(np.cbrt), "FunctionTransformer of cbrt cannot be imported"),
        (
            Pipeline([("one", OneHotEncoder(sparse_output=False)), ("scale", StandardScaler())]),
            "StandardScaler comes behind one-hot columns",
        ),
    ],
)
def test_what_a_plan_cannot_have_is_named(transformer: Any, reason: str) -> None:
    numbers = frame(1, missing=0)[NUMBERS]
    with pytest.raises(ModelLoadError, match=reason):
        import_fitted(transformer.fit(numbers))


LEARNED = {
    "mean": ([{"impute": "mean"}], lambda: SimpleImputer()),
    "median": ([{"impute": "median"}], lambda: SimpleImputer(strategy="median")),
    "most frequent": ([{"impute": "most-frequent"}], lambda: SimpleImputer(strategy="most_frequent")),
    "standard": ([{"scale": "standard"}], lambda: StandardScaler()),
    "robust": ([{"scale": "robust"}], lambda: RobustScaler()),
    "largest": ([{"scale": "max-abs"}], lambda: MaxAbsScaler()),
    "min and max": ([{"scale": "min-max"}], lambda: MinMaxScaler()),
    "power": ([{"power": "yeo-johnson"}], lambda: PowerTransformer(standardize=False)),
    "bins": (
        [{"impute": "mean"}, {"bin": "uniform", "bins": 5}],
        lambda: Pipeline([("i", SimpleImputer()), ("b", KBinsDiscretizer(5, encode="ordinal", strategy="uniform"))]),
    ),
}


@pytest.mark.parametrize("name", LEARNED)
@settings(max_examples=8, deadline=None)
@given(seed=st.integers(0, 10_000))
def test_what_is_learned_is_what_scikit_learn_learns(
    name: str, tmp_path_factory: pytest.TempPathFactory, seed: int
) -> None:
    steps, transformer = LEARNED[name]
    file = tmp_path_factory.mktemp("plan") / "processing.json"
    record = {"properties": {column: {"type": ["number", "null"]} for column in NUMBERS}}
    file.write_text(json.dumps({"format": 1, "record": record, "features": [{"columns": NUMBERS, "steps": steps}]}))
    train, test = frame(seed)[NUMBERS], frame(seed + 1)[NUMBERS]
    plan = read_plan(file)
    assert plan.record is not None
    learned = fit(plan, slots_of(plan.record, {column: train[column].to_numpy() for column in train}))
    expected = transformer().fit(train).transform(test)
    assert sources_of(plan.record) == (("$record", "float64", (3,)),)
    assert np.allclose(features(learned, test), expected, rtol=1e-6, atol=1e-6, equal_nan=True)


def test_how_a_plan_cannot_split_words_is_named() -> None:
    vectorizer = TfidfVectorizer(analyzer="char").fit(NOTES)
    with pytest.raises(ModelLoadError, match="TfidfVectorizer has analyzer='char': a plan splits words as 'word'"):
        import_fitted(vectorizer)
