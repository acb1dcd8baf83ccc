"""Which version an answer is of, and whether all of it is."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penstock.load.recording import HTTP_OK, Recording
from penstock.load.rows import TOLERANCE, Row, same

__all__ = ["KnownAnswers", "problems_of"]

PROBLEMS_MAX = 10


@dataclass(frozen=True, slots=True)
class KnownAnswers:
    """What each version answers to each of some rows of one input "x"; one output "y"."""

    rows: Sequence[Row]
    by_version: Mapping[str, Sequence[Row]]

    def judge_one(self, index: int, body: bytes) -> tuple[str, str | None]:
        """Read a JSON answer to row `index`: the version that it names, and what is wrong with it, if anything is."""
        try:
            document = json.loads(body)
            version = str(document["version"])
            answer = {"y": np.array(document["outputs"]["y"], dtype=np.float32)}
        except (ValueError, KeyError, TypeError) as error:
            return "", f"not an answer ({error!r}): {body[:200]!r}"
        if version not in self.by_version:
            return version, f"of a version that was never registered: {body[:200]!r}"
        if not same(answer, self.by_version[version][index]):
            return version, f"says version {version} and is not its answer: {body[:200]!r}"
        return version, None

    def judge_many(self, version: str, rows: range, body: bytes) -> str | None:
        """Say what is wrong with a raw answer to neighbouring rows by a version, if anything is."""
        if version not in self.by_version:
            return f"of the version {version!r}, which was never registered"
        expected: NDArray[np.float32] = np.stack([self.by_version[version][index]["y"] for index in rows])
        if len(body) != expected.nbytes:
            return f"{len(body)} bytes where {expected.nbytes} were due"
        values = np.frombuffer(body, "<f4").reshape(expected.shape)
        wrong = ~np.isclose(values, expected, rtol=TOLERANCE, atol=TOLERANCE).all(axis=1)
        if wrong.any():
            return f"rows {np.flatnonzero(wrong).tolist()} of {len(rows)} are not the answers of version {version}"
        return None


def problems_of(recording: Recording, known: KnownAnswers) -> tuple[int, list[str]]:
    """Judge every answer of a load, whose requests are the known rows in JSON: how many were wrong, the first few."""
    wrong, problems = recording.unkept_answers, []
    if recording.unkept_answers:
        problems.append(f"{recording.unkept_answers} answers were too many to keep")
    for answer in recording.answers:
        if answer.status != HTTP_OK:
            continue
        _, index = recording.corpus.request(answer.pick)
        _, problem = known.judge_one(index, answer.body)
        if problem is not None:
            wrong += answer.count
            problems.append(problem)
    return wrong, problems[:PROBLEMS_MAX]
