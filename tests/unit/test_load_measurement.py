"""When figures mean nothing, they say so."""

import numpy as np
import pytest

from penstock.load.corpus import Corpus, Traffic
from penstock.load.dialects import PenstockJson
from penstock.load.generator import Address, ClosedLoop, Load
from penstock.load.measurement import Measurement, summarize
from penstock.load.recording import RECORD, Recording
from penstock.load.rows import TensorSpec, random_rows
from penstock.load.schedule import constant

SPECS = [TensorSpec("x", "float32", (2,))]
CORPUS = Corpus.of([Traffic("m", PenstockJson(), random_rows(SPECS, 4), SPECS)])


def summary(*, is_open: bool, lag_us: float = 0, cpu_seconds: float = 0.5, threads: int = 1) -> Measurement:
    """Summarize a run of 2 s in which each of 1,000 requests is answered after a millisecond."""
    schedule = constant(500, 2)
    load = Load(
        Address("::1", 80), CORPUS, schedule if is_open else ClosedLoop(2), threads=threads, connections=4, warm_up=1
    )
    records = np.zeros(1000, RECORD)
    records["due_ns"] = schedule.due_ns
    records["noticed_ns"] = records["sent_ns"] = schedule.due_ns + int(lag_us * 1000)
    records["done_ns"] = records["sent_ns"] + 1_000_000
    records["status"] = 200
    return summarize(load, Recording(CORPUS, records, [], 2, 1, is_open, generator_cpu_seconds=cpu_seconds))


@pytest.mark.parametrize(
    ("figures", "reasons"),
    [
        (summary(is_open=True), []),
        (summary(is_open=True, cpu_seconds=2), []),  # it looks without sleeping
        (summary(is_open=True, lag_us=300), ["the generator fell behind"]),
        (summary(is_open=False), []),
        (summary(is_open=False, cpu_seconds=1.95), ["the rate is the generator's own: it was at work 98% of the time"]),
        (summary(is_open=False, cpu_seconds=3, threads=2), []),
    ],
)
def test_void(figures: Measurement, reasons: list[str]) -> None:
    assert len(figures.void) == len(reasons)
    assert all(said.startswith(reason) for said, reason in zip(figures.void, reasons, strict=True))
