"""A server that falls silent is noticed, and one that is asked seldom is not accused of it."""

import numpy as np
import pytest

from penstock.load.corpus import Corpus, Traffic
from penstock.load.dialects import PenstockJson
from penstock.load.recording import RECORD, Recording
from penstock.load.rows import TensorSpec, random_rows

SPECS = [TensorSpec("x", "float32", (2,))]
CORPUS = Corpus.of([Traffic("m", PenstockJson(), random_rows(SPECS, 4), SPECS)])


def answered_at(seconds: list[float], total: float) -> Recording:
    records = np.zeros(len(seconds), RECORD)
    records["done_ns"] = (np.array(seconds) * 1e9).astype(np.int64)
    records["status"] = 200
    return Recording(CORPUS, records, [], total, 0.0, True)


@pytest.mark.parametrize(
    ("answers", "total", "silence"),
    [
        ([number / 100 for number in range(200)], 4.0, 2.01),  # it stopped in the middle
        ([number / 100 for number in range(400)], 4.0, 0.0),
        ([0.5, 1.5, 2.5], 4.0, 0.0),  # one a second: a pause of 1.5 s says nothing
        ([], 4.0, 0.0),  # nothing at all is reported otherwise
        ([1.0], 4.0, 3.0),
    ],
)
def test_silence_at_the_end(answers: list[float], total: float, silence: float) -> None:
    assert answered_at(answers, total).silence_at_the_end() == pytest.approx(silence)
