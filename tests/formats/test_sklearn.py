"""scikit-learn models beside scikit-learn itself: every kind of estimator, tables, conversions, and hostile files."""

import io
import json
import pickle
import zipfile
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import joblib
import numpy as np
import pandas
import pytest
import skops.io
from sklearn.base import BaseEstimator
from sklearn.cluster import DBSCAN, KMeans
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_diabetes, load_wine
from sklearn.decomposition import PCA
from sklearn.ensemble import GradientBoostingRegressor, IsolationForest, RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression, RidgeClassifier
from sklearn.model_selection import GridSearchCV
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, PowerTransformer, StandardScaler
from sklearn.tree import DecisionTreeClassifier

from penstock.core.errors import ModelLoadError
from penstock.worker.arrays import room
from penstock.worker.backends import Backend, LoadOptions, open_backend
from penstock.worker.backends.trust import sha256_of
from penstock.worker.model import TensorSpec
from penstock.worker.warmup import warm_up
from tests.integration.supervised import Running

pytestmark = pytest.mark.formats

TREE = "sklearn.tree._tree.Tree"
# What SimpleImputer holds.
TRUSTED = {"trusted_types": ["numpy.dtype"]}
WINE, KIND = load_wine(return_X_y=True)
NAMES = np.array(["barolo", "grignolino", "barbera"])[KIND]


def saved(folder: Path, estimator: BaseEstimator, name: str = "model.skops") -> Path:
    path = folder / name
    skops.io.dump(estimator, path)
    return path


def opened(path: Path, convert: str = "none", **trusted: Any) -> Backend:
    return open_backend(path, "auto", LoadOptions(convert=convert, **trusted))


def answers(backend: Backend, *inputs: np.ndarray) -> dict[str, np.ndarray]:
    for array in inputs:
        array.flags.writeable = False
    outputs = [room((len(inputs[0]), *tensor.shape), tensor.dtype) for tensor in backend.spec.outputs]
    backend.run(inputs, outputs)
    return {tensor.name: output for tensor, output in zip(backend.spec.outputs, outputs, strict=True)}


def scaled(last: BaseEstimator) -> Pipeline:
    return make_pipeline(StandardScaler(), last)


# --- what each kind answers -------------------------------------------------------------------------------------------

KINDS: dict[str, tuple[BaseEstimator, Any, dict[str, str]]] = {
    "classifier": (
        scaled(LogisticRegression()),
        KIND,
        {"label": "predict", "probabilities": "predict_proba"},
    ),
    "forest": (
        RandomForestClassifier(9, n_jobs=-1, random_state=0),
        KIND,
        {"label": "predict", "probabilities": "predict_proba"},
    ),
    "neighbours": (KNeighborsClassifier(), KIND + 5, {"label": "predict", "probabilities": "predict_proba"}),
    "no probabilities": (scaled(RidgeClassifier()), KIND, {"label": "predict"}),
    "several labels": (DecisionTreeClassifier(max_depth=3), np.column_stack([KIND, KIND == 1]), {"label": "predict"}),
    "regressor": (scaled(LinearRegression()), KIND * 1.5, {"prediction": "predict"}),
    "two targets": (LinearRegression(), np.column_stack([KIND, -KIND]) * 1.5, {"prediction": "predict"}),
    "clusterer": (scaled(KMeans(3, n_init=1, random_state=0)), None, {"label": "predict"}),
    "outliers": (
        IsolationForest(n_estimators=9, random_state=0),
        None,
        {"label": "predict", "score": "decision_function"},
    ),
    "transformer": (scaled(PCA(2)), None, {"features": "transform"}),
    "search": (
        GridSearchCV(scaled(LogisticRegression()), {"logisticregression__C": [0.1, 1]}, cv=3),
        KIND,
        {"label": "predict", "probabilities": "predict_proba"},
    ),
}


@pytest.mark.parametrize("kind", KINDS)
def test_answers_are_those_of_scikit_learn(tmp_path: Path, kind: str) -> None:
    estimator, target, methods = KINDS[kind]
    estimator.fit(WINE, target)
    backend = opened(saved(tmp_path, estimator), trusted_types=_untrusted(tmp_path / "model.skops"))
    assert backend.spec.inputs == (TensorSpec("features", "float64", (13,)),)
    got = answers(backend, WINE.copy())
    assert list(got) == list(methods)
    for name, method in methods.items():
        expected = getattr(estimator, method)(WINE)
        assert got[name].dtype == expected.dtype
        np.testing.assert_array_equal(got[name], expected)
    warm_up(backend, [1, 7])


