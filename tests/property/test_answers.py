"""Answers against NumPy in float64: whatever a model gives, on every lane."""

from typing import Any

import numpy as np
import pytest
from hypothesis import assume, example, given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.typing import NDArray

from penstock.native._kernels import Answers, lanes

Floats = NDArray[np.float64]

DTYPES = ("float16", "float32", "float64")
# Where two classes are equally probable the first one is meant; closer than this, rounding may decide otherwise.
CLOSE = 1e-12


@st.composite
def logits(draw: st.DrawFn, least: int = 2, *, finite: bool = False) -> NDArray[Any]:
    """Scores of some rows, with ties, infinities and NaN."""
    dtype = draw(st.sampled_from(DTYPES))
    shape = (draw(st.integers(0, 19)), draw(st.integers(least, 9)))
    width = {"float16": 16, "float32": 32, "float64": 64}[dtype]
    some = st.floats(-30, 30, width=width) | st.sampled_from([0.0, 1.0, -1.0])
    if not finite:
        some = some | st.sampled_from([np.inf, -np.inf]) | st.floats(width=width, allow_nan=False)
    return draw(arrays(dtype, shape, elements=some))


def softmax(scores: Floats) -> Floats:
    """Its limit where a score is infinite: those that are share all."""
    with np.errstate(invalid="ignore"):
        most = scores.max(axis=1, keepdims=True)
        powers = np.exp(np.where(scores == most, 0, scores - most))
    return powers / powers.sum(axis=1, keepdims=True)


def sigmoid(scores: Floats) -> Floats:
    power = np.exp(-np.abs(scores))
    return np.where(scores < 0, power, 1) / (1 + power)


def answered(values: NDArray[Any], wanted: dict[str, tuple[str, tuple[int, ...]]], **plan: Any) -> list[NDArray[Any]]:
    """Return what is wanted: (dtype, shape of a row) by its name; strings are the places of classes, -1 for none.

    Every lane gives the same.
    """
    rows, elements = values.shape
    classes = 2 if elements == 1 and plan.get("exclusive", True) else elements
    codes = [*(str(place) for place in range(classes)), "-1"]
    results = [(name, at, codes if dtype == "str" else []) for at, (name, (dtype, _)) in enumerate(wanted.items())]
    reference: list[NDArray[Any]] = []
    for lane in lanes():
        native = Answers(lane)
        native.add_classes(0, values.dtype.name, elements, results=results, **plan)
        made = [np.empty((rows, *shape), object if dtype == "str" else dtype) for dtype, shape in wanted.values()]
        assert native.run([values], made) == -1
        reference = reference or made
        assert all(np.array_equal(array, same) for array, same in zip(made, reference, strict=True))
    return [array.astype(int) if array.dtype == object else array for array in reference]


def float_of(scores: NDArray[Any]) -> str:
    return "float64" if scores.dtype == np.float64 else "float32"


def close(got: NDArray[Any], expected: Floats) -> None:
    """To a few units of the last place of what the results are."""
    np.testing.assert_allclose(got, expected, rtol=4 * np.finfo(got.dtype).eps, atol=np.finfo(got.dtype).tiny)


def apart(probabilities: Floats) -> bool:
    """Whether classes are equal or clearly different, so that their order is no matter of rounding."""
    steps = np.diff(np.sort(probabilities, axis=1), axis=1)
    return bool(((steps == 0) | (steps > CLOSE)).all())


@given(scores=logits())
@example(scores=np.float64([[np.inf, np.inf, 0], [-np.inf, 0, 0], [1000, -1000, 999]]))
def test_softmax_is_numpys(scores: NDArray[Any]) -> None:
    classes = scores.shape[1]
    (got,) = answered(scores, {"probabilities": (float_of(scores), (classes,))}, scores="softmax")
    close(got, softmax(scores.astype(np.float64)))


@given(scores=logits(least=1))
def test_sigmoid_is_numpys(scores: NDArray[Any]) -> None:
    classes = scores.shape[1]
    got, labels, count = answered(
        scores,
        {"probabilities": (float_of(scores), (classes,)), "labels": ("str", (classes,)), "count": ("int32", ())},
        scores="sigmoid",
        exclusive=False,
    )
    expected = sigmoid(scores.astype(np.float64))
    close(got, expected)
    assume((np.abs(expected - 0.5) > CLOSE).all() or (scores[np.abs(expected - 0.5) <= CLOSE] == 0).all())
    for row, chosen, many in zip(expected, labels, count, strict=True):
        places = np.flatnonzero(row >= 0.5)
        assert chosen.tolist() == [*places, *[-1] * (classes - len(places))]
        assert many == len(places)


