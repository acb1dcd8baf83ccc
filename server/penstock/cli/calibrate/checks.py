"""What `penstock calibrate` refuses because it cannot be, and what it learns with a doubt."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import ConfigError
from penstock.processing.answers.classes import Classes
from penstock.processing.faults import place_of_row

__all__ = [
    "SCORES",
    "Doubt",
    "are_probabilities",
    "check_scores",
    "check_truth",
    "doubts_of_rows",
    "doubts_of_scores",
    "output_of",
]

Floats: TypeAlias = NDArray[np.float64]

SCORES = 'scores = "softmax" (logits), "sigmoid" (logits of two classes, or multilabel) or "none" (probabilities)'
# Probabilities with two decimals still add up to this, of a few classes.
_SUM_OFF_MAX = 0.02
_ROUNDING = 1e-6
# Logits do not do that by chance.
_SUM_OFF_OF_PROBABILITIES = 1e-4
_ROWS_ENOUGH = {"temperature": 100, "platt": 100, "isotonic": 1000}
_ROWS_ENOUGH_OTHERWISE = 100
_ELEMENT = re.compile(r"\[\d+\]$")


class Doubt(str):
    """A line about something that was learned, and is better not relied on."""

    __slots__ = ()


def output_of(plan: Path, answer: Mapping[str, Any], file: Path, columns: Iterable[str], of: str | None) -> str:
    """Return the model's output that is meant: `of`, or the only one that is not dropped.

    `columns` are those of the table that may be outputs.
    """
    outputs = list(dict.fromkeys(_ELEMENT.sub("", column) for column in columns))
    if of is not None:
        if of not in answer and of not in outputs:
            raise ConfigError(
                f"--of is {of!r}, which is no output of the model: the answer of {plan} has "
                f"{', '.join(answer) or 'none'}, and {file} has {', '.join(outputs) or 'none'}"
            )
        return of
    kept = [name for name, members in answer.items() if not (isinstance(members, Mapping) and "drop" in members)]
    if not answer:
        name = outputs[0] if len(outputs) == 1 else "OUTPUT"
        raise ConfigError(
            f"{plan}: has no answer, so nothing can be learned for one: add {section(plan, name)} with {SCORES}; for "
            "an interval around numbers name the output with --of"
        )
    if len(kept) > 1:
        raise ConfigError(f"{plan}: the answer has {len(kept)} outputs: name one with --of: {', '.join(kept)}")
    return (kept or list(answer))[0]


def section(plan: Path, name: str) -> str:
    """Name an output's place in the plan as its format has it."""
    return f"[answer.{name}]" if plan.suffix == ".toml" else f'"answer": {{"{name}": {{...}}}}'


def check_scores(plan: Path, part: Classes, file: Path, scores: Floats, method: str | None) -> None:
    """Refuse scores that cannot be what the plan says they are."""
    exclusive = not part.multilabel and scores.shape[1] > 1
    outside = ((scores < -_ROUNDING) | (scores > 1 + _ROUNDING)).any(axis=1)
    off = np.abs(scores.sum(axis=1) - 1)
    where, which = f"{plan}: answer.{part.output}.scores", f"of {part.output}"
    shares = not outside.any() and (off <= _SUM_OFF_OF_PROBABILITIES).all()
    if part.scores == "softmax" and exclusive and shares and len(scores) > 1:
        raise ConfigError(
            f"{where} is softmax, which is for logits, and every row of {part.output} in {file} is from 0 to 1 and "
            'adds up to 1: they are probabilities already, so say scores = "none"'
        )
    bent = part.calibration if method is None else None
    if part.scores != "none" or method in ("platt", "isotonic") or (bent and (bent.platt or bent.isotonic)):
        return
    if outside.any():
        row = int(np.argmax(outside))
        raise ConfigError(
            f"{where} is none, which is for probabilities, and in {file} {place_of_row(file, row)} {which} has "
            f"{_most_outside(scores[row]):g}: say scores = {_for_logits(part, scores)} if they are logits, or learn "
            "with --method platt what makes probabilities of them"
        )
    if exclusive and (off > _SUM_OFF_MAX).any():
        row = int(np.argmax(off > _SUM_OFF_MAX))
        raise ConfigError(
            f"{where} is none, which is for probabilities of which one is right, and in {file} "
            f"{place_of_row(file, row)} {which} adds up to {scores[row].sum():g}, not 1: say multilabel = true if "
            "several can be right, or look at what wrote the table"
        )


def are_probabilities(rows: Floats) -> bool:
    """Return whether each row, shape (rows, classes), can be the probabilities of classes of which one is right."""
    inside = (rows >= -_ROUNDING).all() and (rows <= 1 + _ROUNDING).all()
    return bool(inside and (np.abs(rows.sum(axis=1) - 1) <= _SUM_OFF_MAX).all())


def _most_outside(row: Floats) -> float:
    return float(row[np.argmax(np.abs(row - 0.5))])


def _for_logits(part: Classes, scores: Floats) -> str:
    return '"sigmoid"' if part.multilabel or scores.shape[1] == 1 else '"softmax"'


def check_truth(file: Path, name: str, labels: Sequence[str], right: NDArray[Any]) -> None:
    """Refuse a truth of one class: it says nothing of the others."""
    if right.ndim == 2:
        if (right == right[:1]).all():
            raise ConfigError(f"{file}: {name}: every row is the same, so nothing can be learned from it")
    elif (right == right[0]).all():
        raise ConfigError(
            f"{file}: {name}: every row is {labels[int(right[0])]!r}, so nothing can be learned of the other labels: "
            "take rows as they come, of all labels"
        )


def doubts_of_scores(plan: Path, part: Classes, scores: Floats) -> Iterator[Doubt]:
    """Doubt logits that look like probabilities, of a model that is never sure, and scores that look like neither."""
    if part.scores == "none" and (scores >= 0).all():
        beyond = not are_probabilities(scores) if scores.shape[1] > 1 and not part.multilabel else (scores > 1).any()
        if beyond:
            yield Doubt(
                f"{plan}: answer.{part.output}.scores is none, and rows of {part.output} are no probabilities: the "
                f"first has {scores[0].max():g} and adds up to {scores[0].sum():g}. Look at what wrote the table"
            )
    if part.scores == "sigmoid" and len(scores) > 1 and (scores >= 0).all() and (scores <= 1).all():
        yield Doubt(
            f"{plan}: answer.{part.output}.scores is sigmoid, which is for logits, and every row of {part.output} is "
            'from 0 to 1: if they are probabilities already, say scores = "none"'
        )


def doubts_of_rows(method: str | None, rows: int, others: int) -> Iterator[Doubt]:
    """Doubt what was learned from few rows: `rows` for the method, `others` for sets and thresholds (0: for none)."""
    least = _ROWS_ENOUGH.get(method or "", 0)
    if rows < least:
        other = "" if least <= min(_ROWS_ENOUGH.values()) else ", or --method temperature, which learns one number"
        yield Doubt(f"{method} has learned from {rows} rows, and needs {least} or so: take more rows{other}")
    if 0 < others < _ROWS_ENOUGH_OTHERWISE:
        yield Doubt(
            f"what --alpha and --precision have learned is from {others} rows, and needs {_ROWS_ENOUGH_OTHERWISE} or "
            "so to hold for others: take more rows"
        )