def _untrusted(path: Path) -> list[str]:
    return skops.io.get_untrusted_types(file=path)


@pytest.mark.parametrize("estimator", [scaled(LogisticRegression()), RandomForestClassifier(9, random_state=0)])
def test_labels_may_be_text(tmp_path: Path, estimator: BaseEstimator) -> None:
    estimator.fit(WINE, NAMES)
    backend = opened(saved(tmp_path, estimator), trusted_types=[TREE])
    labels = ("barbera", "barolo", "grignolino")
    assert backend.spec.labels == {"probabilities": labels}
    assert {tensor.name: tensor.dtype for tensor in backend.spec.outputs}["label"] == "str"
    got = answers(backend, WINE.copy())
    np.testing.assert_array_equal(got["label"], estimator.predict(WINE))
    np.testing.assert_array_equal(got["probabilities"], estimator.predict_proba(WINE))


def test_a_schema_file_may_ask_for_less(tmp_path: Path) -> None:
    estimator = scaled(LogisticRegression()).fit(WINE, KIND)
    path = saved(tmp_path, estimator)
    schema: dict[str, Any] = {
        "inputs": [{"name": "wine", "dtype": "float32", "shape": [13]}],
        "outputs": [{"name": "probabilities", "dtype": "float32", "shape": [3]}],
    }
    (tmp_path / "model.schema.json").write_text(json.dumps(schema))
    backend = opened(path)
    assert backend.spec.inputs == (TensorSpec("wine", "float32", (13,)),)
    assert backend.spec.outputs == (TensorSpec("probabilities", "float32", (3,)),)
    got = answers(backend, WINE.astype(np.float32))
    np.testing.assert_allclose(got["probabilities"], estimator.predict_proba(WINE), rtol=1e-4, atol=1e-6)
    schema["outputs"][0]["shape"] = [4]
    (tmp_path / "model.schema.json").write_text(json.dumps(schema))
    with pytest.raises(ModelLoadError, match=r"declared as float32 of shape \[4\], and is float64 of shape \[3\]"):
        opened(path)
    schema["inputs"][0]["shape"] = [12]
    (tmp_path / "model.schema.json").write_text(json.dumps(schema))
    with pytest.raises(ModelLoadError, match=r"fitted on 13 features: make it \[13\]"):
        opened(path)


def test_a_model_that_takes_positive_numbers_only_is_served(tmp_path: Path) -> None:
    estimator = PowerTransformer("box-cox").fit(WINE)
    backend = opened(saved(tmp_path, estimator))
    assert backend.may_refuse_zeros
    np.testing.assert_array_equal(answers(backend, WINE.copy())["features"], estimator.transform(WINE))


def test_what_says_nothing_about_new_rows_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="DBSCAN, which has neither predict nor transform"):
        opened(saved(tmp_path, DBSCAN().fit(WINE)))
    skops.io.dump({"model": 1}, tmp_path / "model.skops")
    with pytest.raises(ModelLoadError, match="holds a dict, which is no estimator"):
        opened(tmp_path / "model.skops")
    with pytest.raises(ModelLoadError, match="cannot run a batch of 1 rows"):
        opened(
            saved(tmp_path, LinearRegression()).rename(tmp_path / "m.skops"), **_schema_of(tmp_path / "m.schema.json")
        )


def _schema_of(path: Path) -> dict[str, Any]:
    path.write_text(json.dumps({"inputs": [{"name": "x", "dtype": "float64", "shape": [4]}]}))
    return {}


# --- tables -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def table() -> tuple[pandas.DataFrame, np.ndarray]:
    generator = np.random.default_rng(5)
    frame = pandas.DataFrame(
        {
            "age": generator.uniform(18, 90, 200),
            "town": generator.choice(["Ghent", "Oslo", "Turin", None], 200),
            "rooms": generator.integers(1, 9, 200),
            "heating": generator.choice([3, 7, 11], 200),
        }
    )
    return frame, (frame["age"] / 30 + frame["rooms"] + (frame["town"] == "Oslo") > 6).to_numpy().astype(int)


