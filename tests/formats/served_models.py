"""A model of each format on a data set of scikit-learn, and what its own framework says to some of its rows."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import onnxruntime
import skops.io
import torch
import xgboost
from skl2onnx import to_onnx
from sklearn.compose import ColumnTransformer
from sklearn.datasets import load_breast_cancer, load_diabetes, load_iris, load_wine
from sklearn.linear_model import LinearRegression, LogisticRegression
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import OneHotEncoder, StandardScaler

from tests.formats.mlflow_folders import as_skops, tensor
from tests.formats.networks import answers, digits, exported, net_in

__all__ = ["BUILDERS", "Served"]

CENTRES = """
from pathlib import Path

import numpy as np

from penstock.worker import Tensor


class Model:
    inputs = {"features": Tensor("float64", (4,))}
    outputs = {"label": Tensor("int64"), "distance": Tensor("float64")}

    def load(self):
        self.centres = np.load(Path(__file__).with_name("centres.npy"))

    def predict(self, batch):
        distances = np.linalg.norm(batch["features"][:, None] - self.centres, axis=2)
        return {"label": distances.argmin(1), "distance": distances.min(1)}
"""
TABLE = """{
  "inputs": [
    {"name": "age", "dtype": "float64", "shape": []},
    {"name": "sex", "dtype": "int8", "shape": [], "categories": ["female", "male"]},
    {"name": "bmi", "dtype": "float64", "shape": []}
  ]
}"""


@dataclass(frozen=True)
class Served:
    """What to register at `path`, rows as they are sent, and what must come of each of them by the output's name."""

    path: Path
    backend: str
    rows: Sequence[Any]
    expected: Mapping[str, np.ndarray]
    settings: Mapping[str, Any] = field(default_factory=dict)


def some(rows: np.ndarray) -> np.ndarray:
    """Return a few rows of all kinds; the data sets are ordered by kind."""
    return rows[:: max(1, len(rows) // 12)]


def onnx(folder: Path) -> Served:
    features, kind = load_iris(return_X_y=True)
    classifier = LogisticRegression(max_iter=1000).fit(features, kind)
    made = to_onnx(classifier, features[:1].astype("float32"), options={"zipmap": False}, target_opset=17)
    path = folder / "iris.onnx"
    path.write_bytes(made.SerializeToString())
    rows = some(features.astype("float32"))
    session = onnxruntime.InferenceSession(path)
    label, probabilities = session.run(None, {session.get_inputs()[0].name: rows})
    return Served(path, "onnx", rows.tolist(), {"label": label, "probabilities": probabilities})


def pytorch(folder: Path) -> Served:
    net, rows = net_in(folder), some(digits())
    path = exported(folder / "digits.pt2", net, torch.zeros(2, 64))
    return Served(path, "torch", rows.tolist(), dict(zip(("output_0", "output_1"), answers(net, rows), strict=True)))


def iris_network(seed: int) -> tuple[Any, np.ndarray]:
    """Return a Keras classifier with weights that scikit-learn has found: TensorFlow would be longer about it."""
    from tests.formats import tensorflow_models

    features, kind = load_iris(return_X_y=True)
    found = MLPClassifier((8,), solver="lbfgs", max_iter=500, random_state=seed).fit(features, kind)
    model = tensorflow_models.classifier(seed)
    model.set_weights([array for layer in zip(found.coefs_, found.intercepts_, strict=True) for array in layer])
    return model, some(features.astype("float32"))


def tensorflow(folder: Path) -> Served:
    from tests.formats import tensorflow_models

    model, rows = iris_network(seed=1)
    path = tensorflow_models.export(model, folder / "saved")
    return Served(path, "tensorflow", rows.tolist(), {"output_0": model(rows).numpy()})


def keras(folder: Path) -> Served:
    model, rows = iris_network(seed=2)
    model.save(folder / "iris.keras")
    return Served(folder / "iris.keras", "tensorflow", rows.tolist(), {"probabilities": model(rows).numpy()})


def scikit_learn(folder: Path) -> Served:
    """A table of numbers and text; its schema lies beside it."""
    data = load_diabetes(as_frame=True, scaled=False)
    sexes = ["female", "male"]
    codes = (data.data["sex"] == data.data["sex"].max()).astype(int)
    table = data.data[["age", "bmi"]].assign(sex=[sexes[code] for code in codes])
    columns = ColumnTransformer([("n", StandardScaler(), ["bmi", "age"]), ("t", OneHotEncoder(), ["sex"])])
    pipeline = make_pipeline(columns, LinearRegression()).fit(table, data.target)
    skops.io.dump(pipeline, folder / "progression.skops")
    (folder / "progression.schema.json").write_text(TABLE)
    few = table.iloc[::40]
    records = few.to_dict(orient="records")
    rows = [{"age": row["age"], "sex": sexes.index(row["sex"]), "bmi": row["bmi"]} for row in records]
    return Served(folder / "progression.skops", "sklearn", rows, {"prediction": pipeline.predict(few)})


def gradient_boosting(folder: Path) -> Served:
    features, benign = load_breast_cancer(return_X_y=True)
    booster = xgboost.train({"objective": "binary:logistic"}, xgboost.DMatrix(features, benign), 8)
    booster.save_model(folder / "cancer.ubj")
    rows = some(features.astype("float32"))
    expected = booster.predict(xgboost.DMatrix(rows))
    return Served(folder / "cancer.ubj", "xgboost", rows.tolist(), {"probabilities": expected})


def mlflow(folder: Path) -> Served:
    features, kind = load_wine(return_X_y=True)
    estimator = make_pipeline(StandardScaler(), LogisticRegression()).fit(features, kind)
    signature = {"inputs": [tensor("float64", -1, 13)], "outputs": [tensor("int64", -1)]}
    path, rows = as_skops(folder / "wine", estimator, **signature), some(features)
    expected = {"label": estimator.predict(rows), "probabilities": estimator.predict_proba(rows)}
    return Served(path, "sklearn", rows.tolist(), expected)


def python(folder: Path) -> Served:
    features, kind = load_iris(return_X_y=True)
    centres = np.stack([features[kind == each].mean(0) for each in range(3)])
    (folder / "centres").mkdir()
    (folder / "centres" / "model.py").write_text(CENTRES)
    np.save(folder / "centres" / "centres.npy", centres)
    rows = some(features)
    distances = np.linalg.norm(rows[:, None] - centres, axis=2)
    expected = {"label": distances.argmin(1), "distance": distances.min(1)}
    return Served(folder / "centres", "python", rows.tolist(), expected)


BUILDERS: Mapping[str, Callable[[Path], Served]] = {
    build.__name__: build
    for build in (onnx, pytorch, tensorflow, keras, scikit_learn, gradient_boosting, mlflow, python)
}
