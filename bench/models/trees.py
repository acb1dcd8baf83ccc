"""Gradient-boosted trees trained on a real data set, served as a Python model that calls XGBoost."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

__all__ = ["tree_answers", "tree_rows", "write_trees"]

# 569 women's tumours, 30 measurements each; it comes with scikit-learn.
FEATURES = 30
TREES = 200
DEPTH = 6

MODEL = f'''\
"""Breast cancer by XGBoost: 30 measurements to the probability of a benign tumour."""

from pathlib import Path

import xgboost

from penstock.worker import Tensor


class Model:
    inputs = {{"features": Tensor("float32", ({FEATURES},))}}
    outputs = {{"probability": Tensor("float32")}}

    def load(self):
        self.booster = xgboost.Booster({{"nthread": 1}}, model_file=Path(__file__).with_name("trees.ubj"))

    def predict(self, batch):
        return {{"probability": self.booster.inplace_predict(batch["features"])}}
'''


def write_trees(folder: Path) -> Path:
    """Train and write the model's folder; its path."""
    import xgboost

    features, labels = _data()
    folder.mkdir(parents=True, exist_ok=True)
    parameters = {"objective": "binary:logistic", "max_depth": DEPTH, "seed": 1, "nthread": 1}
    booster = xgboost.train(parameters, xgboost.DMatrix(features, labels), num_boost_round=TREES)
    booster.save_model(folder / "trees.ubj")
    (folder / "model.py").write_text(MODEL)
    return folder


def tree_rows(count: int, seed: int) -> NDArray[np.float32]:
    """Draw rows around those of the data set: no two are the same."""
    features, _ = _data()
    generator = np.random.default_rng(seed)
    noise = generator.normal(1.0, 0.05, (count, FEATURES))
    rows = features[generator.integers(len(features), size=count)] * noise
    return np.asarray(rows, np.float32)


def tree_answers(folder: Path, rows: NDArray[np.float32]) -> NDArray[np.float32]:
    """Predict offline."""
    import xgboost

    booster = xgboost.Booster({"nthread": 1}, model_file=folder / "trees.ubj")
    return np.asarray(booster.inplace_predict(rows), np.float32)


def _data() -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    from sklearn.datasets import load_breast_cancer

    found = load_breast_cancer()
    return found.data.astype(np.float32), found.target