@given(scores=logits(), threshold=st.floats(0, 1), data=st.data())
def test_labels_confidences_and_abstentions(scores: NDArray[Any], threshold: float, data: st.DataObject) -> None:
    classes = scores.shape[1]
    confidence = data.draw(st.sampled_from(["maximum", "margin", "entropy"]))
    top = data.draw(st.integers(1, classes))
    probabilities = softmax(scores.astype(np.float64))
    assume(apart(probabilities))
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ranked = np.take_along_axis(probabilities, order, axis=1)
    with np.errstate(divide="ignore", invalid="ignore"):
        entropies = -np.where(probabilities > 0, probabilities * np.log(probabilities), 0).sum(axis=1)
    expected = {
        "maximum": ranked[:, 0],
        "margin": ranked[:, 0] - ranked[:, 1],
        "entropy": np.maximum(0, 1 - entropies / np.log(classes)),
    }[confidence]
    assume((np.abs(expected - threshold) > CLOSE).all())
    label, sure, labels, best, abstained, reason = answered(
        scores,
        {
            "label": ("str", ()),
            "confidence": ("float64" if scores.dtype == np.float64 else "float32", ()),
            "top_labels": ("str", (top,)),
            "top_scores": (float_of(scores), (top,)),
            "abstained": ("bool", ()),
            "reason": ("str", ()),
        },
        scores="softmax",
        confidence=confidence,
        thresholds=[threshold] * classes,
        top=top,
    )
    unsure = expected < threshold
    np.testing.assert_allclose(sure, expected, rtol=1e-6 if sure.dtype == np.float32 else 1e-12, atol=1e-14)
    assert np.array_equal(abstained, unsure)
    assert np.array_equal(label, np.where(unsure, -1, order[:, 0]))
    assert np.array_equal(reason, np.where(unsure, order[:, 0], -1))
    assert np.array_equal(labels, order[:, :top])
    close(best, ranked[:, :top])


@given(scores=logits(finite=True), quantile=st.floats(0, 1), data=st.data())
def test_sets_are_those_of_their_definition(scores: NDArray[Any], quantile: float, data: st.DataObject) -> None:
    classes = scores.shape[1]
    width = data.draw(st.integers(1, classes))
    probabilities = softmax(scores.astype(np.float64))
    assume(apart(probabilities))
    order = np.argsort(-probabilities, axis=1, kind="stable")
    ranked = np.take_along_axis(probabilities, order, axis=1)
    for rule, distances in (("lac", 1 - ranked), ("aps", np.cumsum(ranked, axis=1))):
        assume((np.abs(distances - quantile) > CLOSE).all())
        chosen, size = answered(
            scores,
            {"set": ("str", (width,)), "set_size": ("int32", ())},
            scores="softmax",
            set=rule,
            quantile=quantile,
            set_width=width,
        )
        inside = distances <= quantile
        assert np.array_equal(size, inside.sum(axis=1))
        assert np.array_equal(chosen, np.where(inside, order, -1)[:, :width])


@given(
    scores=logits(finite=True),
    temperature=st.floats(0.1, 10),
    line=st.tuples(st.floats(-5, 5), st.floats(-5, 5)),
    points=st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1)), min_size=1, max_size=6),
)
def test_calibrations_are_their_formulas(
    scores: NDArray[Any],
    temperature: float,
    line: tuple[float, float],
    points: list[tuple[float, float]],
) -> None:
    classes = scores.shape[1]
    wide = scores.astype(np.float64)
    wanted = {"probabilities": (float_of(scores), (classes,))}
    (heated,) = answered(scores, wanted, scores="softmax", temperature=temperature)
    np.testing.assert_allclose(heated, softmax(wide / temperature), rtol=1e-6, atol=1e-30)

    a, b = line
    (straight,) = answered(scores, wanted, scores="none", exclusive=False, lines=[line] * classes)
    np.testing.assert_allclose(straight, sigmoid(-(a * wide + b)), rtol=1e-6, atol=1e-30)

    x = np.unique([x for x, _ in points])
    assume((np.diff(x) > 1e-9).all())
    y = np.array([y for _, y in points])[: len(x)]
    curves = [(x.tolist(), y.tolist())] * classes
    (curved,) = answered(scores, wanted, scores="none", exclusive=False, curves=curves)
    np.testing.assert_allclose(curved, np.interp(wide, x, y), rtol=1e-6, atol=1e-9)
    if classes > 2:
        (normal,) = answered(scores, wanted, scores="none", curves=curves)
        sums = np.interp(wide, x, y).sum(axis=1, keepdims=True)
        with np.errstate(invalid="ignore"):
            expected = np.where(sums == 0, 1 / classes, np.interp(wide, x, y) / sums)
        assume((sums[sums > 0] > 1e-6).all())
        np.testing.assert_allclose(normal, expected, rtol=1e-5, atol=1e-9)


