"""Schema fuzz: rows made from a model's schema, and what must come of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum

from penstock.testing.answers import length_of, not_finite, wrong_outputs
from penstock.testing.asking import Answer, GoneError, ask, minimised, to_repeat
from penstock.testing.checks import Check, failed, passed, skipped
from penstock.testing.rows import Example, Kind, PlainRow, examples_of
from penstock.testing.sameness import check_batch, check_binary, check_msgpack, check_repeated
from penstock.testing.target import Target, workers_of

__all__ = ["Extremes", "FuzzOptions", "check_fuzz"]

GROUP = "fuzz"
# Statuses that are about the row; another 4xx is about who asks, or how often.
_ABOUT_THE_ROW = (400, 413, 422)
_SHOWN_MAX = 3
_TITLES = {
    Kind.VALID: "valid rows are answered",
    Kind.EXTREME: "extreme rows are answered",
    Kind.INVALID: "invalid rows are refused",
}
_WORKERS = "no worker died"
_SAMENESS = {
    "JSON and msgpack agree": check_msgpack,
    "JSON and binary tensors agree": check_binary,
    "a row alone and in a batch agree": check_batch,
    "a row answered twice agrees": check_repeated,
}


class Extremes(StrEnum):
    """What a model owes rows that its types allow and nothing else forbids, such as NaN."""

    ANSWER = "answer"
    REFUSE = "refuse"
    OFF = "off"


@dataclass(frozen=True, slots=True)
class FuzzOptions:
    """How a model is tried.

    Attributes:
        rows: How many rows of each kind.
        seed: What they are made from.
        extremes: Whether extreme rows must be answered, may be refused by the model, or are not sent.
        non_finite: Whether valid rows may be answered with NaN or infinity.
        rtol: By how much a row alone may differ from the same in a batch, relatively.
        atol: Likewise, absolutely.
    """

    rows: int = 100
    seed: int = 1
    extremes: Extremes = Extremes.ANSWER
    non_finite: bool = False
    rtol: float = 1e-4
    atol: float = 1e-5


def check_fuzz(target: Target, options: FuzzOptions = FuzzOptions()) -> Iterator[Check]:
    """Try a model with rows that its schema allows, and with others."""
    examples = examples_of(target, options.rows, options.seed)
    before = workers_of(target)
    answered: list[Example] = []
    gone = ""
    for kind in Kind:
        of_kind = [example for example in examples if example.kind is kind]
        if gone:
            yield failed(GROUP, _TITLES[kind], f"not tried: {gone}")
        elif kind is Kind.EXTREME and options.extremes is Extremes.OFF:
            yield skipped(GROUP, _TITLES[kind], "extremes = off")
        elif not of_kind:
            yield skipped(GROUP, _TITLES[kind], "the schema has none")
        else:
            check, good, gone = _tried(target, kind, of_kind, options)
            answered += good
            yield check
    for title, made in _SAMENESS.items():
        yield _sameness(title, made, target, answered, options, gone)
    yield _workers(target, before, gone)


def _sameness(
    title: str,
    made: Callable[..., Check],
    target: Target,
    answered: Sequence[Example],
    options: FuzzOptions,
    gone: str,
) -> Check:
    if gone:
        return failed(GROUP, title, f"not tried: {gone}")
    # What an extreme number becomes in a batch of another size is not for a tolerance to say.
    rows = [example.row for example in answered if example.kind is Kind.VALID]
    if not rows:
        return failed(GROUP, title, "not tried: no valid row was answered")
    try:
        return made(title, target, rows, options.rtol, options.atol)
    except GoneError as error:
        return failed(GROUP, title, str(error))


@dataclass(frozen=True, slots=True)
class _Fault:
    example: Example
    what: str
    gone: bool = False


def _tried(
    target: Target, kind: Kind, examples: Sequence[Example], options: FuzzOptions
) -> tuple[Check, list[Example], str]:
    """Send rows of a kind; the check, those that were answered, and why no more can be sent if that is so."""
    faults: list[_Fault] = []
    answered: list[Example] = []
    gone = ""
    for example in examples:
        try:
            answer = ask(target, example.row)
        except GoneError as error:
            gone = f"row {example.number} ({example.about}) ended it: {error}"
            faults.append(_Fault(example, str(error), gone=True))
            break
        if answer.status == 200:
            answered.append(example)
        what = _fault_of(target, example, answer, options)
        if what:
            faults.append(_Fault(example, what, answer.gone))
        if answer.gone:
            gone = f"row {example.number} ({example.about}) ended it: {answer}"
            break
    figures = {"rows": len(examples), "failed": len(faults)}
    if not faults:
        ending = {"valid": "answered as declared", "extreme": "taken well", "invalid": "refused"}[kind.value]
        return passed(GROUP, _TITLES[kind], f"{len(examples)} rows {ending}", figures), answered, gone
    lines = [f"{len(faults)} of {len(examples)} rows; seed {options.seed}"]
    shown = list({fault.what: fault for fault in reversed(faults)}.values())[::-1][:_SHOWN_MAX]
    for fault in shown:
        lines += [f"row {fault.example.number} ({fault.example.about}): {fault.what}"]
        lines += [f"  {to_repeat(target, _smallest(target, fault, examples[0].row, options))}"]
    if len(faults) > len(shown):
        lines.append(f"and {len(faults) - len(shown)} more")
    return failed(GROUP, _TITLES[kind], "\n".join(lines), figures), answered, gone


def _fault_of(target: Target, example: Example, answer: Answer, options: FuzzOptions) -> str:
    """Say what is wrong with an answer; empty when nothing is."""
    if example.kind is Kind.INVALID:
        if answer.status == 200:
            return "it was answered, and should have been refused"
        return "" if answer.status in _ABOUT_THE_ROW else f"it should have been refused as 400, 413 or 422: {answer}"
    if answer.status != 200:
        text_too_long = example.kind is Kind.EXTREME and answer.status in _ABOUT_THE_ROW
        refused = options.extremes is Extremes.REFUSE and answer.code == "model_error"
        if text_too_long or (example.kind is Kind.EXTREME and refused):
            return ""
        return str(answer)
    wrong = wrong_outputs(answer.outputs, target.outputs, length_of(example.row, target.inputs))
    if not wrong and example.kind is Kind.VALID and not options.non_finite:
        wrong = not_finite(answer.outputs)
    return wrong


def _smallest(target: Target, fault: _Fault, plain: PlainRow, options: FuzzOptions) -> PlainRow:
    if fault.gone or fault.example.kind is Kind.INVALID:
        return fault.example.row  # not again what kills; and what is invalid is special in one thing only

    def fails(row: PlainRow) -> bool:
        tried = Example(fault.example.number, fault.example.kind, row, "")
        try:
            answer = ask(target, row)
        except GoneError:
            return False
        return _fault_of(target, tried, answer, options) == fault.what

    return minimised(fault.example.row, plain, fails)


def _workers(target: Target, before: dict[int, tuple[int | None, int]], gone: str) -> Check:
    if gone:
        # The server may be about to notice.
        return failed(GROUP, _WORKERS, gone)
    try:
        after = workers_of(target)
    except Exception as error:
        return failed(GROUP, _WORKERS, f"the server says nothing of its workers any more: {error}")
    changed = [number for number in before if before[number] != after.get(number)]
    if changed:
        return failed(GROUP, _WORKERS, f"{len(changed)} of {len(before)} workers ended while rows were sent")
    return passed(GROUP, _WORKERS, f"{len(before)} worker{'' if len(before) == 1 else 's'}, none restarted")