def tabular() -> Pipeline:
    columns = ColumnTransformer(
        [
            ("number", make_pipeline(SimpleImputer(), StandardScaler()), ["rooms", "age"]),
            ("text", OneHotEncoder(handle_unknown="ignore"), ["town"]),
            ("code", OneHotEncoder(), ["heating"]),
        ]
    )
    return make_pipeline(columns, LogisticRegression())


def test_a_table_needs_a_schema_and_the_error_shows_it(
    tmp_path: Path, table: tuple[pandas.DataFrame, np.ndarray]
) -> None:
    frame, target = table
    estimator = tabular().fit(frame, target)
    path = saved(tmp_path, estimator)
    with pytest.raises(ModelLoadError, match=r"picks its columns by name.* write .*model\.schema\.json") as refused:
        opened(path, **TRUSTED)
    said = str(refused.value)
    (tmp_path / "model.schema.json").write_text(said[said.index("{") : said.rindex("}") + 1])
    backend = opened(path, **TRUSTED)
    assert [tensor.name for tensor in backend.spec.inputs] == list(frame.columns)
    codes = [3, 7, 11]
    got = answers(
        backend,
        frame["age"].to_numpy().copy(),
        np.array([town or "" for town in frame["town"]], object),  # what is empty is missing
        frame["rooms"].to_numpy().astype(np.float64),
        np.array([codes.index(code) for code in frame["heating"]]),
    )
    np.testing.assert_array_equal(got["label"], estimator.predict(frame))
    np.testing.assert_allclose(got["probabilities"], estimator.predict_proba(frame), rtol=1e-12)


def test_the_columns_of_a_schema_are_those_of_the_model(
    tmp_path: Path, table: tuple[pandas.DataFrame, np.ndarray]
) -> None:
    frame, target = table
    path = saved(tmp_path, tabular().fit(frame, target))
    column = {"dtype": "float64", "shape": []}
    names = ["age", "rooms", "heating", "street"]
    (tmp_path / "schema.json").write_text(json.dumps({"inputs": [{"name": name, **column} for name in names]}))
    with pytest.raises(ModelLoadError, match="there is no 'town'; the model knows no 'street'"):
        opened(path, **TRUSTED)


def test_an_index_that_is_no_category_is_an_error(tmp_path: Path, table: tuple[pandas.DataFrame, np.ndarray]) -> None:
    frame, target = table
    path = saved(tmp_path, tabular().fit(frame, target))
    inputs = [{"name": name, "dtype": "float64", "shape": []} for name in ("age", "rooms", "heating")]
    inputs.append({"name": "town", "dtype": "int8", "shape": [], "categories": ["Ghent", "Oslo", "Turin"]})
    (tmp_path / "schema.json").write_text(json.dumps({"inputs": inputs}))
    with pytest.raises(ModelLoadError, match="cannot run a batch of 1 rows"):  # 0 is no heating that it knows
        opened(path, **TRUSTED)
    inputs[2] |= {"dtype": "int8", "categories": [3, 7, 11]}
    (tmp_path / "schema.json").write_text(json.dumps({"inputs": inputs}))
    backend = opened(path, **TRUSTED)
    for wrong in (3, -2, 127):
        with pytest.raises(ValueError, match="'town' is an index from 0 to 2, or -1 for a missing value"):
            answers(backend, np.ones(2), np.ones(2), np.int8([0, 1]), np.int8([0, wrong]))


def test_a_wrong_index_fails_alone(
    run: Callable[..., Running], tmp_path: Path, table: tuple[pandas.DataFrame, np.ndarray]
) -> None:
    frame, target = table
    columns = ColumnTransformer([("n", StandardScaler(), ["age"]), ("t", OneHotEncoder(), ["town"])])
    path = saved(tmp_path, make_pipeline(columns, LogisticRegression()).fit(frame[["age", "town"]], target))
    inputs: list[dict[str, Any]] = [{"name": "age", "dtype": "float64", "shape": []}]
    inputs.append({"name": "town", "dtype": "int8", "shape": [], "categories": ["Ghent", "Oslo", "Turin"]})
    (tmp_path / "model.schema.json").write_text(json.dumps({"inputs": inputs}))
    running = run(path, max_batch_size=8, max_queue_delay_us=20_000)
    towns = [0, 1, 9, 2, -1, 1]
    with ThreadPoolExecutor(len(towns)) as clients:
        replies = list(clients.map(lambda town: running.predict({"age": 40.0, "town": town}), towns))
    assert [status for status, _ in replies] == [200, 200, 500, 200, 200, 200]


