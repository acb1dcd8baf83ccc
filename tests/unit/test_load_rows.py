"""Rows that are made up for a load: of the model's shapes, and of all its lengths."""

import numpy as np

from penstock.load.rows import TensorSpec, random_rows

FIXED = [TensorSpec("x", "float32", (3,)), TensorSpec("n", "uint8", ())]
UNEVEN = [TensorSpec("ids", "int64", (6,), True), TensorSpec("at", "float64", (6, 2), True), FIXED[0]]


def test_rows_have_the_models_shapes() -> None:
    for row in random_rows(FIXED, 5):
        assert {name: (value.dtype.name, value.shape) for name, value in row.items()} == {
            "x": ("float32", (3,)),
            "n": ("uint8", ()),
        }


def test_tensors_of_a_row_that_vary_have_one_length() -> None:
    rows = random_rows(UNEVEN, 200)
    for row in rows:
        length = len(row["ids"])
        assert (row["at"].shape, row["x"].shape) == ((length, 2), (3,))
    assert {len(row["ids"]) for row in rows} == set(range(1, 7))


def test_a_seed_makes_the_same_rows() -> None:
    for one, other in zip(random_rows(UNEVEN, 9, seed=4), random_rows(UNEVEN, 9, seed=4), strict=True):
        assert all(np.array_equal(one[name], other[name]) for name in one)
