"""The checks of `penstock test` as assertions, for tests of one's own."""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping
from pathlib import Path

import penstock_client
from penstock.testing.accuracy import AccuracyOptions, check_accuracy
from penstock.testing.checks import Check, Outcome
from penstock.testing.fuzz import Extremes, FuzzOptions, check_fuzz
from penstock.testing.golden import check_golden, read_golden_rows
from penstock.testing.latency import LatencyOptions, check_latency
from penstock.testing.serving import Served
from penstock.testing.target import Target, target_of

__all__ = ["assert_accuracy", "assert_fuzz", "assert_golden", "assert_latency"]

_USUAL_URL = "http://127.0.0.1:8000"


def assert_golden(
    asked: penstock_client.Client | Served, file: str | os.PathLike[str], *, model: str | None = None
) -> list[Check]:
    """Hold a model to golden rows, in the forms that docs/testing-models.md shows.

    Args:
        asked: A client, or a server of the fixture.
        file: Where the rows are.
        model: Its name; None where the server has one model only.
    """
    return _held(check_golden(_target(asked, model), read_golden_rows(Path(file))))


def assert_fuzz(
    asked: penstock_client.Client | Served,
    *,
    model: str | None = None,
    rows: int = 100,
    seed: int = 1,
    extremes: str = "answer",
    non_finite: bool = False,
) -> list[Check]:
    """Try a model with rows that its schema allows, and with others; see FuzzOptions."""
    options = FuzzOptions(rows=rows, seed=seed, extremes=Extremes(extremes), non_finite=non_finite)
    return _held(check_fuzz(_target(asked, model), options))


def assert_accuracy(
    asked: penstock_client.Client | Served,
    labels: str | os.PathLike[str],
    target: str,
    *,
    model: str | None = None,
    output: str | None = None,
    scores: str | None = None,
    slice: str | None = None,
    **thresholds: float,
) -> list[Check]:
    """Hold a model to thresholds on rows whose outputs are known.

    Args:
        asked: A client, or a server of the fixture.
        labels: The file with the rows.
        target: Its column with what is true.
        model: Its name; None where the server has one model only.
        output: The output that should be it.
        scores: The output with scores, for min_auc.
        slice: A column, each of whose values is held to the thresholds.
        thresholds: min_accuracy, min_f1, min_auc, min_r2, max_mae, max_rmse.
    """
    options = AccuracyOptions(
        Path(labels), target, output=output, scores=scores, thresholds=_bounds(thresholds), slice=slice
    )
    return _held(check_accuracy(_target(asked, model), options))


def assert_latency(
    served: Served, p99_ms: float, *, model: str | None = None, rate: float = 100.0, duration_s: float = 10.0
) -> list[Check]:
    """Put a model under load: 99 % of the requests must be answered within `p99_ms`."""
    options = LatencyOptions(p99_ms, rate=rate, duration_s=duration_s)
    return _held([check_latency(_target(served, model), options, served.socket_url)])


def _bounds(thresholds: Mapping[str, float]) -> dict[str, float]:
    from penstock.testing.plan import THRESHOLDS

    unknown = thresholds.keys() - THRESHOLDS.keys()
    if unknown:
        raise TypeError(f"{sorted(unknown)[0]} is no threshold; there are {', '.join(THRESHOLDS)}")
    return {THRESHOLDS[name]: float(bound) for name, bound in thresholds.items()}


def _target(asked: penstock_client.Client | Served, model: str | None) -> Target:
    client = asked.client if isinstance(asked, Served) else asked
    if model is None:
        names = sorted({each["name"] for each in client.models.list()})
        if len(names) != 1:
            raise penstock_client.ArgumentError(f"the server has the models {', '.join(names)}: say which, model=...")
        model = names[0]
    return target_of(client, model, asked.url if isinstance(asked, Served) else _USUAL_URL)


def _held(checks: Iterable[Check]) -> list[Check]:
    """Return the checks; AssertionError with every one that has failed."""
    __tracebackhide__ = True
    made = list(checks)
    failures = [f"{check.group}: {check.name}: {check.detail}" for check in made if check.outcome is Outcome.FAILED]
    if failures:
        raise AssertionError("\n".join(failures))
    return made
