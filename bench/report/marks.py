"""What is wrong with figures: marks beside rows with footnotes, and sentences for the top of a report."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence

from bench.report.findings import Cell, Findings

__all__ = ["Notes", "doubts", "percent"]


class Notes:
    """Footnotes of one table. Iterating gives their texts, complete once every row has been marked."""

    def __init__(self) -> None:
        self._void: dict[str, list[str]] = {}  # reasons that differ in their numbers only, by what they have in common
        self._foreign: list[float] = []
        self._order: list[str] = []

    def mark(self, cell: Cell) -> str:
        """Return VOID and NOISY with the numbers of their footnotes, and how many rounds if not all."""
        rounds = len(cell.samples)
        words = []
        reasons = [reason for sample in cell.samples for reason in sample.measurement.void]
        if reasons:
            for reason in reasons:
                self._void.setdefault(_shape(reason), []).append(reason)
            numbers = sorted({self._number(_shape(reason)) for reason in reasons})
            words.append(_word("VOID", cell.void_rounds, rounds, numbers))
        costs = [sample.measurement.cost for sample in cell.samples if sample.measurement.is_noisy]
        if costs:
            self._foreign += [cost.foreign_share for cost in costs if cost is not None]
            words.append(_word("NOISY", len(costs), rounds, [self._number("noisy")]))
        return " ".join(words)

    def __iter__(self) -> Iterator[str]:
        for number, key in enumerate(self._order, 1):
            yield f"[{number}] {self._noise() if key == 'noisy' else 'VOID: ' + _reasons(self._void[key])}"

    def _number(self, key: str) -> int:
        if key not in self._order:
            self._order.append(key)
        return self._order.index(key) + 1

    def _noise(self) -> str:
        least, most = min(self._foreign), max(self._foreign)
        shares = percent(most) if percent(least) == percent(most) else f"{percent(least)} to {percent(most)}"
        return f"NOISY: other work on the machine took {shares} of all cores meanwhile"


def percent(share: float) -> str:
    """Write a share as whole per cent."""
    return f"{share * 100:.0f} %"


def doubts(findings: Findings) -> list[str]:
    """Say in sentences what is wrong with the data, worst first; nothing when all is well."""
    found = []
    for scenario in findings.scenarios:
        cells = findings.of_scenario(scenario)
        samples = [sample for cell in cells for sample in cell.samples]
        reasons = [reason for sample in samples for reason in sample.measurement.void]
        if reasons:
            count = sum(bool(sample.measurement.void) for sample in samples)
            found.append(f"{scenario}: {count} of {len(samples)} runs are void: {_reasons(reasons)}.")
        noisy = [each.cost.foreign_share for sample in samples if (each := sample.measurement).is_noisy and each.cost]
        if noisy:
            share = f"up to {percent(max(noisy))} of all cores"
            found.append(f"{scenario}: {len(noisy)} of {len(samples)} runs are noisy: other work took {share}.")
        for cell in cells:
            if cell.latency(lambda each: each.p50) is None:
                found.append(f"{scenario}: {cell.server.target} answered nothing with 200, {cell.phase}.")
    return found + [f"Not run: {what}: {reason}" for what, reason in findings.not_run.items()] + _provenance(findings)


def _provenance(findings: Findings) -> list[str]:
    found = []
    if len({str(results.machine) for results in findings.results}) > 1:
        found.append("Results of different machines stand side by side.")
    if len({results.revision for results in findings.results}) > 1:
        found.append("Results of different revisions stand side by side.")
    if any(results.revision.endswith("+") for results in findings.results):
        found.append("The working tree was changed: the revision does not say all.")
    if findings.cells and all(len(cell.samples) == 1 for cell in findings.cells):
        found.append("Everything was measured in one round only: how much figures vary is not known.")
    return found


def _shape(reason: str) -> str:
    return re.sub(r"[\d.,]*\d", "#", reason)


def _word(word: str, count: int, rounds: int, numbers: Sequence[int]) -> str:
    of = "" if count == rounds else f" {count}/{rounds}"
    return f"{word}{of} " + "".join(f"[{number}]" for number in numbers)


def _reasons(reasons: Sequence[str]) -> str:
    alike = len(reasons) - 1
    more = f" (and {alike} more like it)" if alike else ""
    return reasons[0] + more
