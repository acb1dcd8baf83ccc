"""What templates differ in: the model, its plan and the rows that are known of it."""

from __future__ import annotations

from base64 import b64decode

__all__ = ["TRAINED", "of"]

# What train.py writes.
TRAINED = ("labelled.csv", "model/golden.json", "model/model.skops")

_RECORD = """\
format = 1

# What clients send: all of it, in centimetres.
[record]
sepal_length = {type = "number", minimum = 0, maximum = 30}
sepal_width = {type = "number", minimum = 0, maximum = 30}
petal_length = {type = "number", minimum = 0, maximum = 30}
petal_width = {type = "number", minimum = 0, maximum = 30}

# What they get.
"""

_OF_LOGITS = """\
[answer.logits]
scores = "softmax"
labels = ["setosa", "versicolor", "virginica"]
give = ["label", "confidence"]
"""

_OF_PROBABILITIES = """\
[answer.probabilities]
scores = "none"
labels = ["setosa", "versicolor", "virginica"]
give = ["label", "confidence"]

[answer.label]
drop = true
"""

_MODEL = '''\
"""Which iris is it? The weights of a logistic regression that learned from 120 flowers."""

import numpy as np

from penstock.worker import Tensor


class Model:
    inputs = {"features": Tensor("float32", (4,))}
    outputs = {"logits": Tensor("float32", (3,))}

    def load(self):
        self.weights = np.array(
            [[-0.44, 0.49, -0.06], [0.94, -0.15, -0.79], [-2.38, -0.21, 2.58], [-1.01, -0.79, 1.8]], "float32"
        )
        self.bias = np.array([9.4, 1.63, -11.02], "float32")

    def predict(self, batch):
        return {"logits": batch["features"] @ self.weights + self.bias}
'''

# One Gemm node with these weights.
_ONNX = (
    "CAo6ugEKHgoIZmVhdHVyZXMKAXcKAWISBmxvZ2l0cyIER2VtbRIEaXJpcyo7CAQIAxABQgF3SjCuR+G+SOH6Po/Cdb3Xo3A/mpkZvnE9Sr/sURjA"
    "PQpXvrgeJUCuR4G/cT1Kv2Zm5j8qFQgDEAFCAWJKDGZmFkHXo9A/7FEwwVofCghmZWF0dXJlcxITChEIARINCgcSBWJhdGNoCgIIBGIdCgZsb2dp"
    "dHMSEwoRCAESDQoHEgViYXRjaAoCCANCBAoAEBI="
)

_GOLDEN = """\
{
  "inputs": [
    {"sepal_length": 5.1, "sepal_width": 3.5, "petal_length": 1.4, "petal_width": 0.2},
    {"sepal_length": 6.0, "sepal_width": 2.9, "petal_length": 4.5, "petal_width": 1.5},
    {"sepal_length": 6.3, "sepal_width": 3.3, "petal_length": 6.0, "petal_width": 2.5}
  ],
  "outputs": {
    "label": ["setosa", "versicolor", "virginica"],
    "confidence": [0.977246, 0.791246, 0.993225]
  },
  "rtol": 1e-4
}
"""

_LABELLED = """\
sepal_length,sepal_width,petal_length,petal_width,species
6.2,2.2,4.5,1.5,versicolor
4.4,2.9,1.4,0.2,setosa
5.5,2.3,4.0,1.3,versicolor
5.8,2.6,4.0,1.2,versicolor
6.5,3.0,5.2,2.0,virginica
5.1,3.3,1.7,0.5,setosa
6.3,2.5,4.9,1.5,versicolor
5.0,3.5,1.3,0.3,setosa
5.0,3.3,1.4,0.2,setosa
4.9,2.4,3.3,1.0,versicolor
6.4,3.2,5.3,2.3,virginica
4.8,3.1,1.6,0.2,setosa
5.7,2.5,5.0,2.0,virginica
5.2,2.7,3.9,1.4,versicolor
5.4,3.9,1.7,0.4,setosa
6.5,3.2,5.1,2.0,virginica
5.1,3.4,1.5,0.2,setosa
6.0,3.0,4.8,1.8,virginica
4.9,3.1,1.5,0.1,setosa
6.3,3.3,6.0,2.5,virginica
6.8,3.2,5.9,2.3,virginica
4.9,3.0,1.4,0.2,setosa
5.9,3.0,4.2,1.5,versicolor
7.3,2.9,6.3,1.8,virginica
6.7,3.1,5.6,2.4,virginica
5.5,2.5,4.0,1.3,versicolor
5.1,3.8,1.6,0.2,setosa
6.1,2.8,4.7,1.2,versicolor
7.7,2.8,6.7,2.0,virginica
6.3,3.3,4.7,1.6,versicolor
"""

_TRAIN = '''\
"""Makes the model, its golden rows and the labelled ones: python train.py."""

import csv
import json
from pathlib import Path

from skops import io
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

HERE = Path(__file__).parent
FIELDS = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
SPECIES = ["setosa", "versicolor", "virginica"]

features, kinds = load_iris(return_X_y=True)
known, held_out, known_kinds, held_out_kinds = train_test_split(
    features, kinds, test_size=30, random_state=4, stratify=kinds
)
model = make_pipeline(StandardScaler(), LogisticRegression(max_iter=1000)).fit(known, known_kinds)

(HERE / "model").mkdir(exist_ok=True)
io.dump(model, HERE / "model" / "model.skops")

# What the model says today is what it must say wherever it is served.
rows = held_out[:5]
probabilities = model.predict_proba(rows)
golden = {
    "inputs": [dict(zip(FIELDS, row, strict=True)) for row in rows.tolist()],
    "outputs": {
        "label": [SPECIES[place] for place in probabilities.argmax(axis=1)],
        "confidence": probabilities.max(axis=1).tolist(),
    },
    "rtol": 1e-4,
}
(HERE / "model" / "golden.json").write_text(json.dumps(golden, indent=2) + "\\n")

with open(HERE / "labelled.csv", "w", newline="") as file:
    table = csv.writer(file)
    table.writerow([*FIELDS, "species"])
    table.writerows([*row, SPECIES[kind]] for row, kind in zip(held_out.tolist(), held_out_kinds, strict=True))
'''


def of(template: str) -> dict[str, str | bytes]:
    """Return files by their paths."""
    if template == "sklearn":
        return {"train.py": _TRAIN, "model/processing.toml": _RECORD + _OF_PROBABILITIES}
    files: dict[str, str | bytes] = {
        "model/processing.toml": _RECORD + _OF_LOGITS,
        "model/golden.json": _GOLDEN,
        "labelled.csv": _LABELLED,
    }
    if template == "onnx":
        return {**files, "model/model.onnx": b64decode(_ONNX)}
    return {**files, "model/model.py": _MODEL}
