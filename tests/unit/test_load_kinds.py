"""Every request of a kind is counted once, as what became of it, and refusals have a latency of their own."""

import json
from dataclasses import asdict

import numpy as np
import pytest
from hdrh.histogram import HdrHistogram

from penstock.load.corpus import Corpus, Traffic
from penstock.load.dialects import PenstockJson
from penstock.load.kinds import kind_result
from penstock.load.recording import RECORD, Failure, Recording
from penstock.load.rows import TensorSpec, random_rows

SPECS = [TensorSpec("x", "float32", (2,))]
ROWS = random_rows(SPECS, 1)
CORPUS = Corpus.of(
    [
        Traffic("m", PenstockJson(), ROWS, SPECS, slo_ms=10, name="urgent"),
        Traffic("m", PenstockJson(), ROWS, SPECS),
    ]
)
# Pick, status, failure, milliseconds from due to sent and to done, Retry-After plus 1.
REQUESTS = [
    (0, 200, 0, 0, 5, 0),
    (0, 200, 0, 8, 10, 0),
    (0, 200, 0, 0, 11, 0),
    (0, 503, 0, 6, 7, 2),
    (0, 503, 0, 6, 9, 0),
    (0, 504, 0, 0, 50, 0),
    (0, 400, 0, 0, 1, 0),
    (0, 0, Failure.CLOSED, 0, 1, 0),
    (1, 200, 0, 0, 5000, 0),
]


def recording() -> Recording:
    records = np.zeros(len(REQUESTS), RECORD)
    for record, (pick, status, failure, sent, done, retry_after) in zip(records, REQUESTS, strict=True):
        record["pick"], record["status"], record["failure"], record["retry_after"] = pick, status, failure, retry_after
        record["sent_ns"], record["done_ns"] = sent * 1_000_000, done * 1_000_000
    return Recording(CORPUS, records, [], 1, 0, True)


def test_every_request_is_counted_once() -> None:
    found = kind_result(recording(), 0)
    counts = (found.in_time, found.late, found.refused, found.timed_out, found.failed)
    assert counts == (2, 1, 2, 1, 2) and sum(counts) == found.requests == 8
    assert found.label == "urgent" and found.goodput == pytest.approx(2 / 8)
    assert found.latency is not None and found.latency.max == 11_000


def test_a_refusal_takes_its_time_from_sending() -> None:
    found = kind_result(recording(), 0)
    assert found.refusal is not None and (found.refusal.mean, found.refusal.max) == (2000, 3000)
    assert found.retry_after_share == 0.5
    assert HdrHistogram.decode(found.refusal_histogram).get_total_count() == 2
    assert HdrHistogram.decode(found.histogram).get_total_count() == 3


def test_a_kind_without_a_limit_is_never_late() -> None:
    found = kind_result(recording(), 1)
    assert (found.in_time, found.late, found.refusal, found.label) == (1, 0, None, "m")
    json.dumps(asdict(found))
