"""Steps for dates and what comes round again."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from penstock.core.written_file import WrittenFile
from penstock.processing.steps.step import Column, Steps

__all__ = ["Cycle", "Date"]

_DATE_PARTS = ("year", "month", "day", "weekday", "day-of-year", "hour", "minute", "second")


@dataclass(frozen=True, slots=True)
class Date:
    """Parts of a moment, in UTC; Monday is weekday 0."""

    parts: tuple[str, ...]

    @classmethod
    def read(cls, reading: WrittenFile, members: Mapping[str, Any], where: str) -> Date:
        reading.members(members, where, needed=("date",))
        parts = reading.items(members["date"], f"{where}.date", "parts of a date", least=1)
        return cls(tuple(reading.choice(part, f"{where}.date", _DATE_PARTS) for part in parts))

    def members(self) -> dict[str, Any]:
        return {"date": list(self.parts)}

    def emit(self, steps: Steps, column: Column) -> list[Column]:
        return [
            Column(steps.add("date_part", column.x, a=float(_DATE_PARTS.index(part))), f"{column.name} {part}")
            for part in self.parts
        ]


@dataclass(frozen=True, slots=True)
class Cycle:
    """Sine and cosine of a number that comes round again after a period: 24 for hours, 7 for weekdays."""

    period: float

    @classmethod
    def read(cls, reading: WrittenFile, members: Mapping[str, Any], where: str) -> Cycle:
        reading.members(members, where, needed=("cycle",))
        period = reading.number(members["cycle"], f"{where}.cycle")
        if period <= 0:
            raise reading.error(f"{where}.cycle", f"is {period}: a period is more than 0")
        return cls(period)

    def members(self) -> dict[str, Any]:
        return {"cycle": self.period}

    def emit(self, steps: Steps, column: Column) -> list[Column]:
        factor = 2 * math.pi / self.period
        return [
            Column(steps.add("sine", column.x, a=factor), f"{column.name} sine"),
            Column(steps.add("cosine", column.x, a=factor), f"{column.name} cosine"),
        ]