@given(scores=logits(finite=True), temperature=st.floats(0.5, 5))
def test_a_temperature_of_probabilities_is_one_of_their_logarithms(scores: NDArray[Any], temperature: float) -> None:
    probabilities = softmax(scores.astype(np.float64))
    classes = scores.shape[1]
    (got,) = answered(probabilities, {"probabilities": ("float64", (classes,))}, scores="none", temperature=temperature)
    np.testing.assert_allclose(got, softmax(scores / np.float64(temperature)), rtol=1e-9, atol=1e-12)


@given(scores=logits(least=1, finite=True).map(lambda some: some[:, :1].copy()), cut=st.floats(0.01, 0.99))
def test_one_score_is_that_of_the_second_of_two_classes(scores: NDArray[Any], cut: float) -> None:
    second = sigmoid(scores[:, 0].astype(np.float64))
    assume((np.abs(second - cut) > CLOSE).all())
    label, sure, probabilities = answered(
        scores,
        {"label": ("str", ()), "confidence": (float_of(scores), ()), "probabilities": (float_of(scores), (2,))},
        scores="sigmoid",
        cuts=[cut],
    )
    np.testing.assert_allclose(probabilities, np.column_stack([1 - second, second]), rtol=1e-6, atol=1e-14)
    assert np.array_equal(label, (second >= cut).astype(int))
    assert np.array_equal(sure, np.take_along_axis(probabilities, label[:, None], axis=1)[:, 0])


@given(scores=logits(), data=st.data())
def test_a_row_with_nan_is_told_whatever_its_place(scores: NDArray[Any], data: st.DataObject) -> None:
    assume(scores.size)
    at = data.draw(st.integers(0, scores.size - 1))
    scores.flat[at] = np.nan
    native = Answers()
    native.add_classes(0, scores.dtype.name, scores.shape[1], scores="softmax", results=[("set_size", 0, [])])
    assert native.run([scores], [np.empty(len(scores), np.int32)]) == 0


def numbered(values: NDArray[Any], to: str, wanted: tuple[str, ...] = ("value",), **plan: Any) -> list[NDArray[Any]]:
    native = Answers()
    elements = values.shape[1]
    results = [(name, at, []) for at, name in enumerate(wanted)]
    native.add_numbers(0, values.dtype.name, elements, first=0, count=elements, to=to, results=results, **plan)
    made = [np.empty(values.shape, to) for _ in wanted]
    assert native.run([values], made) == -1
    return made


@given(values=logits(least=1, finite=True), lam=st.floats(-2, 4))
@example(values=np.ones((1, 1), np.float16), lam=5e-324)
def test_powers_are_undone(values: NDArray[Any], lam: float) -> None:
    wide = np.clip(values.astype(np.float64), -20, 20)
    with np.errstate(all="ignore"):
        positive = wide >= 0
        up = np.log1p(wide) if abs(lam) < 1e-19 else np.expm1(lam * np.log1p(wide)) / lam
        down = -np.log1p(-wide) if lam == 2 else -np.expm1((2 - lam) * np.log1p(-wide)) / (2 - lam)
        power = np.where(positive, up, down)
        back = numbered(power, "float64", steps=[("yeo_johnson", lam, 0.0)])[0]
        # Where the power is next to its bound nothing is left of the number.
        kept = (power * lam > -0.999) & (-power * (2 - lam) > -0.999)
    np.testing.assert_allclose(back[kept], wide[kept], rtol=1e-6, atol=1e-9)
    natural = np.exp(wide / 4)
    boxed = np.log(natural) if abs(lam) < 1e-19 else np.expm1(lam * np.log(natural)) / lam
    kept = boxed * lam > -0.999
    back = numbered(boxed, "float64", steps=[("box_cox", lam, 0.0)])[0]
    np.testing.assert_allclose(back[kept], natural[kept], rtol=1e-6, atol=1e-9)