def test_a_table_of_numbers_may_be_one_matrix(tmp_path: Path) -> None:
    frame = pandas.DataFrame(WINE, columns=[f"c{place}" for place in range(13)])
    estimator = scaled(LogisticRegression()).fit(frame, KIND)
    got = answers(opened(saved(tmp_path, estimator)), WINE.copy())
    np.testing.assert_array_equal(got["probabilities"], estimator.predict_proba(frame))
    picking = make_pipeline(ColumnTransformer([("all", StandardScaler(), list(frame))]), LogisticRegression())
    picking.fit(frame, KIND)
    path = saved(tmp_path, picking, "picking.skops")
    matrix = {"inputs": [{"name": "features", "dtype": "float64", "shape": [13]}]}
    (tmp_path / "picking.schema.json").write_text(json.dumps(matrix))
    got = answers(opened(path), WINE.copy())
    np.testing.assert_array_equal(got["probabilities"], picking.predict_proba(frame))


# --- converted --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", [KIND, NAMES], ids=["numbers", "text"])
@pytest.mark.parametrize(
    "estimator", [scaled(LogisticRegression()), RandomForestClassifier(20, random_state=1)], ids=["linear", "forest"]
)
def test_a_classifier_runs_as_onnx(tmp_path: Path, estimator: BaseEstimator, target: np.ndarray) -> None:
    estimator.fit(WINE, target)
    path = saved(tmp_path, estimator)
    plain, converted = (opened(path, how, trusted_types=[TREE]) for how in ("none", "onnx"))
    assert converted.spec == plain.spec
    assert converted.name == "sklearn"
    expected, got = answers(plain, WINE.copy()), answers(converted, WINE.copy())
    np.testing.assert_array_equal(got["label"], expected["label"])
    np.testing.assert_allclose(got["probabilities"], expected["probabilities"], rtol=1e-5, atol=1e-6)


def test_a_regressor_runs_as_onnx(tmp_path: Path) -> None:
    features, target = load_diabetes(return_X_y=True)
    estimator = GradientBoostingRegressor(random_state=0).fit(features, target)
    backend = opened(saved(tmp_path, estimator), "onnx", trusted_types=[TREE])
    got = answers(backend, features.copy())
    np.testing.assert_allclose(got["prediction"], estimator.predict(features), rtol=1e-5)


def test_a_conversion_that_predicts_something_else_is_refused(tmp_path: Path) -> None:
    # The scaler rounds otherwise in float32, and the tree divides exactly there.
    estimator = scaled(RandomForestClassifier(50, random_state=1)).fit(WINE, KIND)
    path = saved(tmp_path, estimator)
    with pytest.raises(ModelLoadError, match=r"differs.* in \d+ of 512 rows .*Set convert = \"none\""):
        opened(path, "onnx", trusted_types=[TREE])


def test_conversions_are_those_to_onnx(tmp_path: Path) -> None:
    path = saved(tmp_path, scaled(LogisticRegression()).fit(WINE, KIND))
    with pytest.raises(ModelLoadError, match="convert = 'compile' is not for scikit-learn"):
        opened(path, "compile")


def test_a_conversion_that_cannot_be_made_is_refused(
    tmp_path: Path, table: tuple[pandas.DataFrame, np.ndarray]
) -> None:
    estimator = PowerTransformer("box-cox").fit(WINE)
    with pytest.raises(ModelLoadError, match="cannot be served as ONNX: in float64, "):
        opened(saved(tmp_path, estimator), "onnx")
    frame, target = table
    path = saved(tmp_path, tabular().fit(frame, target), "table.skops")
    with pytest.raises(ModelLoadError) as refused:
        opened(path, **TRUSTED)
    said = str(refused.value)
    (tmp_path / "table.schema.json").write_text(said[said.index("{") : said.rindex("}") + 1])
    with pytest.raises(ModelLoadError, match="is for numbers, and the model has columns of text or categories"):
        opened(path, "onnx", **TRUSTED)


