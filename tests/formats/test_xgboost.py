"""XGBoost models beside XGBoost itself, and files that are none."""

import json
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import xgboost
from sklearn.datasets import load_breast_cancer, load_diabetes, load_wine

from penstock.core.errors import ModelLoadError
from penstock.worker.backends import Backend, LoadOptions, open_backend
from penstock.worker.model import TensorSpec
from penstock.worker.warmup import warm_up
from tests.integration.supervised import Running

pytestmark = pytest.mark.formats

MIB = 1 << 20
CANCER, MALIGNANT = load_breast_cancer(return_X_y=True)
WINE, KIND = load_wine(return_X_y=True)
DIABETES, PROGRESSION = load_diabetes(return_X_y=True)


def opened(path: Path, **options: Any) -> Backend:
    return open_backend(path, "auto", LoadOptions(**options))


def answer(backend: Backend, *inputs: np.ndarray) -> np.ndarray:
    for array in inputs:
        array.flags.writeable = False
    (tensor,) = backend.spec.outputs
    output = np.empty((len(inputs[0]), *tensor.shape), tensor.dtype)
    backend.run(inputs, [output])
    return output


def cancer(folder: Path, name: str = "cancer.ubj") -> tuple[Path, xgboost.Booster]:
    booster = xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(CANCER, MALIGNANT), 8)
    booster.save_model(folder / name)
    return folder / name, booster


# --- answers ----------------------------------------------------------------------------------------------------------

OBJECTIVES: dict[str, tuple[dict[str, Any], np.ndarray, np.ndarray, TensorSpec]] = {
    "logistic": ({"objective": "binary:logistic"}, CANCER, MALIGNANT, TensorSpec("probabilities", "float32", ())),
    "hinge": ({"objective": "binary:hinge"}, CANCER, MALIGNANT, TensorSpec("label", "int64", ())),
    "softprob": (
        {"objective": "multi:softprob", "num_class": 3},
        WINE,
        KIND,
        TensorSpec("probabilities", "float32", (3,)),
    ),
    "softmax": ({"objective": "multi:softmax", "num_class": 3}, WINE, KIND, TensorSpec("label", "int64", ())),
    "regression": ({}, DIABETES, PROGRESSION, TensorSpec("prediction", "float32", ())),
    "base score": ({"base_score": 152.5}, DIABETES, PROGRESSION, TensorSpec("prediction", "float32", ())),
    "dart": ({"booster": "dart"}, DIABETES, PROGRESSION, TensorSpec("prediction", "float32", ())),
    "linear": ({"booster": "gblinear"}, DIABETES, PROGRESSION, TensorSpec("prediction", "float32", ())),
    "two targets": (
        {"multi_strategy": "multi_output_tree", "tree_method": "hist"},
        DIABETES,
        np.column_stack([PROGRESSION, -PROGRESSION]),
        TensorSpec("prediction", "float32", (2,)),
    ),
}


@pytest.mark.parametrize("suffix", [".ubj", ".json"])
@pytest.mark.parametrize("objective", OBJECTIVES)
def test_answers_are_those_of_xgboost(tmp_path: Path, objective: str, suffix: str) -> None:
    parameters, features, target, output = OBJECTIVES[objective]
    booster = xgboost.train(parameters, xgboost.DMatrix(features, target), 6)
    path = tmp_path / f"model{suffix}"
    booster.save_model(path)
    backend = opened(path)
    assert backend.spec.inputs == (TensorSpec("features", "float32", (features.shape[1],)),)
    assert backend.spec.outputs == (output,)
    rows = features.astype(np.float32)
    rows[::7, 2] = np.nan
    expected = booster.predict(xgboost.DMatrix(rows))
    # Predicting in place, XGBoost adds up the trees of dart in another order.
    rtol = 1e-6 if objective == "dart" else 0
    np.testing.assert_allclose(answer(backend, rows), expected.astype(output.dtype), rtol=rtol)
    warm_up(backend, [1, 5])


def test_after_early_stopping_the_best_trees_answer(tmp_path: Path) -> None:
    classifier = xgboost.XGBClassifier(n_estimators=60, early_stopping_rounds=5)
    classifier.fit(CANCER[:300], MALIGNANT[:300], eval_set=[(CANCER[300:], MALIGNANT[300:])], verbose=False)
    assert classifier.best_iteration < classifier.get_booster().num_boosted_rounds() - 1
    classifier.save_model(tmp_path / "model.ubj")
    rows = CANCER.astype(np.float32)
    np.testing.assert_array_equal(answer(opened(tmp_path / "model.ubj"), rows), classifier.predict_proba(rows)[:, 1])


