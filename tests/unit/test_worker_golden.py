"""Golden rows: how their file is read, how they are run, and what is said when something else comes of them."""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from penstock.core.errors import ModelLoadError
from penstock.worker.arrays import Array
from penstock.worker.golden import Golden, prove, read_golden
from penstock.worker.model import ModelSpec, TensorSpec

DOUBLED = ModelSpec((TensorSpec("x", "float32", (2,)),), (TensorSpec("y", "float32", (2,)),))
VARYING = ModelSpec(
    (TensorSpec("ids", "int64", (8,), True), TensorSpec("scale", "float32", ())),
    (TensorSpec("states", "int64", (8,), True), TensorSpec("long", "bool", ())),
)


class Doubling:
    """Doubles its rows, as floats or as tokens, and remembers the shapes that it saw."""

    name = "doubling"
    rerun = True
    may_refuse_zeros = False

    def __init__(self, spec: ModelSpec = DOUBLED, factor: float = 2.0) -> None:
        self.spec = spec
        self.factor = factor
        self.seen: list[tuple[int, ...]] = []

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array], lengths: Array | None = None) -> None:
        assert not any(array.flags.writeable for array in inputs)
        self.seen.append(inputs[0].shape)
        outputs[0][...] = inputs[0] * self.factor
        if lengths is not None:
            assert len(lengths) == len(inputs[0])
            outputs[1][...] = lengths > 2


def written(folder: Path, value: Any) -> Path:
    path = folder / "golden.json"
    path.write_text(value if isinstance(value, str) else json.dumps(value))
    return path


def golden_of(folder: Path, spec: ModelSpec = DOUBLED, **members: Any) -> Golden:
    return read_golden(written(folder, members), spec)


def doubled(folder: Path, rows: int, **more: Any) -> Golden:
    values = [[float(row), 0.1 * row] for row in range(rows)]
    return golden_of(folder, inputs={"x": values}, outputs={"y": [[2 * a, 2 * b] for a, b in values]}, **more)


def test_rows_that_come_out_as_they_should_pass(tmp_path: Path) -> None:
    backend = Doubling()
    prove(backend, doubled(tmp_path, 10), {0: 4})
    assert backend.seen == [(4, 2), (4, 2), (2, 2)]


def test_only_allowed_sizes_are_run(tmp_path: Path) -> None:
    backend = Doubling()
    prove(backend, doubled(tmp_path, 10), {0: 8}, [4, 8])
    assert backend.seen == [(8, 2), (4, 2)]


def test_another_output_is_named(tmp_path: Path) -> None:
    golden = golden_of(
        tmp_path,
        inputs={"x": [[1, 1], [1, 2], [3, 4]]},
        outputs={"y": [[2, 2], [2, 5.1], [6, "NaN"]]},
        rtol=0.01,
        atol=0,
    )
    expected = r"row 1, output 'y'\[1\]: expected 5.1, got 4.0 \(rtol 0.01, atol 0\); 2 of 3 rows differ"
    with pytest.raises(ModelLoadError, match=expected):
        prove(Doubling(), golden, {0: 2})


def test_the_first_row_is_named_whatever_its_length(tmp_path: Path) -> None:
    golden = golden_of(
        tmp_path,
        VARYING,
        inputs={"ids": [[1, 2, 3, 4, 5], [1, 2]], "scale": [1, 1]},
        outputs={"states": [[2, 4, 6, 8, 11], [2, 5]], "long": [True, False]},
    )
    with pytest.raises(ModelLoadError, match=r"row 0, output 'states'\[4\]: expected 11, got 10 .*; 2 of 2 rows"):
        prove(Doubling(VARYING), golden, {4: 2, 8: 1})


@pytest.mark.parametrize(("factor", "passes"), [(2.0001, True), (2.01, False)])
def test_floats_may_be_off_by_the_tolerance(tmp_path: Path, factor: float, passes: bool) -> None:
    golden = doubled(tmp_path, 3)
    backend = Doubling(factor=factor)
    if passes:
        prove(backend, golden, {0: 8})
    else:
        with pytest.raises(ModelLoadError, match="2 of 3 rows differ"):
            prove(backend, golden, {0: 8})


def test_integers_must_be_equal(tmp_path: Path) -> None:
    spec = ModelSpec((TensorSpec("x", "int64", ()),), (TensorSpec("y", "int64", ()),))
    golden = golden_of(tmp_path, spec, inputs={"x": [10**6]}, outputs={"y": [2 * 10**6 + 1]})
    with pytest.raises(ModelLoadError, match="output 'y': expected 2000001, got 2000000"):
        prove(Doubling(spec), golden, {0: 8})


