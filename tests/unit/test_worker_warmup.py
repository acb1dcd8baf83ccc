"""What a warm-up runs, how long it measures, and what it tells."""

from collections.abc import Sequence

import pytest

from penstock.core.errors import ModelLoadError
from penstock.worker.arrays import Array
from penstock.worker.messages import CostSample
from penstock.worker.model import ModelSpec, TensorSpec
from penstock.worker.warmup import TIMED_RUNS_MAX, most_rows, sizes_to_run, warm_up


class Slow:
    """A backend whose runs take `fixed` + rows * `per_row` seconds of its own clock."""

    name = "slow"
    spec = ModelSpec((TensorSpec("x", "float32", (2,)),), (TensorSpec("y", "float32", (2,)),))
    rerun = True
    may_refuse_zeros = True

    def __init__(self, fixed: float, per_row: float, patience: int = 1000) -> None:
        self._fixed, self._per_row, self._patience = fixed, per_row, patience
        self.now = 0.0
        self.runs: list[int] = []

    def clock(self) -> float:
        return self.now

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array], lengths: Array | None = None) -> None:
        rows = len(inputs[0])
        self.runs.append(rows)
        self.now += self._fixed + self._per_row * rows
        if len(self.runs) > self._patience:
            raise ValueError("enough of zeros")


@pytest.mark.parametrize(
    ("most", "allowed", "sizes"),
    [
        (1, (), [1]),
        (8, (), [1, 2, 4, 8]),
        (12, (), [1, 2, 4, 8, 12]),
        (32, (8, 20, 32), [8, 20, 32]),
        (21, (8, 20, 32), [8, 20]),
        (7, (8, 20, 32), [8]),
    ],
)
def test_sizes(most: int, allowed: tuple[int, ...], sizes: list[int]) -> None:
    assert sizes_to_run(most, allowed) == sizes


@pytest.mark.parametrize(
    ("length", "tokens", "rows"), [(0, 0, 64), (8, 0, 64), (8, 512, 64), (32, 512, 16), (30, 512, 17), (600, 512, 1)]
)
def test_rows_that_tokens_allow(length: int, tokens: int, rows: int) -> None:
    assert most_rows(64, length, tokens) == rows


def test_rows_that_vary_are_run_at_a_length() -> None:
    class Uneven(Slow):
        spec = ModelSpec((TensorSpec("x", "float32", (64, 2), True),), (TensorSpec("y", "float32", (2,)),))

        def run(self, inputs: Sequence[Array], outputs: Sequence[Array], lengths: Array | None = None) -> None:
            assert inputs[0].shape == (2, 8, 2)
            assert outputs[0].shape == (2, 2)
            assert lengths is not None
            assert lengths.tolist() == [8, 8]
            super().run(inputs, outputs)

    backend = Uneven(fixed=1.0, per_row=0.0)
    assert warm_up(backend, [2], budget_s=1.0, clock=backend.clock, length=8) == (CostSample(2, 1.0, 8),)


def test_samples_are_what_runs_took() -> None:
    backend = Slow(fixed=0.25, per_row=0.125)
    samples = warm_up(backend, [1, 2, 4], budget_s=3.0, clock=backend.clock)
    assert set(samples) == {CostSample(1, 0.375), CostSample(2, 0.5), CostSample(4, 0.75)}
    # One second for each size, filled with measured runs after one that is not.
    assert [backend.runs.count(rows) for rows in (1, 2, 4)] == [1 + 3, 1 + 2, 1 + 2]
    assert len(samples) == 7


def test_a_slow_model_is_measured_once_at_each_size() -> None:
    backend = Slow(fixed=10.0, per_row=0.0)
    samples = warm_up(backend, [1, 2, 4, 8], budget_s=1.0, clock=backend.clock)
    assert samples == tuple(CostSample(rows, 10.0) for rows in (1, 2, 4, 8))
    assert backend.runs == [1, 1, 2, 2, 4, 4, 8, 8]


def test_a_fast_model_is_not_measured_without_end() -> None:
    backend = Slow(fixed=1e-9, per_row=0.0)
    assert len(warm_up(backend, [1, 2], budget_s=1.0, clock=backend.clock)) == 2 * TIMED_RUNS_MAX


def test_nothing_is_measured_without_a_budget() -> None:
    backend = Slow(fixed=0.25, per_row=0.0)
    assert warm_up(backend, [1, 2], clock=backend.clock) == ()
    assert backend.runs == [1, 2]


def test_what_was_measured_of_a_model_that_refuses_zeros_is_not_used() -> None:
    backend = Slow(fixed=0.25, per_row=0.0, patience=4)
    assert warm_up(backend, [1, 2], budget_s=1.0, clock=backend.clock) == ()


def test_a_fault_of_a_model_that_may_not_refuse_is_found_while_it_is_measured() -> None:
    backend = Slow(fixed=0.25, per_row=0.0, patience=2)
    backend.may_refuse_zeros = False
    with pytest.raises(ModelLoadError, match="enough of zeros"):
        warm_up(backend, [1], budget_s=10.0, clock=backend.clock)
