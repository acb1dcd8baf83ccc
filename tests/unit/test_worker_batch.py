"""A batch through a model, on a real ring: whole, in halves, and row by row."""

import os
from collections.abc import Callable, Iterator, Sequence

import numpy as np
import pytest

from penstock.native._batcher import Batch, Ring, Taker
from penstock.processing.unfit import UnfitFeatureError
from penstock.worker.arrays import Array
from penstock.worker.batch import BatchRunner
from penstock.worker.model import BadOutputError, ModelSpec, TensorSpec

X = TensorSpec("x", "float32", (2,))
Y = TensorSpec("y", "float32", (2,))
ROW_BYTES = 64  # a packed row is padded to a cache line


class Doubling:
    """A backend that doubles its rows unless `fault` raises for them, and remembers how many it was given."""

    name = "doubling"
    spec = ModelSpec((X,), (Y,))
    rerun = True
    may_refuse_zeros = False

    def __init__(self, fault: Callable[[Array], None]) -> None:
        self._fault = fault
        self.runs: list[int] = []

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array], lengths: Array | None = None) -> None:
        self.runs.append(len(inputs[0]))
        self._fault(inputs[0][:, 0])
        outputs[0][...] = 2 * inputs[0]


class Bench:
    """A ring with its worker in one process."""

    def __init__(self, fault: Callable[[Array], None] = lambda first: None) -> None:
        tensors = [(X.name, X.dtype, X.shape)], [(Y.name, Y.dtype, Y.shape)]
        self.ring = Ring(*tensors, max_batch_size=64, block_rows=64, queue_bytes=1 << 20, rerun_on_worker_death=True)
        self._event = os.eventfd(0)
        self.taker = Taker([self.ring.fd], [self._event], 0)
        self.backend = Doubling(fault)
        self.runner = BatchRunner(self.backend)

    def close(self) -> None:
        os.close(self._event)

    def publish(self, values: Sequence[float]) -> None:
        claim = self.ring.claim(len(values))
        assert claim is not None
        rows = [np.float32([value, 1]).tobytes().ljust(ROW_BYTES, b"\0") for value in values]
        self.ring.publish(claim, rows)

    def run(self) -> None:
        batch = self.taker.take(0)
        assert batch is not None
        self.runner.run(batch)

    def quarantined(self) -> Batch:
        batch = Taker([self.ring.fd], [self._event], 0, quarantine=True).take(0)
        assert batch is not None
        return batch

    def answers(self) -> list[float | tuple[str, str]]:
        """Return the first output of each row of the finished batch, or its error."""
        done = self.ring.poll_done()
        assert done is not None
        self.unmeasured = done.unmeasured
        answers: list[float | tuple[str, str]] = []
        for row in range(done.rows):
            error = self.ring.error(done, row)
            if error is None:
                answers.append(float(np.frombuffer(self.ring.outputs(done, row)[0], np.float32)[0]))
            else:
                answers.append((error[0], error[1].decode()))
        self.ring.handled(done, list(range(done.rows)))
        return answers


@pytest.fixture
def bench() -> Iterator[Callable[..., Bench]]:
    made: list[Bench] = []

    def make(fault: Callable[[Array], None] = lambda first: None) -> Bench:
        made.append(Bench(fault))
        return made[-1]

    yield make
    for each in made:
        each.close()


def raise_below_zero(first: Array) -> None:
    if (first < 0).any():
        raise ValueError("below zero")


def shorten_below_zero(first: Array) -> None:
    if (first < 0).any():
        raise BadOutputError("output 'y' is short")


RAISED = ("model_raised", "ValueError: below zero")


def test_a_good_batch_is_one_run(bench: Callable[..., Bench]) -> None:
    it = bench()
    it.publish(range(7))
    it.run()
    assert it.answers() == [2 * value for value in range(7)]
    assert it.backend.runs == [7]


@pytest.mark.parametrize("rows", [1, 2, 3, 7, 16, 33, 64])
@pytest.mark.parametrize("place", ["first", "middle", "last"])
def test_one_culprit_is_found_in_logarithmic_time(bench: Callable[..., Bench], rows: int, place: str) -> None:
    it = bench(raise_below_zero)
    culprit = {"first": 0, "middle": rows // 2, "last": rows - 1}[place]
    it.publish([-1 if row == culprit else row for row in range(rows)])
    it.run()
    assert it.answers() == [RAISED if row == culprit else 2 * row for row in range(rows)]
    assert len(it.backend.runs) <= 1 + 2 * (rows - 1).bit_length()


class Choosy(Doubling):
    """One that answers what is not below zero, and names the rows that are."""

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array], lengths: Array | None = None) -> None:
        super().run(inputs, outputs, lengths)
        if below := np.flatnonzero(inputs[0][:, 0] < 0).tolist():
            raise UnfitFeatureError({row: f"age: {inputs[0][row, 0]:g}" for row in below})