def test_not_a_number_is_one(tmp_path: Path) -> None:
    values = [["NaN", "Infinity"], ["-Infinity", 0]]
    prove(Doubling(), golden_of(tmp_path, inputs={"x": values}, outputs={"y": values}), {0: 8})


def test_rows_of_different_lengths_run_in_their_buckets(tmp_path: Path) -> None:
    ids = [[1], [1, 2, 3, 4], [7, 8], [1, 2, 3, 4, 5]]
    golden = golden_of(
        tmp_path,
        VARYING,
        inputs={"ids": ids, "scale": [1, 1, 1, 1]},
        outputs={"states": [[2 * value for value in row] for row in ids], "long": [len(row) > 2 for row in ids]},
    )
    backend = Doubling(VARYING)
    prove(backend, golden, {2: 4, 4: 2, 8: 1}, [1, 2, 4])
    assert backend.seen == [(2, 2), (1, 4), (1, 8)]


def test_a_model_that_raises_is_told(tmp_path: Path) -> None:
    class Raising(Doubling):
        def run(self, inputs: Sequence[Array], outputs: Sequence[Array], lengths: Array | None = None) -> None:
            raise ValueError("no such token")

    with pytest.raises(ModelLoadError, match="fails for its golden rows: ValueError: no such token"):
        prove(Raising(), doubled(tmp_path, 1), {0: 8})


GOOD: dict[str, Any] = {"inputs": {"x": [[1, 2]]}, "outputs": {"y": [[2, 4]]}}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("{", "Expecting property name"),
        ("[" * 100_000, "nested too deeply"),
        ([], "must be an object"),
        ({"inputs": {}}, "must be an object"),
        ({**GOOD, "tolerance": 1}, "must be an object"),
        ('{"inputs": {}, "inputs": {}, "outputs": {}}', "'inputs' is there twice"),
        ('{"inputs": {"x": [[NaN, 1]]}, "outputs": {"y": [[1, 1]]}}', 'bare word NaN is no JSON: write "NaN"'),
        ({**GOOD, "inputs": {"z": [[1, 2]]}}, "inputs must be an object with the members 'x', and no others"),
        ({**GOOD, "inputs": {"x": 3}}, r"inputs\['x'\] must be a list of rows"),
        ({**GOOD, "inputs": {"x": [[1, 2], [3, 4]]}}, "same number of rows"),
        ({"inputs": {"x": []}, "outputs": {"y": []}}, "same number of rows, 1 or more"),
        ({**GOOD, "inputs": {"x": [[1, 2, 3]]}}, r"row 0 of input 'x' must have the shape \(2,\)"),
        ({**GOOD, "inputs": {"x": [[1, "2"]]}}, "row 0 of input 'x' must hold values of float32"),
        ({**GOOD, "outputs": {"y": [[True, 1]]}}, "row 0 of output 'y' must hold values of float32"),
        ({**GOOD, "outputs": {"y": [[10**400, 1]]}}, "row 0 of output 'y' must hold values of float32"),
        ({**GOOD, "rtol": -1}, "rtol must be a number of 0 or more"),
        ({**GOOD, "atol": "0"}, "atol must be a number of 0 or more"),
    ],
)
def test_what_is_wrong_in_the_file_is_told(tmp_path: Path, value: Any, text: str) -> None:
    with pytest.raises(ModelLoadError, match=f"golden.json holds no golden rows.*{text}"):
        read_golden(written(tmp_path, value), DOUBLED)


@pytest.mark.parametrize(
    ("ids", "text"),
    [
        ([], "must be a list of 1 to 8 items"),
        ([1] * 9, "must be a list of 1 to 8 items"),
        (3, "must be a list of 1 to 8 items"),
        ([1 << 63], "must hold values of int64"),
        ([1.0], "must hold values of int64"),
    ],
)
def test_rows_that_vary_are_checked(tmp_path: Path, ids: Any, text: str) -> None:
    value = {"inputs": {"ids": [ids], "scale": [1]}, "outputs": {"states": [[2]], "long": [False]}}
    with pytest.raises(ModelLoadError, match=f"row 0 of input 'ids' {text}"):
        read_golden(written(tmp_path, value), VARYING)


def test_a_missing_file_is_told(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"golden\.json cannot be read: No such file"):
        read_golden(tmp_path / "golden.json", DOUBLED)
