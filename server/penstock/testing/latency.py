"""Latency under a steady load, by the native load generator."""

from __future__ import annotations

from dataclasses import dataclass

from penstock.core.errors import PenstockError
from penstock.load.corpus import Corpus, Traffic
from penstock.load.dialects import PenstockJson
from penstock.load.generator import Address, Load
from penstock.load.measurement import measure
from penstock.load.proof import is_proven, requests_needed
from penstock.load.recording import HTTP_OK
from penstock.load.records import random_records
from penstock.load.rows import random_rows
from penstock.load.schedule import poisson
from penstock.testing.checks import Check, failed, passed
from penstock.testing.target import Target

__all__ = ["LatencyOptions", "check_latency"]

GROUP = "latency"
_PERCENTILE = 0.99
_ROWS = 256
_ELEMENTS_MAX = 4_000_000
# How long a reply is waited for, or twice the bound where that is more: later is too late in any case.
_TIMEOUT_S_MIN = 10.0


@dataclass(frozen=True, slots=True)
class LatencyOptions:
    """The bound of the 99th percentile in milliseconds, and under what load it is to hold.

    Attributes:
        p99_ms: The bound.
        rate: Requests a second, at times that a Poisson process has.
        duration_s: Measured seconds.
        warm_up_s: Seconds before them that do not count.
        seed: Of rows and times.
    """

    p99_ms: float
    rate: float = 100.0
    duration_s: float = 10.0
    warm_up_s: float = 1.0
    seed: int = 1


def check_latency(target: Target, options: LatencyOptions, where: str) -> Check:
    """Put the model under load, and prove that 99 % of the requests are answered in time.

    `where` is the server's address. Passed means that so few late ones were seen that with a confidence of 99 % no more
    than 1 in 100 is late. What is refused, or fails, is late.
    """
    title = f"p99 within {options.p99_ms:g} ms at {options.rate:g} requests/s"
    try:
        import hdrh  # type: ignore[import-untyped]  # noqa: F401
    except ModuleNotFoundError:
        return failed(GROUP, title, "cannot be measured: pip install 'penstock[bench]'")
    try:
        recording, figures = measure(_load(target, options, where))
    except PenstockError as error:
        return failed(GROUP, title, f"cannot be measured: {error}")
    records = recording.measured
    ok = (records["status"] == HTTP_OK) & (records["failure"] == 0)
    late = int((~(ok & (records["done_ns"] - records["due_ns"] <= options.p99_ms * 1e6))).sum())
    proven = is_proven(len(records), late, _PERCENTILE)
    text = f"{late:,} of {len(records):,} requests were late or failed"
    measured = {"requests": float(len(records)), "late": float(late)}
    if figures.latency is not None:
        measured |= {"p50_ms": figures.latency.p50 / 1e3, "p99_ms": figures.latency.p99 / 1e3}
        text = f"p50 {measured['p50_ms']:.3g} ms, p99 {measured['p99_ms']:.3g} ms; {text}"
    if proven:
        return passed(GROUP, title, text, measured)
    if figures.errors:
        text += "; " + ", ".join(f"{count:,} x {kind}" for kind, count in figures.errors.items())
    if late <= 0.01 * len(records):
        needed = late + requests_needed(late, _PERCENTILE)
        text += f"; too few requests to prove it: {needed:,} would do, with a longer --duration or a higher --rate"
    if figures.void:
        text += f"; the figures mean nothing: {'; '.join(figures.void)}"
    return failed(GROUP, title, text, measured)


def _load(target: Target, options: LatencyOptions, where: str) -> Load:
    address = Address.parse(where)
    elements = sum(max(1, spec.shape[0] if spec.shape else 1) for spec in target.inputs)
    count = max(1, min(_ROWS, _ELEMENTS_MAX // elements))
    if target.record is not None:
        rows = random_records(target.record, count, options.seed)
    else:
        rows = random_rows(target.inputs, count, options.seed)
    key = () if target.key is None else (("Authorization", f"Bearer {target.key}"),)
    traffic = Traffic(target.name, PenstockJson(target.version), rows, target.outputs, headers=key)
    return Load(
        address=address,
        corpus=Corpus.of([traffic]),
        arrivals=poisson(options.rate, options.duration_s + options.warm_up_s, options.seed),
        warm_up=options.warm_up_s,
        timeout=max(_TIMEOUT_S_MIN, 2 * options.p99_ms / 1000),
        spin_us=50.0,
        seed=options.seed,
    )
