"""Metrics agree with scikit-learn's."""

import warnings

import numpy as np
import pytest
from sklearn import metrics as sklearn_metrics

from penstock.testing import metrics

CLOSE = 1e-12
WORDS = np.array(["ant", "bee", "cat", "dog"])


def close(ours: float, theirs: float) -> bool:
    return abs(ours - theirs) <= CLOSE * max(1.0, abs(theirs))


@pytest.mark.parametrize("seed", range(50))
def test_labels_agree_with_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    count = int(generator.integers(1, 200))
    # Labels that are never given, and given ones that are never true.
    truth = WORDS[generator.integers(0, 1 + seed % 4, count)]
    given = WORDS[generator.integers(seed % 3, 4, count)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        assert close(metrics.accuracy(truth, given), sklearn_metrics.accuracy_score(truth, given))
        theirs = sklearn_metrics.f1_score(truth, given, average="macro", zero_division=0)
    assert close(metrics.f1(truth, given), theirs)


@pytest.mark.parametrize("seed", range(50))
def test_numbers_agree_with_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    count = int(generator.integers(2, 200))
    truth = generator.normal(10.0 ** (seed % 7 - 3), 1, count)
    given = truth + generator.normal(0, 0.3, count)
    assert close(metrics.mean_absolute_error(truth, given), sklearn_metrics.mean_absolute_error(truth, given))
    assert close(metrics.rmse(truth, given), sklearn_metrics.root_mean_squared_error(truth, given))
    assert close(metrics.r2(truth, given), sklearn_metrics.r2_score(truth, given))


@pytest.mark.parametrize("seed", range(50))
def test_areas_agree_with_scikit_learn(seed: int) -> None:
    generator = np.random.default_rng(seed)
    count = int(generator.integers(10, 200))
    truth = np.concatenate([WORDS[:3], WORDS[generator.integers(0, 3, count)]])
    scores = generator.random((len(truth), 3))
    scores /= scores.sum(axis=1, keepdims=True)
    ours = metrics.area_under_curve(truth, scores, WORDS[:3])
    assert close(ours, sklearn_metrics.roc_auc_score(truth, scores, multi_class="ovr", average="macro"))
    # Two classes, and ties.
    two = truth == "ant"
    tied = np.round(generator.random(len(truth)), 1)
    theirs = sklearn_metrics.roc_auc_score(two, tied)
    names = np.where(two, "yes", "no")
    assert close(metrics.area_under_curve(names, tied, np.array(["no", "yes"])), theirs)
    pair = np.stack([1 - tied, tied], axis=1)
    assert close(metrics.area_under_curve(names, pair, np.array(["no", "yes"])), theirs)


@pytest.mark.parametrize(
    ("metric", "arguments"),
    [
        (metrics.accuracy, (np.array([]), np.array([]))),
        (metrics.r2, (np.array([2.0, 2.0]), np.array([1.0, 3.0]))),
        (metrics.area_under_curve, (np.array(["a", "a"]), np.array([0.1, 0.9]), np.array(["a", "b"]))),
        (metrics.area_under_curve, (np.array(["a", "c"]), np.array([0.1, 0.9]), np.array(["a", "b"]))),
    ],
)
def test_what_is_not_defined_is_refused(metric, arguments) -> None:  # type: ignore[no-untyped-def]
    with pytest.raises(ValueError):
        metric(*arguments)