@pytest.mark.parametrize("sizes", [(), (8,)])
def test_rows_that_are_unfit_fail_alone_in_one_run(
    bench: Callable[..., Bench], caplog: pytest.LogCaptureFixture, sizes: tuple[int, ...]
) -> None:
    it = bench()
    it.backend = Choosy(lambda first: None)
    it.runner = BatchRunner(it.backend, sizes)
    it.publish([1, -1, 2, 3, -5])
    it.run()
    assert it.answers() == [2, ("invalid_input", "age: -1"), 4, 6, ("invalid_input", "age: -5")]
    assert it.backend.runs == [5]
    assert not it.unmeasured
    assert not caplog.records


def test_a_culprit_among_unfit_rows_is_found(bench: Callable[..., Bench]) -> None:
    def raise_at_nine(first: Array) -> None:
        if (first == 9).any():
            raise ValueError("below zero")

    it = bench()
    it.backend = Choosy(raise_at_nine)
    it.runner = BatchRunner(it.backend, (8,))  # each part is padded
    it.publish([-1, 2, 9, -1, 3])
    it.run()
    unfit = ("invalid_input", "age: -1")
    assert it.answers() == [unfit, 4, RAISED, unfit, 6]
    assert it.unmeasured


def test_what_a_batch_in_parts_or_without_a_run_took_is_no_measure(bench: Callable[..., Bench]) -> None:
    it = bench(raise_below_zero)
    for values, unmeasured in ([1, 2], False), ([1, -1], True), ([3, 4], False):
        it.publish(values)
        it.run()
        it.answers()
        assert it.unmeasured == unmeasured
    it.backend = Choosy(lambda first: None)
    it.runner = BatchRunner(it.backend)
    it.publish([-1, -1])
    it.run()
    it.answers()
    assert it.unmeasured


def test_any_set_of_culprits(bench: Callable[..., Bench]) -> None:
    it = bench(raise_below_zero)
    generator = np.random.default_rng(0)
    for _ in range(100):
        values = [int(value) for value in generator.integers(-20, 40, size=generator.integers(1, 65))]
        it.publish(values)
        it.run()
        assert it.answers() == [RAISED if value < 0 else 2 * value for value in values]


def test_a_bad_output_belongs_to_its_row(bench: Callable[..., Bench]) -> None:
    it = bench(shorten_below_zero)
    it.publish([1, -1, 3])
    it.run()
    assert it.answers() == [2, ("bad_output", "output 'y' is short"), 6]


@pytest.mark.parametrize("error", [MemoryError, KeyboardInterrupt, SystemExit, GeneratorExit])
def test_nothing_that_is_raised_ends_the_worker(bench: Callable[..., Bench], error: type[BaseException]) -> None:
    def fault(first: Array) -> None:
        if (first < 0).any():
            raise error

    it = bench(fault)
    it.publish([1, -1])
    it.run()
    good, bad = it.answers()
    assert good == 2
    assert isinstance(bad, tuple)
    assert bad[0] == "model_raised"
    assert bad[1].startswith(error.__name__)


def test_a_batch_that_killed_twice_runs_row_by_row(bench: Callable[..., Bench]) -> None:
    it = bench(raise_below_zero)
    it.publish([1, 2, -1, 4])
    for _ in range(2):  # two workers take it and die
        assert it.taker.take(0) is not None
        it.ring.recover(0)
    assert it.taker.take(0) is None, "it waits for a worker of its own"
    it.runner.run(it.quarantined())
    assert it.backend.runs == [1, 1, 1, 1]
    assert it.answers() == [2, 4, RAISED, 8]


def test_the_row_that_kills_when_it_runs_alone_is_the_culprit(bench: Callable[..., Bench]) -> None:
    it = bench()
    it.publish([1, 2, 3, 4])
    for _ in range(2):
        assert it.taker.take(0) is not None
        it.ring.recover(0)
    batch = it.quarantined()
    assert batch.singly
    for row in (0, 1):
        batch.mark_running(row)
        batch.outputs[0][row] = 2 * batch.inputs[0][row]
        batch.complete_row(row)
    batch.mark_running(2)
    it.ring.recover(0)  # it dies here

    it.runner.run(it.quarantined())
    assert it.backend.runs == [1], "only the row after the culprit is left"
    answers = it.answers()
    assert answers[:2] == [2, 4]
    assert answers[3] == 8
    assert isinstance(answers[2], tuple)
    assert answers[2][0] == "culprit"