# --- hostile files ----------------------------------------------------------------------------------------------------


class Bomb:
    """A pickle of it writes a file."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Callable[..., Any], tuple[Any, ...]]:
        return (Path.write_text, (self.path, "boom"))


@pytest.mark.parametrize("name", ["m.pkl", "m.pickle", "m.joblib"])
def test_pickles_run_nothing_unless_they_are_trusted(tmp_path: Path, name: str) -> None:
    went_off = tmp_path / "went-off"
    bomb = tmp_path / name
    bomb.write_bytes(pickle.dumps(Bomb(went_off)))
    with pytest.raises(ModelLoadError, match=f'trusted_digests = \\["{sha256_of(bomb)}"\\]'):
        opened(bomb)
    with pytest.raises(ModelLoadError, match="is a pickle"):
        opened(bomb, trusted_digests=["0" * 64], trusted_types=["Bomb"])
    assert not went_off.exists()
    estimator = scaled(LogisticRegression()).fit(WINE, KIND)
    if name == "m.joblib":
        joblib.dump(estimator, bomb, compress=3)
    else:
        bomb.write_bytes(pickle.dumps(estimator))
    got = answers(opened(bomb, trusted_digests=[sha256_of(bomb)]), WINE.copy())
    np.testing.assert_array_equal(got["probabilities"], estimator.predict_proba(WINE))
    bomb.write_bytes(bomb.read_bytes()[:100])
    with pytest.raises(ModelLoadError, match="cannot be unpickled"):
        opened(bomb, trusted_digests=[sha256_of(bomb)])


def test_types_are_trusted_by_name(tmp_path: Path) -> None:
    path = saved(tmp_path, RandomForestClassifier(3).fit(WINE, KIND))
    with pytest.raises(ModelLoadError, match=rf'not trusted: {TREE} .*trusted_types = \["a\.B", "{TREE}"\]'):
        opened(path, trusted_types=["a.B"])
    assert opened(path, trusted_types=[TREE]).spec.outputs


def rewritten(path: Path, change: Callable[[str, bytes], bytes]) -> Path:
    with zipfile.ZipFile(path) as archive:
        entries = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in entries.items():
            archive.writestr(name, change(name, content))
    return path


def test_a_pickle_in_a_skops_file_runs_nothing(tmp_path: Path) -> None:
    went_off = tmp_path / "went-off"
    held = io.BytesIO()
    np.save(held, np.array([Bomb(went_off)], object), allow_pickle=True)

    def change(name: str, content: bytes) -> bytes:
        return held.getvalue() if name.endswith(".npy") else content

    path = rewritten(saved(tmp_path, scaled(LogisticRegression()).fit(WINE, KIND)), change)
    with pytest.raises(ModelLoadError, match="cannot be read by skops"):
        opened(path)
    assert not went_off.exists()


@pytest.mark.parametrize(
    "schema",
    [
        b"",
        b"{}",
        b"[]",
        b"\xff\xfe",
        b'{"__module__": "os", "__class__": "system", "__loader__": "TypeNode"}',
        b'{"__module__": "builtins", "__class__": "eval", "__loader__": "FunctionNode", "content": "eval"}',
        b"[" * 100_000,
    ],
)
def test_a_skops_file_whose_schema_is_none_is_refused(tmp_path: Path, schema: bytes) -> None:
    path = saved(tmp_path, LogisticRegression())
    rewritten(path, lambda name, content: schema if name == "schema.json" else content)
    with pytest.raises(ModelLoadError, match=r"cannot be read by skops|not trusted"):
        opened(path)


def test_archives_are_measured_first(tmp_path: Path) -> None:
    path = tmp_path / "m.skops"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive, archive.open("schema.json", "w") as entry:
        for _ in range(1100):
            entry.write(bytes(1 << 20))
    with pytest.raises(ModelLoadError, match="would unpack to"):
        opened(path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../schema.json", "{}")
    with pytest.raises(ModelLoadError, match="leads out of the folder"):
        opened(path)
    whole = saved(tmp_path, LogisticRegression()).read_bytes()
    for size in (0, 10, len(whole) // 2, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelLoadError, match="no complete zip archive"):
            opened(path)
