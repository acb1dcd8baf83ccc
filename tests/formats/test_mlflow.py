"""Folders of MLflow: each flavour beside its framework, and what is not served."""

import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas
import pytest
import xgboost
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_wine
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from penstock.core.errors import ModelLoadError
from penstock.worker.arrays import room
from penstock.worker.backends import Backend, LoadOptions, open_backend
from penstock.worker.backends.trust import sha256_of
from penstock.worker.model import TensorSpec
from tests import models
from tests.formats.mlflow_folders import as_skops, column, folder, tensor
from tests.serving import Server

pytestmark = [pytest.mark.formats, pytest.mark.filterwarnings("ignore")]

WINE, KIND = load_wine(return_X_y=True)
SIGNATURE = {"inputs": [tensor("float64", -1, 13)], "outputs": [tensor("int64", -1)]}


def opened(path: Path, **options: Any) -> Backend:
    return open_backend(path, "auto", LoadOptions(**options))


def answers(backend: Backend, *inputs: np.ndarray) -> list[np.ndarray]:
    outputs = [room((len(inputs[0]), *tensor.shape), tensor.dtype) for tensor in backend.spec.outputs]
    backend.run(inputs, outputs)
    return outputs


def wine() -> Pipeline:
    return make_pipeline(StandardScaler(), LogisticRegression()).fit(WINE, KIND)


# --- flavours ---------------------------------------------------------------------------------------------------------


def test_onnx(tmp_path: Path) -> None:
    path = folder(tmp_path / "m", {"onnx": {"data": "model.onnx", "onnx_version": "1.23.2"}})
    models.affine(tmp_path).rename(path / "model.onnx")
    backend = opened(path)
    np.testing.assert_array_equal(answers(backend, np.ones((2, 4), np.float32))[0], np.full((2, 4), 3))


def test_scikit_learn_as_skops(tmp_path: Path) -> None:
    estimator = wine()
    backend = opened(as_skops(tmp_path / "m", estimator, **SIGNATURE))
    assert backend.spec.inputs == (TensorSpec("features", "float64", (13,)),)
    label, probabilities = answers(backend, WINE)
    np.testing.assert_array_equal(label, estimator.predict(WINE))
    np.testing.assert_array_equal(probabilities, estimator.predict_proba(WINE))


def test_scikit_learn_as_a_pickle(tmp_path: Path) -> None:
    flavour = {"pickled_model": "model.pkl", "serialization_format": "cloudpickle"}
    path = folder(tmp_path / "m", {"sklearn": flavour}, **SIGNATURE)
    estimator = wine()
    (path / "model.pkl").write_bytes(pickle.dumps(estimator))
    with pytest.raises(ModelLoadError, match=r"model\.pkl is a pickle"):
        opened(path)
    backend = opened(path, trusted_digests=[sha256_of(path / "model.pkl")])
    np.testing.assert_array_equal(answers(backend, WINE)[1], estimator.predict_proba(WINE))


def test_a_signature_of_columns_needs_no_schema_file(tmp_path: Path) -> None:
    frame = pandas.DataFrame(
        {"age": [20.0, 30, 40, 50], "rooms": [1, 2, 3, 4], "town": ["Oslo", "Ghent", "Oslo", "Ghent"]}
    )
    columns = ColumnTransformer([("n", StandardScaler(), ["rooms", "age"]), ("t", OneHotEncoder(), ["town"])])
    estimator = make_pipeline(columns, LogisticRegression()).fit(frame, [0, 0, 1, 1])
    inputs = [column("age", "double"), column("rooms", "long"), column("town", "string")]
    path = as_skops(tmp_path / "m", estimator, inputs=inputs, outputs=SIGNATURE["outputs"])
    backend = opened(path)
    assert [(tensor.name, tensor.dtype) for tensor in backend.spec.inputs] == [
        ("age", "float64"),
        ("rooms", "int64"),
        ("town", "str"),
    ]
    towns = frame["town"].to_numpy(object)
    _, probabilities = answers(backend, frame["age"].to_numpy(), frame["rooms"].to_numpy(), towns)
    np.testing.assert_array_equal(probabilities, estimator.predict_proba(frame))
    # A schema file in the folder says it in its own way.
    declared = [{"name": name, "dtype": "float32", "shape": []} for name in ("age", "rooms")]
    declared.append({"name": "town", "dtype": "int8", "shape": [], "categories": ["Oslo", "Ghent"]})
    (path / "schema.json").write_text(json.dumps({"inputs": declared}))
    assert [tensor.dtype for tensor in opened(path).spec.inputs] == ["float32", "float32", "int8"]


