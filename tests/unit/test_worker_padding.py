"""A model that runs batches of some sizes only, on a real ring: it is given no other size, whatever happens."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import numpy as np
import pytest

from penstock.native._batcher import Ring, Taker
from penstock.worker.arrays import Array
from penstock.worker.batch import BatchRunner
from penstock.worker.model import ModelSpec, TensorSpec

X = TensorSpec("x", "float32", (2,))
Y = TensorSpec("y", "float32", (2,))
SIZES = [4, 16]
ROW_BYTES = 64


class Compiled:
    """A backend for batches of SIZES that doubles its rows, and raises where a row is negative."""

    name = "compiled"
    spec = ModelSpec((X,), (Y,))
    rerun = True
    may_refuse_zeros = False

    def __init__(self) -> None:
        self.runs: list[int] = []

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array], lengths: Array | None = None) -> None:
        (x,), (y,) = inputs, outputs
        assert x.shape == y.shape
        assert not x.flags.writeable
        self.runs.append(len(x))
        if (x < 0).any():
            raise ValueError("below zero")
        y[...] = 2 * x


class Bench:
    """A ring, its worker's taker, and a backend."""

    def __init__(self, stack: ExitStack, *, block_rows: int = 16, reproducible: int = 4) -> None:
        self.ring = Ring(
            [(X.name, X.dtype, X.shape)],
            [(Y.name, Y.dtype, Y.shape)],
            max_batch_size=16,
            block_rows=block_rows,
            batch_sizes=SIZES,
            reproducible_batch_size=reproducible,
            queue_bytes=1 << 20,
            rerun_on_worker_death=True,
        )
        self.event = os.eventfd(0)
        stack.callback(os.close, self.event)
        self.backend = Compiled()

    def publish(self, values: Sequence[float], row_class: str = "normal") -> None:
        claim = self.ring.claim(len(values), row_class)
        assert claim is not None
        self.ring.publish(claim, [np.float32([value, 1]).tobytes().ljust(ROW_BYTES, b"\0") for value in values])

    def taker(self, *, quarantine: bool = False) -> Taker:
        return Taker([self.ring.fd], [self.event], 0, quarantine=quarantine)

    def run(self, *, quarantine: bool = False) -> None:
        taker = self.taker(quarantine=quarantine)
        batch = taker.take(0)
        assert batch is not None
        BatchRunner(self.backend, taker.batch_sizes(0)).run(batch)

    def answers(self) -> list[float | str]:
        """Return the first output of each row of the finished block, or its error."""
        done = self.ring.poll_done()
        assert done is not None
        answers: list[float | str] = []
        for row in range(done.rows):
            error = self.ring.error(done, row)
            answers.append(error[0] if error else float(np.frombuffer(self.ring.outputs(done, row)[0], np.float32)[0]))
        self.ring.handled(done, list(range(done.rows)))
        return answers


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    with ExitStack() as stack:
        yield lambda **options: Bench(stack, **options)


@pytest.mark.parametrize(("rows", "size"), [(1, 4), (3, 4), (4, 4), (5, 16), (16, 16)])
def test_a_batch_is_filled_up_to_an_allowed_size(bench: Callable[..., Bench], rows: int, size: int) -> None:
    it = bench()
    it.publish(range(rows))
    it.run()
    assert it.answers() == [2 * value for value in range(rows)]
    assert it.backend.runs == [size]


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 16])
def test_halves_are_filled_up_too(bench: Callable[..., Bench], rows: int) -> None:
    for culprit in range(rows):
        it = bench()
        it.publish([-1 if row == culprit else row for row in range(rows)])
        it.run()
        assert it.answers() == ["model_raised" if row == culprit else 2 * row for row in range(rows)]
        assert set(it.backend.runs) <= set(SIZES)


def test_single_rows_are_filled_up_too(bench: Callable[..., Bench]) -> None:
    it = bench()
    it.publish([1, -1, 3])
    for _ in range(2):  # two workers take it and die
        assert it.taker().take(0) is not None
        it.ring.recover(0)
    it.run(quarantine=True)
    assert it.answers() == [2, "model_raised", 6]
    assert it.backend.runs == [4, 4, 4]


@pytest.mark.parametrize("rows", [1, 3, 4])
def test_reproducible_rows_run_in_one_size_whatever_their_neighbours_do(bench: Callable[..., Bench], rows: int) -> None:
    for culprit in (None, 0, rows - 1):
        it = bench(reproducible=16)
        it.publish([-1 if row == culprit else row for row in range(rows)], "reproducible")
        it.run()
        assert it.answers() == ["model_raised" if row == culprit else 2 * row for row in range(rows)]
        assert set(it.backend.runs) == {16}
