"""Figures beside what they must be."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from penstock.load.measurement import Measurement

__all__ = ["Verdict", "at_least", "at_most", "note_of", "print_verdicts", "shown"]


@dataclass(frozen=True, slots=True)
class Verdict:
    """One figure and whether it is good enough."""

    what: str
    wanted: str
    got: str
    reached: bool
    note: str = ""


def at_least(what: str, value: float, bound: float, got: str, note: str = "") -> Verdict:
    """Judge a figure that may not be lower."""
    return Verdict(what, f"at least {bound:g}", got, value >= bound, note)


def at_most(what: str, value: float, bound: float, got: str, note: str = "") -> Verdict:
    """Judge a figure that may not be higher."""
    return Verdict(what, f"at most {bound:g}", got, value <= bound, note)


def note_of(runs: Sequence[Measurement]) -> str:
    """Say how many runs other work on the machine disturbed."""
    noisy = sum(run.is_noisy for run in runs)
    return f"NOISY in {noisy} of {len(runs)} runs" if noisy else ""


def shown(verdicts: Iterable[Verdict]) -> list[Verdict]:
    """Print each verdict when it is there; all of them."""
    found = []
    for verdict in verdicts:
        found.append(verdict)
        print(f"{_word(verdict):8} {verdict.what}: {verdict.got} (wanted {verdict.wanted})", flush=True)
    return found


def print_verdicts(verdicts: Sequence[Verdict]) -> None:
    """Print all verdicts as a table."""
    print("\n| figure | wanted | got | verdict |\n|---|---|---|---|")
    for verdict in verdicts:
        print(f"| {verdict.what} | {verdict.wanted} | {verdict.got} | {_word(verdict)} |")


def _word(verdict: Verdict) -> str:
    return ("reached" if verdict.reached else "MISSED") + (f", {verdict.note}" if verdict.note else "")