def test_xgboost(tmp_path: Path) -> None:
    frame = pandas.DataFrame(WINE, columns=[f"c{place}" for place in range(13)])
    booster = xgboost.train({"objective": "multi:softprob", "num_class": 3}, xgboost.DMatrix(frame, KIND), 4)
    flavour = {"data": "model.ubj", "model_class": "xgboost.core.Booster", "model_format": "ubj"}
    inputs = [column(name, "double") for name in frame]
    path = folder(tmp_path / "m", {"xgboost": flavour}, inputs, [tensor("float32", -1, 3)])
    booster.save_model(path / "model.ubj")
    backend = opened(path)
    assert [tensor.name for tensor in backend.spec.inputs] == list(frame)
    (probabilities,) = answers(backend, *np.ascontiguousarray(WINE.T))
    np.testing.assert_array_equal(probabilities, booster.predict(xgboost.DMatrix(frame)))


@pytest.mark.parametrize("pickled", [False, True])
def test_pytorch(tmp_path: Path, pickled: bool) -> None:
    import torch

    torch.manual_seed(3)
    net = torch.nn.Sequential(torch.nn.Linear(4, 8), torch.nn.ReLU(), torch.nn.Linear(8, 2)).eval()
    signature = {"inputs": [tensor("float32", -1, 4)], "outputs": [tensor("float32", -1, 2)]}
    path = folder(tmp_path / "m", {"pytorch": {"model_data": "data", "code": None}}, **signature)
    (path / "data").mkdir()
    rows = torch.randn(5, 4)
    options = {}
    if pickled:
        file = path / "data/model.pth"
        torch.save(net, file)
        (path / "data/pickle_module_info.txt").write_text("mlflow.pytorch.pickle_module")
        with pytest.raises(ModelLoadError, match=rf"{file} .*trusted_digests"):
            opened(path)
        options = {"trusted_digests": [sha256_of(file)]}
    else:
        batch = torch.export.Dim("batch")
        torch.export.save(torch.export.export(net, (rows,), dynamic_shapes=({0: batch},)), path / "data/model.pt2")
    backend = opened(path, **options)
    with torch.inference_mode():
        np.testing.assert_allclose(answers(backend, rows.numpy())[0], net(rows).numpy(), rtol=1e-6)


@pytest.mark.parametrize("flavour", ["keras", "tensorflow"])
def test_keras(tmp_path: Path, flavour: str) -> None:
    from penstock.worker.backends.tensorflow.runtime import start_tensorflow

    start_tensorflow(1)
    import keras

    net = keras.Sequential([keras.Input((4,), name="features"), keras.layers.Dense(3, activation="softmax")])
    members = {"data": "data", "keras_version": keras.__version__}
    path = folder(tmp_path / "m", {flavour: members | ({"model_type": "keras"} if flavour == "tensorflow" else {})})
    (path / "data").mkdir()
    net.save(path / "data/model.keras")
    (path / "data/keras_module.txt").write_text("keras")
    rows = np.random.default_rng(1).standard_normal((5, 4)).astype(np.float32)
    np.testing.assert_allclose(answers(opened(path), rows)[0], net.predict(rows, verbose=0), rtol=1e-5)


