"""scikit-learn models that read text or answer with it."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import skops.io
from sklearn.base import BaseEstimator
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_wine
from sklearn.ensemble import RandomForestClassifier
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from penstock.core.errors import ModelLoadError
from penstock.worker.arrays import room
from penstock.worker.backends import Backend, LoadOptions, open_backend
from penstock.worker.model import TensorSpec
from penstock.worker.warmup import warm_up

WINE, KIND = load_wine(return_X_y=True)
NAMES = np.array(["barolo", "grignolino", "barbera"])[KIND]


def opened(path: Path, convert: str = "none") -> Backend:
    trusted = ["numpy.dtype", "sklearn.tree._tree.Tree"]
    return open_backend(path, "auto", LoadOptions(convert=convert, trusted_types=trusted))


def saved(folder: Path, estimator: BaseEstimator) -> Path:
    skops.io.dump(estimator, folder / "model.skops")
    return folder / "model.skops"


def scaled(last: BaseEstimator) -> Any:
    return make_pipeline(StandardScaler(), last)


def answers(backend: Backend, *inputs: np.ndarray) -> dict[str, np.ndarray]:
    for array in inputs:
        array.flags.writeable = False
    outputs = [room((len(inputs[0]), *tensor.shape), tensor.dtype) for tensor in backend.spec.outputs]
    backend.run(inputs, outputs)
    return {tensor.name: output for tensor, output in zip(backend.spec.outputs, outputs, strict=True)}


def with_schema(path: Path, *inputs: dict[str, Any], **more: Any) -> Path:
    path.with_name(f"{path.stem}.schema.json").write_text(json.dumps({"inputs": list(inputs), **more}))
    return path


COLOURS = np.array([["red", "s"], ["green", "m"], ["red", "m"], ["blue", "s"]] * 5, object)


def test_a_matrix_of_text(tmp_path: Path) -> None:
    target = (COLOURS[:, 0] == "red").astype(int)
    estimator = make_pipeline(OneHotEncoder(), LogisticRegression()).fit(COLOURS, target)
    path = with_schema(saved(tmp_path, estimator), {"name": "x", "dtype": "str", "shape": [2]})
    backend = opened(path)
    # Neither the probing nor a warm-up knows what an encoder would raise for.
    assert backend.spec.inputs[0].sample == ("blue", "m")
    assert not backend.may_refuse_zeros
    warm_up(backend, [1, 4])
    np.testing.assert_array_equal(answers(backend, COLOURS)["label"], estimator.predict(COLOURS))
    with pytest.raises(ValueError, match="unknown categories"):
        answers(backend, np.array([["pink", "m"]], object))


def test_what_is_empty_in_a_column_is_missing(tmp_path: Path) -> None:
    frame = pandas.DataFrame({"town": ["Ghent", "Oslo", None, "Ghent"] * 5})
    columns = ColumnTransformer(
        [("t", make_pipeline(SimpleImputer(strategy="most_frequent"), OneHotEncoder()), ["town"])]
    )
    estimator = make_pipeline(columns, LinearRegression()).fit(frame.fillna(np.nan), np.arange(20.0))
    backend = opened(with_schema(saved(tmp_path, estimator), {"name": "town", "dtype": "str", "shape": []}))
    towns = np.array(["", "Ghent", "Oslo"], object)
    missing, ghent, oslo = answers(backend, towns)["prediction"]
    assert towns.tolist() == ["", "Ghent", "Oslo"]
    assert missing == ghent != oslo


def test_several_labels_of_text(tmp_path: Path) -> None:
    labels = np.stack([NAMES, np.where(KIND == 1, "yes", "no")], axis=1)
    estimator = RandomForestClassifier(5, random_state=0).fit(WINE, labels)
    backend = opened(saved(tmp_path, estimator))
    assert backend.spec.outputs == (TensorSpec("label", "str", (2,)),)
    np.testing.assert_array_equal(answers(backend, WINE.copy())["label"], estimator.predict(WINE))


def test_labels_of_text_and_onnx(tmp_path: Path) -> None:
    estimator = scaled(LogisticRegression()).fit(WINE, NAMES)
    backend = opened(saved(tmp_path, estimator), "onnx")
    got = answers(backend, WINE.copy())
    np.testing.assert_array_equal(got["label"], estimator.predict(WINE))
    np.testing.assert_allclose(got["probabilities"], estimator.predict_proba(WINE), rtol=1e-4, atol=1e-6)


def test_text_is_str_and_outputs_are_what_they_are(tmp_path: Path) -> None:
    path = saved(tmp_path, scaled(LogisticRegression()).fit(WINE, NAMES))
    with pytest.raises(ModelLoadError, match="input 'x' is bytes: text for scikit-learn is str"):
        opened(with_schema(path, {"name": "x", "dtype": "bytes", "shape": [13]}))
    wine = {"name": "x", "dtype": "float64", "shape": [13]}
    with pytest.raises(ModelLoadError, match=r"output 'label' is declared as int64 of shape .* and is str"):
        opened(with_schema(path, wine, outputs=[{"name": "label", "dtype": "int64", "shape": []}]))
    backend = opened(with_schema(path, wine, outputs=[{"name": "label", "dtype": "str", "shape": []}]))
    assert backend.spec.outputs == (TensorSpec("label", "str", ()),)
