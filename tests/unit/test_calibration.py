"""What scores with known truths teach, against definitions; tests/formats has scikit-learn beside it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from penstock.core.errors import ConfigError
from penstock.native._kernels import Answers
from penstock.processing.answers.calibration import (
    calibration_error,
    curve_of,
    distances_of,
    likelihood,
    line_of,
    quantile_of,
    temperature_of,
    threshold_of,
)

Floats = NDArray[np.float64]


def softmax(logits: Floats) -> Floats:
    powers = np.exp(logits - logits.max(axis=1, keepdims=True))
    return powers / powers.sum(axis=1, keepdims=True)


def drawn(rows: int, classes: int, temperature: float, seed: int = 1) -> tuple[Floats, NDArray[np.int64]]:
    """Return logits that are too sure by this factor, and truths."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, (rows, classes))
    shares = softmax(logits / temperature).cumsum(axis=1)
    return logits, (random.random((rows, 1)) > shares).sum(axis=1).clip(max=classes - 1)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 2.5])
def test_temperature_is_found_and_nothing_beside_it_is_likelier(temperature: float) -> None:
    logits, truth = drawn(20_000, 4, temperature)
    found = temperature_of(logits, truth)
    assert abs(found / temperature - 1) < 0.03
    best = likelihood(softmax(logits / found), truth)
    for beside in (0.99, 1.01):
        assert likelihood(softmax(logits / (found * beside)), truth) > best


def test_temperature_has_bounds_where_scores_are_always_right_or_never() -> None:
    logits = np.eye(3) * 5
    assert 1e-3 <= temperature_of(logits, np.arange(3)) < 0.2  # so cold that nothing is left to gain
    assert temperature_of(logits, np.array([1, 2, 0])) == pytest.approx(1e3)


@pytest.mark.parametrize("size", [1.0, 1e-6, 1e6])
def test_platts_line_has_the_greatest_likelihood_whatever_the_size(size: float) -> None:
    random = np.random.default_rng(2)
    scores = random.normal(0, 2, 3000)
    positive = random.random(3000) < 1 / (1 + np.exp(-(1.5 * scores - 0.5)))
    a, b = line_of(scores * size, positive)
    of_class = np.count_nonzero(positive)
    targets = np.where(positive, (of_class + 1) / (of_class + 2), 1 / (3000 - of_class + 2))

    def loss(a: float, b: float) -> float:
        f = a * scores * size + b
        return float((np.logaddexp(0, f) - (1 - targets) * f).sum())

    assert a * size == pytest.approx(-1.5, rel=0.1)
    assert b == pytest.approx(0.5, abs=0.15)
    for other in ((a * 1.01, b), (a * 0.99, b), (a, b + 0.01), (a, b - 0.01)):
        assert loss(*other) > loss(a, b)


def test_platts_line_stays_finite_where_a_threshold_would_do() -> None:
    for scores, positive in (
        (np.array([0.0, 1.0]), np.array([False, True])),
        (np.zeros(5), np.array([True] * 5)),
        (np.arange(100.0), np.arange(100) >= 50),
    ):
        a, b = line_of(scores, positive)
        assert np.isfinite([a, b]).all()


@given(
    st.lists(st.tuples(st.integers(0, 8), st.booleans()), min_size=1, max_size=24).map(
        lambda pairs: (np.array([x for x, _ in pairs], float), np.array([y for _, y in pairs]))
    )
)
def test_curves_are_the_nearest_that_ascend(data: tuple[Floats, NDArray[np.bool_]]) -> None:
    scores, positive = data
    x, y = curve_of(scores, positive)
    assert (np.diff(x) > 0).all()
    assert (np.diff(y) >= 0).all()
    values = np.unique(scores)
    weights = np.array([(scores == value).sum() for value in values])
    means = np.array([positive[scores == value].mean() for value in values])
    # The formula of least and greatest means (Robertson, Wright and Dykstra, 1988).
    expected = [
        max(
            min(np.average(means[low:high], weights=weights[low:high]) for high in range(at + 1, len(means) + 1))
            for low in range(at + 1)
        )
        for at in range(len(means))
    ]
    np.testing.assert_allclose(np.interp(values, x, y), expected, atol=1e-12)


