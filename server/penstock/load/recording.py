"""What became of every request of a run: exact times, failures by kind, and each distinct answer."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from penstock.load.corpus import Corpus
from penstock.load.rows import same

__all__ = ["RECORD", "Answer", "Failure", "Recording", "WrongAnswerError"]

# One request, as bench/loadgen/record.hpp lays it out. Times are ns since the start, -1 for what did not happen.
RECORD = np.dtype(
    [
        ("due_ns", "<i8"),
        ("noticed_ns", "<i8"),
        ("sent_ns", "<i8"),
        ("done_ns", "<i8"),
        ("pick", "<u4"),
        ("status", "<u2"),
        ("failure", "u1"),
        ("retry_after", "u1"),  # 0 without that header, else 1 and its seconds, at most 254
    ]
)
Records: TypeAlias = NDArray[Any]

HTTP_OK = 200
# A server has stopped that is asked and silent for so long, and for so many times as long as it ever was before.
SILENCE_SECONDS = 0.5
SILENCE_GAPS = 3


class Failure(IntEnum):
    """Why a request has no answer."""

    NONE = 0
    UNSENT = 1
    UNCONNECTED = 2
    CLOSED = 3
    TIMEOUT = 4
    NOT_HTTP = 5


class WrongAnswerError(Exception):
    """A server answered 200 with other numbers than the model's."""


@dataclass(frozen=True, slots=True)
class Answer:
    """A distinct answer to request `pick`, and how often it came."""

    pick: int
    status: int
    count: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Recording:
    """One run. `records` are RECORDs in no order; requests were due for `seconds`, of which `warm_up` do not count.

    `started_ns` is the monotonic time of the start.
    """

    corpus: Corpus
    records: Records
    answers: Sequence[Answer]
    seconds: float
    warm_up: float
    open_loop: bool
    started_ns: int = 0
    unkept_answers: int = 0
    reconnects: int = 0
    generator_cpu_seconds: float = 0.0
    _measured: list[Records] = field(default_factory=list, repr=False)

    @property
    def measured(self) -> Records:
        """Requests that were due after the warm-up."""
        if not self._measured:
            self._measured.append(self.records[self.records["due_ns"] >= self.warm_up * 1e9])
        return self._measured[0]

    @property
    def measured_seconds(self) -> float:
        """Length of the measured part."""
        return self.seconds - self.warm_up

    def of_kind(self, kind: int) -> Records:
        """Return the measured requests of one kind of traffic."""
        measured = self.measured
        chosen: Records = measured[self.corpus.kinds[measured["pick"]] == kind]
        return chosen

    def answered_within(self) -> int:
        """Count the requests answered with 200 while the measured part lasted, whenever they were due."""
        done = self.records["done_ns"][self.records["status"] == HTTP_OK]
        return int(np.count_nonzero((done >= self.warm_up * 1e9) & (done < self.seconds * 1e9)))

    def silence_at_the_end(self) -> float:
        """Return the seconds before the end in which the server was asked and silent, if too many for chance; else 0.

        One that refuses, or answers after the end, has not stopped.
        """
        replies = np.sort(self.records["done_ns"][self.records["failure"] == Failure.NONE])
        if not len(replies):
            return 0.0
        waiting = self.records[(self.records["failure"] != Failure.NONE) & (self.records["done_ns"] > replies[-1])]
        if not len(waiting):
            return 0.0
        silence = self.seconds - max(int(replies[-1]), int(waiting["due_ns"].min())) / 1e9
        longest = float(np.diff(replies).max(initial=0)) / 1e9
        return silence if silence > max(SILENCE_SECONDS, SILENCE_GAPS * longest) else 0.0

    def lag_us(self) -> NDArray[np.float64]:
        """Return how late the generator saw that each request was due, in us: its own fault, not the server's."""
        noticed = self.measured[self.measured["noticed_ns"] >= 0]
        return np.asarray((noticed["noticed_ns"] - noticed["due_ns"]) / 1e3)

    def errors(self) -> Counter[str]:
        """Count what was not answered with 200, by kind: a failure, a status, or a status with a problem's code."""
        measured = self.measured
        found: Counter[str] = Counter()
        failed = measured["failure"][measured["failure"] != Failure.NONE]
        for value, count in zip(*np.unique(failed, return_counts=True), strict=True):
            found[Failure(int(value)).name.lower()] += int(count)
        refused = measured["status"][(measured["failure"] == Failure.NONE) & (measured["status"] != HTTP_OK)]
        codes = self._codes()
        for value, count in zip(*np.unique(refused, return_counts=True), strict=True):
            found[" ".join([str(int(value)), *sorted(codes.get(int(value), ()))])] += int(count)
        return found

    def check(self) -> int:
        """Compare every answer with the known one; how many were compared. WrongAnswerError at the first wrong one."""
        if self.unkept_answers:
            raise WrongAnswerError(
                f"{self.unkept_answers} answers were too many to keep, so nobody knows whether they are right"
            )
        compared = 0
        for answer in self.answers:
            traffic, row = self.corpus.request(answer.pick)
            if answer.status != HTTP_OK or traffic.expected is None:
                continue
            try:
                right = same(traffic.dialect.answer(answer.body, traffic.outputs), traffic.expected[row])
            except (KeyError, ValueError, TypeError, IndexError) as error:
                raise WrongAnswerError(f"not an answer ({error!r}): {answer.body[:300]!r}") from error
            if not right:
                raise WrongAnswerError(f"expected {traffic.expected[row]}, got {answer.body[:300]!r}")
            compared += answer.count
        return compared

    def _codes(self) -> dict[int, set[str]]:
        """Collect the codes of problem documents by status."""
        found: dict[int, set[str]] = {}
        for answer in self.answers:
            if answer.status == HTTP_OK:
                continue
            try:
                code = json.loads(answer.body)["code"]
            except (ValueError, KeyError, TypeError):
                continue
            found.setdefault(answer.status, set()).add(str(code))
        return found