def test_columns_go_by_their_names_and_categories_by_their_places(tmp_path: Path) -> None:
    generator = np.random.default_rng(3)
    towns = ["Ghent", "Oslo", "Turin"]
    frame = pandas.DataFrame({"age": generator.uniform(0, 90, 300), "rooms": generator.integers(1, 9, 300)})
    frame["town"] = pandas.Categorical.from_codes(generator.integers(-1, 3, 300), towns)
    target = frame["age"] + 20 * (frame["town"] == "Oslo")
    booster = xgboost.train({}, xgboost.DMatrix(frame, target, enable_categorical=True), 10)
    booster.save_model(tmp_path / "model.ubj")
    inputs = [
        {"name": "town", "dtype": "int8", "shape": [], "categories": towns},
        {"name": "age", "dtype": "float64", "shape": []},
        {"name": "rooms", "dtype": "int32", "shape": []},
    ]
    (tmp_path / "schema.json").write_text(json.dumps({"inputs": inputs}))
    backend = opened(tmp_path)
    codes = frame["town"].cat.codes.to_numpy().copy()
    columns = [codes, frame["age"].to_numpy().copy(), frame["rooms"].to_numpy().astype(np.int32)]
    expected = booster.predict(xgboost.DMatrix(frame, enable_categorical=True))
    np.testing.assert_array_equal(answer(backend, *columns), expected)
    with pytest.raises(ValueError, match="'town' is an index from 0 to 2, or -1"):
        answer(backend, np.int8([3]), np.ones(1), np.int32([1]))
    inputs[1]["name"] = "years"
    (tmp_path / "schema.json").write_text(json.dumps({"inputs": inputs}))
    with pytest.raises(ModelLoadError, match="must be the features that the model was trained on: 'age', 'rooms'"):
        opened(tmp_path)
    matrix = {"name": "x", "dtype": "float32", "shape": [4]}
    (tmp_path / "schema.json").write_text(json.dumps({"inputs": [matrix]}))
    with pytest.raises(ModelLoadError, match=r"one matrix of the shape \[3\]"):
        opened(tmp_path)


def test_strings_are_refused(tmp_path: Path) -> None:
    path, booster = cancer(tmp_path)
    declared = {"name": "x", "dtype": "str", "shape": [booster.num_features()]}
    (tmp_path / "cancer.schema.json").write_text(json.dumps({"inputs": [declared]}))
    with pytest.raises(ModelLoadError, match="'x' is str, and XGBoost has tensors of numbers only: encode strings"):
        opened(path)


def test_conversion_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="convert = 'onnx' is not for XGBoost"):
        opened(cancer(tmp_path)[0], convert="onnx")


# --- hostile files ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"{",
        b"[]",
        b"17",
        b'{"a": 1}',
        b'{"learner": {}}',
        b'{"learner": \xff\xfe}',
        b'{"version": [9, 0, 0], "learner": null}',
    ],
)
@pytest.mark.parametrize("suffix", [".json", ".ubj"])
def test_what_is_no_xgboost_model_is_said(tmp_path: Path, content: bytes, suffix: str) -> None:
    path = tmp_path / f"model{suffix}"
    path.write_bytes(content)
    with pytest.raises(ModelLoadError, match="is no XGBoost model") as refused:
        opened(path)
    assert "\n" not in str(refused.value)


@pytest.mark.parametrize("name", ["cancer.ubj", "cancer.json"])
def test_a_model_that_is_cut_off_is_said(tmp_path: Path, name: str) -> None:
    path, _ = cancer(tmp_path, name)
    whole = path.read_bytes()
    for size in (1, len(whole) // 3, len(whole) - 1):
        path.write_bytes(whole[:size])
        with pytest.raises(ModelLoadError, match="is no XGBoost model"):
            opened(path)


def test_a_tree_that_claims_two_billion_nodes_is_refused(tmp_path: Path) -> None:
    path = changed(tmp_path, lambda tree: tree["tree_param"].update(num_nodes="2000000000"))
    with pytest.raises(ModelLoadError, match="is no XGBoost model"):
        opened(path)


def changed(folder: Path, change: Callable[[dict[str, Any]], None]) -> Path:
    path, _ = cancer(folder, "cancer.json")
    model = json.loads(path.read_text())
    change(model["learner"]["gradient_booster"]["model"]["trees"][0])
    path.write_text(json.dumps(model))
    return path


def test_an_array_that_claims_a_petabyte_is_refused(run: Callable[..., Running], tmp_path: Path) -> None:
    path, _ = cancer(tmp_path)
    whole = path.read_bytes()
    at = whole.index(b"[$l#L") + 5
    path.write_bytes(whole[:at] + struct.pack(">q", 1 << 48) + whole[at + 8 :])
    with pytest.raises(ModelLoadError, match="memory"):
        run(path, memory_bytes=900 * MIB)


def test_two_billion_classes_do_not_fill_the_machine(run: Callable[..., Running], tmp_path: Path) -> None:
    path, _ = cancer(tmp_path, "cancer.json")
    model = json.loads(path.read_text())
    model["learner"]["learner_model_param"]["num_class"] = "2000000000"
    path.write_text(json.dumps(model))
    with pytest.raises(ModelLoadError, match=r"memory|no XGBoost model|cannot run a batch"):
        run(path, memory_bytes=900 * MIB)


def test_a_tree_that_leads_out_of_its_memory_kills_the_worker_only(run: Callable[..., Running], tmp_path: Path) -> None:
    def astray(tree: dict[str, Any]) -> None:
        tree["left_children"][0] = tree["right_children"][0] = 1 << 28

    with pytest.raises(ModelLoadError, match="signal SIGSEGV"):
        run(changed(tmp_path, astray))
    # The process that asked for it goes on.
    assert run(cancer(tmp_path)[0]).predict([0.0] * 30)[0] == 200
