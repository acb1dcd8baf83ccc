"""What checks come to: passed, failed or skipped, each with a reason, and the report of a whole test."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum

__all__ = ["Check", "Outcome", "Report", "failed", "passed", "skipped"]


class Outcome(StrEnum):
    """What became of a check."""

    PASSED = "passed"
    FAILED = "failed"
    SKIPPED = "skipped"


@dataclass(frozen=True, slots=True)
class Check:
    """One check.

    Attributes:
        group: golden, fuzz, latency, accuracy or server.
        name: Which of the group.
        outcome: What became of it.
        detail: Why; what was measured. Its first line says it all.
        figures: What was measured, as numbers.
        seconds: How long it took.
    """

    group: str
    name: str
    outcome: Outcome
    detail: str
    figures: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class Report:
    """All checks of a model."""

    model: str
    version: str
    checks: Sequence[Check]
    started: str
    seconds: float
    seed: int
    properties: Mapping[str, str] = field(default_factory=dict)

    @property
    def ok(self) -> bool:
        """Whether none failed."""
        return self.count(Outcome.FAILED) == 0

    def count(self, outcome: Outcome) -> int:
        """Return how many checks have this outcome."""
        return sum(check.outcome is outcome for check in self.checks)


def passed(group: str, name: str, detail: str, figures: Mapping[str, float] | None = None) -> Check:
    """Return a check that is passed."""
    return Check(group, name, Outcome.PASSED, detail, figures or {})


def failed(group: str, name: str, detail: str, figures: Mapping[str, float] | None = None) -> Check:
    """Return a check that has failed."""
    return Check(group, name, Outcome.FAILED, detail, figures or {})


def skipped(group: str, name: str, why: str) -> Check:
    """Return a check that was not made; it says why."""
    return Check(group, name, Outcome.SKIPPED, why)
