"""A server that falls silent is noticed, and one that is asked seldom is not accused of it."""

import numpy as np
import pytest

from penstock.load.corpus import Corpus, Traffic
from penstock.load.dialects import PenstockJson
from penstock.load.recording import RECORD, Failure, Recording
from penstock.load.rows import TensorSpec, random_rows

SPECS = [TensorSpec("x", "float32", (2,))]
CORPUS = Corpus.of([Traffic("m", PenstockJson(), random_rows(SPECS, 4), SPECS)])


def recording(answered: list[float], unanswered: list[float], total: float) -> Recording:
    """Requests that are answered a millisecond after these times, and some due at others that never are."""
    records = np.zeros(len(answered) + len(unanswered), RECORD)
    records["due_ns"] = (np.array(answered + unanswered) * 1e9).astype(np.int64)
    records["done_ns"] = records["due_ns"] + 1_000_000
    records["status"][: len(answered)] = 200
    records["failure"][len(answered) :] = Failure.CLOSED
    return Recording(CORPUS, records, [], total, 0.0, True)


HUNDREDTHS = [number / 100 for number in range(400)]


@pytest.mark.parametrize(
    ("answered", "unanswered", "total", "silence"),
    [
        (HUNDREDTHS[:200], HUNDREDTHS[200:], 4.0, 2.0),  # it stopped in the middle
        (HUNDREDTHS, [], 4.0, 0.0),
        ([0.5, 1.5, 2.5], [3.5], 4.0, 0.0),  # one a second: a pause of 0.5 s says nothing
        ([second for second in (1, 2, 3) for _ in range(64)], [3.1], 3.9, 0.0),  # nor one of 0.8 s, with batches of 1 s
        (HUNDREDTHS[:100], [], 4.0, 0.0),  # nobody asked any more
        ([*HUNDREDTHS[:100], 4.0], [], 4.0, 0.0),  # but once, at the very end
        ([*HUNDREDTHS[:100], 4.5], [1.0, 2.0], 4.0, 0.0),  # it was slow, and came back
        (HUNDREDTHS[:100], [0.2], 4.0, 0.0),  # nor anybody again after one failure
        ([], [1.0], 4.0, 0.0),  # nothing at all is reported otherwise
        ([1.0], [1.1], 4.0, 2.9),
    ],
)
def test_silence_at_the_end(answered: list[float], unanswered: list[float], total: float, silence: float) -> None:
    assert recording(answered, unanswered, total).silence_at_the_end() == pytest.approx(silence, abs=0.01)
