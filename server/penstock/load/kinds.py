"""What became of one kind of traffic: answers in time and late, refusals and failures, each with its latency."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.load.recording import HTTP_OK, Failure, Recording

__all__ = ["KindResult", "Latency", "answered", "encode_histogram", "kind_result", "latencies_us"]

REFUSED = 503
TIMED_OUT = 504
HISTOGRAM_DIGITS = 3
HISTOGRAM_US_MAX = 3_600_000_000


@dataclass(frozen=True, slots=True)
class Latency:
    """Latency in us from the intended send time to the reply's last byte, of the requests answered with 200."""

    p50: float
    p90: float
    p99: float
    p999: float
    max: float
    mean: float

    @classmethod
    def of(cls, microseconds: NDArray[np.float64]) -> Latency | None:
        """Take exact quantiles; None of nothing."""
        if not len(microseconds):
            return None
        p50, p90, p99, p999, most = np.percentile(microseconds, [50, 90, 99, 99.9, 100], method="higher")
        return cls(float(p50), float(p90), float(p99), float(p999), float(most), float(microseconds.mean()))


@dataclass(frozen=True, slots=True)
class KindResult:
    """One kind of traffic. Goodput is the share of all its requests that were answered with 200 within `slo_ms`.

    Each request is one of `in_time` and `late` (200), `refused` (503), `timed_out` (504), `failed` (all else).
    `refusal` is how long the 503s took from sending: a refusal owes nothing to the schedule. `retry_after_share` is the
    part of them that said when to come again. Histograms are HdrHistogram's, compressed.
    """

    model: str
    dialect: str
    requests: int
    latency: Latency | None
    slo_ms: float | None
    goodput: float
    name: str = ""
    in_time: int = 0
    late: int = 0
    refused: int = 0
    timed_out: int = 0
    failed: int = 0
    refusal: Latency | None = None
    retry_after_share: float = 0.0
    histogram: str = field(default="", repr=False)
    refusal_histogram: str = field(default="", repr=False)

    @property
    def label(self) -> str:
        """What tables call it."""
        return self.name or self.model


def kind_result(recording: Recording, kind: int) -> KindResult:
    """Sort the measured requests of one kind by what became of them."""
    traffic = recording.corpus.traffics[kind]
    records = recording.of_kind(kind)
    microseconds = latencies_us(answered(records))
    limit = float("inf") if traffic.slo_ms is None else traffic.slo_ms * 1e3
    in_time = int(np.count_nonzero(microseconds <= limit))
    replied = records[records["failure"] == Failure.NONE]
    refusals = replied[replied["status"] == REFUSED]
    timed_out = int(np.count_nonzero(replied["status"] == TIMED_OUT))
    refusal_us = np.asarray((refusals["done_ns"] - refusals["sent_ns"]) / 1e3)
    return KindResult(
        model=traffic.model,
        dialect=traffic.dialect.name,
        requests=len(records),
        latency=Latency.of(microseconds),
        slo_ms=traffic.slo_ms,
        goodput=in_time / len(records) if len(records) else 0.0,
        name=traffic.name,
        in_time=in_time,
        late=len(microseconds) - in_time,
        refused=len(refusals),
        timed_out=timed_out,
        failed=len(records) - len(microseconds) - len(refusals) - timed_out,
        refusal=Latency.of(refusal_us),
        retry_after_share=float((refusals["retry_after"] > 0).mean()) if len(refusals) else 0.0,
        histogram=encode_histogram(microseconds),
        refusal_histogram=encode_histogram(refusal_us),
    )


def answered(records: NDArray[Any]) -> NDArray[Any]:
    """Return the requests that were answered with 200."""
    chosen: NDArray[Any] = records[(records["status"] == HTTP_OK) & (records["failure"] == Failure.NONE)]
    return chosen


def latencies_us(records: NDArray[Any]) -> NDArray[np.float64]:
    """Return done minus due in us."""
    return np.asarray((records["done_ns"] - records["due_ns"]) / 1e3)


def encode_histogram(microseconds: NDArray[np.float64]) -> str:
    """Write a latency distribution in HdrHistogram's compressed form, which every HdrHistogram tool reads."""
    from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]

    histogram = HdrHistogram(1, HISTOGRAM_US_MAX, HISTOGRAM_DIGITS)
    values, counts = np.unique(np.maximum(1, microseconds).astype(np.int64), return_counts=True)
    for value, count in zip(values.tolist(), counts.tolist(), strict=True):
        histogram.record_value(value, count)
    encoded: bytes = histogram.encode()
    return encoded.decode()