@given(values=logits(least=1, finite=True), a=st.floats(-3, 3), b=st.floats(-3, 3), decimals=st.integers(0, 6))
def test_numbers_get_back_to_their_unit(values: NDArray[Any], a: float, b: float, decimals: int) -> None:
    wide = np.clip(values, -20, 20).astype(np.float64)
    steps = [("affine", a, b), ("exp", 1.0, 0.0)]
    expected = np.expm1(wide * a + b)
    (got,) = numbered(wide, "float64", steps=steps)
    np.testing.assert_allclose(got, expected, rtol=1e-13)
    value, low, high = numbered(values, "float64", ("value", "low", "high"), decimals=decimals, quantile=0.25)
    exact = values.astype(np.float64)
    assert np.array_equal(value, np.round(exact, decimals))
    assert (low <= exact - 0.25 + 1e-9).all()
    assert (high >= exact + 0.25 - 1e-9).all()
    assert (high - low <= 0.5 + 2.1 * 10.0**-decimals).all()


@given(values=logits(least=1), to=st.sampled_from(["int8", "int32", "int64", "uint8", "uint64", "float16", "float32"]))
def test_casts_round_and_stay_within_what_fits(values: NDArray[Any], to: str) -> None:
    (got,) = numbered(values, to)
    wide = values.astype(np.float64)
    if to.startswith("float"):
        with np.errstate(over="ignore"):
            assert np.array_equal(got, wide.astype(to))
        return
    bounds = np.iinfo(to)
    expected = [
        [
            min(max(round(x), bounds.min), bounds.max) if np.isfinite(x) else bounds.max if x > 0 else bounds.min
            for x in row
        ]
        for row in wide.tolist()
    ]
    assert got.tolist() == expected


def test_nan_is_no_whole_number_and_a_float_stays_one() -> None:
    values = np.float32([[1.5, np.nan]])
    native = Answers()
    native.add_numbers(0, "float32", 2, first=0, count=2, to="int32", results=[("value", 0, [])])
    assert native.run([values], [np.empty((1, 2), np.int32)]) == 0
    (got,) = numbered(values, "float64")
    assert np.array_equal(got, [[1.5, np.nan]], equal_nan=True)


@given(
    values=logits(least=2, finite=True), one=st.booleans(), least=st.floats(-5, 0), most=st.floats(0, 5), data=st.data()
)
def test_intervals_are_as_wide_as_another_output_says(
    values: NDArray[Any], one: bool, least: float, most: float, data: st.DataObject
) -> None:
    rows, elements = values.shape
    scale = np.abs(data.draw(arrays(np.float32, (rows, 1 if one else elements), elements=st.floats(0, 4, width=32))))
    first = 1 if one else 0
    native = Answers()
    native.add_numbers(
        0,
        values.dtype.name,
        elements,
        first=first,
        count=elements - first,
        bounds=(least, most),
        quantile=1.5,
        by=(1, "float32", scale.shape[1]),
        to="float64",
        results=[("low", 0, []), ("high", 1, [])],
    )
    shape = (rows, elements - first)
    low, high = np.empty(shape), np.empty(shape)
    assert native.run([values, scale], [low, high]) == -1
    wide = values.astype(np.float64)[:, first:]
    away = 1.5 * scale.astype(np.float64)
    assert np.array_equal(low, np.clip(wide - away, least, most))
    assert np.array_equal(high, np.clip(wide + away, least, most))


def test_arrays_that_do_not_fit_are_refused() -> None:
    scores = np.zeros((2, 3), np.float32)
    native = Answers()
    native.add_classes(0, "float32", 3, scores="softmax", results=[("label", 0, ["a", "b", "c", ""])])
    label = np.empty(2, object)
    for arrays_, results in (
        ([], [label]),
        ([scores], []),
        ([scores[:, :2].copy()], [label]),
        ([scores.astype(np.float64)], [label]),
        ([scores], [label[:1]]),
        ([scores], [np.empty(2)]),
        ([np.float32(1.0)], [label]),
    ):
        with pytest.raises(ValueError, match=r"source|result|array"):
            native.run(arrays_, results)
    with pytest.raises(ValueError, match="contiguous"):
        native.run([np.zeros((3, 2), np.float32).T], [label])
    label.flags.writeable = False
    with pytest.raises(ValueError, match="read-only"):
        native.run([scores], [label])
    with pytest.raises(ValueError, match="a string for each class"):
        native.add_classes(0, "float32", 3, scores="softmax", results=[("label", 0, ["a"])])


def test_bytes_are_arrays_as_well() -> None:
    answers = Answers()
    for number in range(9):
        answers.add_numbers(number, "uint8", 1, first=0, count=1, to="float32", results=[("value", number, [])])
    results = [np.zeros(8, np.float32) for _ in range(9)]
    assert answers.run([bytearray(range(8)) for _ in range(9)], results) == -1
    assert all(result.tolist() == list(range(8)) for result in results)
