"""Features of a mixed table: a plan's program beside the scikit-learn transformer that it was imported from."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer
from sklearn.impute import SimpleImputer
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, OrdinalEncoder, StandardScaler

from penstock.native import _kernels
from penstock.native._kernels import Program
from penstock.processing.imported import import_fitted
from penstock.processing.offline import inputs_of
from penstock.processing.plan import Plan
from penstock.processing.program import wire
from penstock.processing.slots import slots_of

__all__ = ["FeatureTimes", "time_features"]

NUMBERS, LOGS, SPREAD, ORDERED = (
    [f"{kind}{place}" for place in range(count)] for kind, count in (("n", 11), ("l", 2), ("w", 4), ("o", 3))
)
WORDS = np.array(["ash", "elm", "oak", "yew", "fir", "box", "bay", "fig"], object)


@dataclass(frozen=True, slots=True)
class FeatureTimes:
    """CPU time in nanoseconds a row, median of the rounds: the transformer's, and the program's in each lane."""

    rows: int
    sklearn_ns: float
    lanes_ns: dict[str, float]


def time_features(batches: tuple[int, ...], rounds: int, seconds: float) -> Iterator[FeatureTimes]:
    """Time 20 mixed columns, in turns; the results are compared first."""
    transformer = _fitted()
    plan = import_fitted(transformer)
    for rows in batches:
        yield _time(transformer, plan, rows, rounds, seconds)


def _fitted() -> ColumnTransformer:
    filled = Pipeline([("fill", SimpleImputer(strategy="median")), ("scale", StandardScaler())])
    logs = Pipeline([("fill", SimpleImputer()), ("log", FunctionTransformer(np.log1p))])
    return ColumnTransformer(
        [
            ("numbers", filled, NUMBERS),
            ("logs", logs, LOGS),
            ("spread", OneHotEncoder(handle_unknown="ignore", sparse_output=False), SPREAD),
            ("ordered", OrdinalEncoder(handle_unknown="use_encoded_value", unknown_value=-1), ORDERED),
        ]
    ).fit(_table(5_000, 1))


def _table(rows: int, seed: int) -> pd.DataFrame:
    generator = np.random.default_rng(seed)
    numbers = {name: generator.gamma(2, 2, rows) for name in NUMBERS + LOGS}
    for column in numbers.values():
        column[generator.random(rows) < 0.05] = np.nan
    return pd.DataFrame(numbers | {name: generator.choice(WORDS, rows) for name in SPREAD + ORDERED})


def _time(transformer: Any, plan: Plan, rows: int, rounds: int, seconds: float) -> FeatureTimes:
    assert plan.record is not None
    table = _table(rows, 2)
    slots = slots_of(plan.record, {name: table[name].to_numpy() for name in table})
    wiring = wire(plan, inputs_of(plan))
    result = np.empty((rows, wiring.matrices[0][1]), np.float32)
    programs = {
        lane: Program(list(wiring.numbers), list(wiring.steps), list(wiring.matrices), lane)
        for lane in _kernels.lanes()
    }
    expected = transformer.transform(table)
    for program in programs.values():
        program.run([slots], [result])
        if not np.allclose(result, expected, rtol=1e-5, atol=1e-5):
            raise AssertionError("the program's features are not the transformer's")
    jobs: dict[str, Callable[[], object]] = {"sklearn": lambda: transformer.transform(table)}
    for lane, program in programs.items():
        jobs[lane] = partial(program.run, [slots], [result])
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            times[name].append(_ns_each(job, seconds) / rows)
    medians = {name: float(np.median(each)) for name, each in times.items()}
    return FeatureTimes(rows, medians.pop("sklearn"), medians)


def _ns_each(job: Callable[[], object], seconds: float) -> float:
    calls, start = 0, time.thread_time_ns()
    while (spent := time.thread_time_ns() - start) < seconds * 1e9:
        job()
        calls += 1
    return spent / calls