@pytest.mark.parametrize("rule", ["lac", "aps"])
@pytest.mark.parametrize("alpha", [0.05, 0.1, 0.3])
def test_sets_cover_the_truth_as_often_as_they_promise(rule: str, alpha: float) -> None:
    """Over 1,000 splits of the same rows, of which the first half says how far sets must reach."""
    splits, half = 1000, 400
    logits, truth = drawn(2 * half, 5, 2.0, seed=3)
    distances = distances_of(softmax(logits), truth, rule)
    random = np.random.default_rng(4)
    covered = []
    for _ in range(splits):
        mixed = random.permutation(distances)
        covered.append((mixed[half:] <= quantile_of(mixed[:half], alpha)).mean())
    # A split's share varies as two binomial ones do; four standard errors of the mean of all.
    error = 4 * np.sqrt(alpha * (1 - alpha) * 2 / half / splits)
    assert 1 - alpha - error <= np.mean(covered) <= 1 - alpha + 1 / (half + 1) + error


@pytest.mark.parametrize("rule", ["lac", "aps"])
def test_sets_of_the_kernel_hold_the_truth_just_where_it_is_near_enough(rule: str) -> None:
    logits, truth = drawn(600, 5, 2.0, seed=5)
    distances = distances_of(probabilities_of(logits), truth, rule)
    for alpha in (0.05, 0.2, 0.5):
        quantile = quantile_of(distances, alpha)
        native = Answers()
        native.add_classes(
            0,
            "float64",
            5,
            scores="softmax",
            set=rule,
            quantile=quantile,
            set_width=5,
            results=[("set", 0, [*"01234", "-"])],
        )
        sets = np.empty((600, 5), object)
        assert native.run([logits], [sets]) == -1
        inside = np.array([str(place) in chosen for place, chosen in zip(truth, sets.tolist(), strict=True)])
        assert np.array_equal(inside, distances <= quantile)
        assert inside.mean() >= 1 - alpha


def probabilities_of(logits: Floats) -> Floats:
    native = Answers()
    native.add_classes(0, "float64", logits.shape[1], scores="softmax", results=[("probabilities", 0, [])])
    result = np.empty_like(logits)
    assert native.run([logits], [result]) == -1
    return result


def test_intervals_cover_the_truth_as_often_as_they_promise() -> None:
    random = np.random.default_rng(6)
    spread = random.uniform(0.5, 4, 800)
    for away in (np.abs(random.normal(0, spread)), np.abs(random.normal(0, spread)) / spread):
        covered = []
        for _ in range(1000):
            mixed = random.permutation(away)
            covered.append((mixed[400:] <= quantile_of(mixed[:400], 0.1)).mean())
        assert 0.9 - 0.003 <= np.mean(covered) <= 0.9 + 1 / 401 + 0.003


def test_quantiles_are_those_of_their_place() -> None:
    values = np.arange(1.0, 10.0)
    assert quantile_of(values, 0.1) == 9  # nine rows are just enough for one in ten
    assert quantile_of(values, 0.5) == 5
    with pytest.raises(ConfigError, match=r"9 rows are too few for an alpha of 0\.05: 19 are the least"):
        quantile_of(values, 0.05)


def test_thresholds_are_the_least_that_are_right_often_enough() -> None:
    confidences = np.array([0.9, 0.8, 0.8, 0.7, 0.6])
    right = np.array([True, True, False, True, False])
    assert threshold_of(confidences, right, 0.9) == 0.9
    assert threshold_of(confidences, right, 0.75) == 0.7
    assert threshold_of(confidences, right, 0.6) == 0.6
    assert threshold_of(confidences, ~right, 0.9) is None
    assert threshold_of(confidences[:0], right[:0], 0.9) is None


def test_calibration_error_is_the_gap_of_each_bin() -> None:
    probabilities = np.array([[0.9, 0.1], [0.9, 0.1], [0.4, 0.6], [0.0, 1.0]])
    # Two rows of 0.9 of which one is right; one of 0.6, wrong; one of 1.0, right.
    truth = np.array([0, 1, 0, 1])
    assert calibration_error(probabilities, truth) == pytest.approx((abs(1.8 - 1) + 0.6 + 0.0) / 4)