def test_through_the_server(serve: Callable[..., Server], tmp_path: Path) -> None:
    estimator = wine()
    server = serve(models={"wine": as_skops(tmp_path / "m", estimator, **SIGNATURE)})
    reply = server.predict(inputs=WINE[50].tolist())
    assert reply.status == 200, reply.body
    expected = estimator.predict_proba(WINE[50:51])[0]
    assert reply.json()["outputs"] == {"label": 0, "probabilities": pytest.approx(expected.tolist(), rel=1e-12)}


# --- what is refused --------------------------------------------------------------------------------------------------


def test_code_of_mlflow_is_not_run(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="is MLflow's python_function only"):
        opened(folder(tmp_path / "m", {}))
    path = folder(tmp_path / "n", {})
    (path / "MLmodel").write_text("flavors:\n  spark: {}\n")
    with pytest.raises(ModelLoadError, match=r"of its flavours \(spark\) none can be served"):
        opened(path)


def test_types_that_the_folder_trusts_are_not(tmp_path: Path) -> None:
    path = as_skops(tmp_path / "m", Pipeline([("own", Untrusted())]), **SIGNATURE)
    text = (path / "MLmodel").read_text()
    (path / "MLmodel").write_text(text.replace("skops_trusted_types: null", 'skops_trusted_types: ["tests"]'))
    with pytest.raises(ModelLoadError, match=r"not trusted: .*Untrusted"):
        opened(path)


class Untrusted(StandardScaler):
    """A type that skops does not know."""


@pytest.mark.parametrize("where", ["../other/model.skops", "/etc/hostname", "a/../../other/model.skops", "link"])
def test_paths_stay_in_the_folder(tmp_path: Path, where: str) -> None:
    other = as_skops(tmp_path / "other", wine())
    path = folder(tmp_path / "m", {"sklearn": {"pickled_model": where, "serialization_format": "skops"}})
    (path / "a").mkdir()
    (path / "link").symlink_to(other / "model.skops")
    with pytest.raises(ModelLoadError, match="which leads out of the folder"):
        opened(path)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "the document is no mapping"),
        ("- 1", "the document is no mapping"),
        ("flavors: 3", "flavors is no mapping"),
        ("flavors: {sklearn: 3}", "flavors.sklearn is no mapping"),
        ("flavors: {sklearn: {}}", "has no path 'pickled_model'"),
        ("flavors: {sklearn: {pickled_model: gone.skops}}", "there is no such file"),
        ("flavors: {sklearn: {pickled_model: [1]}}", "has no path"),
        ("a: !!python/object/apply:os.getcwd []", "is no YAML"),
        ("a: [", "is no YAML"),
        ("[" * 5000, "is no YAML"),
        ("flavors: {sklearn: {pickled_model: model.skops}}\nsignature: {inputs: '{'}", r"signature\.inputs is none"),
        ("flavors: {sklearn: {pickled_model: model.skops}}\nsignature: {inputs: '[1]'}", r"signature\.inputs is none"),
        (
            'flavors: {sklearn: {pickled_model: model.skops}}\nsignature: {inputs: \'[{"type": "datetime"}]\'}',
            "which is no tensor of numbers",
        ),
    ],
)
def test_an_mlmodel_that_is_none_is_refused(tmp_path: Path, text: str, said: str) -> None:
    path = as_skops(tmp_path / "m", wine())
    (path / "MLmodel").write_text(text.replace("model.skops}", "model.skops, serialization_format: skops}"))
    with pytest.raises(ModelLoadError, match=said):
        opened(path)


def test_aliases_do_not_fill_the_memory(tmp_path: Path) -> None:
    path = as_skops(tmp_path / "m", wine())
    lines = ["a0: &a0 [1, 1, 1, 1, 1, 1, 1, 1, 1, 1]"]
    lines += [f"a{place}: &a{place} [{', '.join([f'*a{place - 1}'] * 10)}]" for place in range(1, 30)]
    (path / "MLmodel").write_text("\n".join([*lines, "flavors: *a29", ""]))
    with pytest.raises(ModelLoadError, match="flavors is no mapping"):
        opened(path)
