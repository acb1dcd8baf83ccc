"""Calibration beside scikit-learn's: the same maps, and probabilities at least as true."""

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.calibration import CalibratedClassifierCV
from sklearn.datasets import load_breast_cancer, load_digits
from sklearn.frozen import FrozenEstimator
from sklearn.isotonic import IsotonicRegression
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import train_test_split
from sklearn.naive_bayes import GaussianNB
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import LinearSVC

from penstock.native._kernels import Answers
from penstock.processing.answers.calibration import calibration_error, curve_of, likelihood, line_of, temperature_of

Floats = NDArray[np.float64]


def answered(scores: Floats, classes: int, /, **plan: Any) -> Floats:
    native = Answers()
    native.add_classes(0, "float64", scores.shape[1], results=[("probabilities", 0, [])], **plan)
    result = np.empty((len(scores), classes))
    assert native.run([np.ascontiguousarray(scores)], [result]) == -1
    return result


@pytest.mark.parametrize("seed", range(8))
def test_curves_are_those_of_isotonic_regression(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = np.round(random.normal(0, 3, 30 * 4 ** (seed % 4)), seed % 3)  # with many ties, or none
    positive = random.random(len(scores)) < 1 / (1 + np.exp(-scores))
    theirs = IsotonicRegression(out_of_bounds="clip").fit(scores, positive)
    x, y = curve_of(scores, positive)
    assert np.array_equal(x, theirs.X_thresholds_)
    np.testing.assert_allclose(y, theirs.y_thresholds_, rtol=1e-12, atol=1e-15)
    asked = np.append(random.uniform(-12, 12, 500), scores)
    ours = answered(asked[:, None], 1, scores="none", exclusive=False, curves=[(x, y)])
    np.testing.assert_allclose(ours[:, 0], theirs.predict(asked), rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("seed", range(8))
def test_lines_are_those_of_sigmoid_calibration(seed: int) -> None:
    random = np.random.default_rng(seed)
    scores = random.normal(0, 10.0 ** (seed % 4 - 1), 500)
    positive = random.random(500) < 1 / (1 + np.exp(-scores / scores.std()))
    model = _Given()
    calibrated = CalibratedClassifierCV(FrozenEstimator(model.fit(scores[:, None], positive)), method="sigmoid")
    theirs = calibrated.fit(scores[:, None], positive).predict_proba(scores[:, None])
    line = line_of(scores, positive)
    ours = answered(scores[:, None], 2, scores="none", lines=[line])
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


class _Given(LogisticRegression):
    """Its decision is its only feature, as it is."""

    def decision_function(self, X: Any) -> Any:  # noqa: N803 scikit-learn's name
        return np.asarray(X)[:, 0]


def digits() -> tuple[Any, Any]:
    return load_digits(return_X_y=True)


def cancer() -> tuple[Any, Any]:
    return load_breast_cancer(return_X_y=True)


@pytest.mark.parametrize("method", ["sigmoid", "isotonic"])
@pytest.mark.parametrize("data", [digits, cancer])
@pytest.mark.parametrize(
    "model", [GaussianNB(), make_pipeline(StandardScaler(), LinearSVC(C=0.05))], ids=["bayes", "svc"]
)
def test_probabilities_are_scikit_learns(model: Any, data: Callable[[], tuple[Any, Any]], method: str) -> None:
    x, y = data()
    x_fit, x_rest, y_fit, y_rest = train_test_split(x, y, test_size=0.6, random_state=0, stratify=y)
    x_known, x_new, known, new = train_test_split(x_rest, y_rest, test_size=0.5, random_state=1, stratify=y_rest)
    model.fit(x_fit, y_fit)
    theirs = CalibratedClassifierCV(FrozenEstimator(model), method=method).fit(x_known, known).predict_proba(x_new)
    scores = [
        model.decision_function(of) if hasattr(model, "decision_function") else model.predict_proba(of)
        for of in (x_known, x_new)
    ]
    classes = len(np.unique(y))
    if classes == 2:
        scores = [of[:, -1:] if of.ndim == 2 else of[:, None] for of in scores]
    of_class = [known == 1] if classes == 2 else [known == place for place in range(classes)]
    learn = line_of if method == "sigmoid" else curve_of
    maps = [learn(scores[0][:, place], positive) for place, positive in enumerate(of_class)]
    ours = answered(scores[1], classes, scores="none", **{"lines" if method == "sigmoid" else "curves": maps})
    np.testing.assert_allclose(ours, theirs, atol=1e-4)
    assert calibration_error(ours, new) <= calibration_error(theirs, new) + 1e-6


@pytest.mark.parametrize("data", [digits, cancer])
def test_temperature_is_scikit_learns_and_no_worse_than_its_default(data: Callable[[], tuple[Any, Any]]) -> None:
    x, y = data()
    x_fit, x_rest, y_fit, y_rest = train_test_split(x, y, test_size=0.6, random_state=0, stratify=y)
    x_known, x_new, known, new = train_test_split(x_rest, y_rest, test_size=0.5, random_state=1, stratify=y_rest)
    # So little regularised, the model is too sure.
    model = make_pipeline(StandardScaler(), LogisticRegression(C=100, max_iter=2000)).fit(x_fit, y_fit)
    temperature, sigmoid = (
        CalibratedClassifierCV(FrozenEstimator(model), method=method).fit(x_known, known).predict_proba(x_new)
        for method in ("temperature", "sigmoid")
    )

    def logits(of: Any) -> Floats:
        decision = model.decision_function(of)
        return np.asarray(decision if decision.ndim == 2 else np.column_stack([np.zeros_like(decision), decision]))

    found = temperature_of(logits(x_known), known)
    classes = len(np.unique(y))
    ours = answered(logits(x_new), classes, scores="softmax", temperature=found)
    np.testing.assert_allclose(ours, temperature, atol=1e-6)
    assert found > 2
    assert likelihood(ours, new) < likelihood(answered(logits(x_new), classes, scores="softmax"), new)
    assert calibration_error(ours, new) <= calibration_error(sigmoid, new)
