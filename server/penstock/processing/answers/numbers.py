"""Numbers in an answer: how an output gets back to the unit that people know."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from penstock.core.written_file import WrittenFile, shown
from penstock.processing.answers.classes import read_alpha, read_quantile
from penstock.processing.steps.names import read_step
from penstock.processing.steps.numbers import Log, Power, Scale
from penstock.processing.steps.step import Step

__all__ = ["Interval", "Numbers", "read_numbers"]

_NUMBER_DTYPES = (
    *("float16", "float32", "float64"),
    *("int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
)
_DECIMALS_MAX = 15
_NUMBER_MEMBERS = ("name", "unit", "inverse", "minimum", "maximum", "round", "cast", "interval")


@dataclass(frozen=True, slots=True)
class Interval:
    """It reaches `quantile` to both sides, or so many times what the output `by` says. Without it is to be learned."""

    alpha: float
    quantile: float | None = None
    by: str = ""


@dataclass(frozen=True, slots=True)
class Numbers:
    """An output, or one element of as many as the plan names. `inverse` are the steps that the target went through."""

    output: str
    name: str
    element: int | None = None
    elements: int = 0
    unit: str = ""
    inverse: tuple[Step, ...] = ()
    minimum: float = -math.inf
    maximum: float = math.inf
    decimals: int | None = None
    cast: str = ""
    shape: tuple[int, ...] | None = None
    interval: Interval | None = None

    @property
    def computes(self) -> bool:
        """Whether its numbers are others than the model's, or have another type."""
        plain = replace(self, name="", unit="", shape=None)
        return plain != Numbers(self.output, "")


def read_numbers(
    reading: WrittenFile, output: str, members: Mapping[str, Any], where: str, name: str, *, shaped: bool = True
) -> Numbers:
    """Read it; without a member `name` its name is this. Not `shaped`: it is one element."""
    others = ("shape", "columns", "scores", "drop") if shaped else ()
    reading.members(members, where, allowed=(*_NUMBER_MEMBERS, *others))
    least, most = (
        reading.number(members[bound], f"{where}.{bound}") if bound in members else default
        for bound, default in (("minimum", -math.inf), ("maximum", math.inf))
    )
    if least > most:
        raise reading.error(f"{where}.minimum", f"is {least:g}, which is above maximum {most:g}")
    decimals = reading.whole(members["round"], f"{where}.round") if "round" in members else None
    if decimals is not None and decimals > _DECIMALS_MAX:
        raise reading.error(f"{where}.round", f"is {decimals}: a float64 has no more than {_DECIMALS_MAX} decimals")
    return Numbers(
        output,
        reading.text(members["name"], f"{where}.name") if "name" in members else name,
        None,
        0,
        reading.text(members["unit"], f"{where}.unit") if "unit" in members else "",
        _inverse(reading, members.get("inverse", []), f"{where}.inverse"),
        least,
        most,
        decimals,
        reading.choice(members["cast"], f"{where}.cast", _NUMBER_DTYPES) if "cast" in members else "",
        _shape(reading, members["shape"], f"{where}.shape") if "shape" in members else None,
        _interval(reading, members["interval"], f"{where}.interval") if "interval" in members else None,
    )


def _inverse(reading: WrittenFile, value: object, where: str) -> tuple[Step, ...]:
    steps = []
    for place, item in enumerate(reading.items(value, where, "steps")):
        at = f"{where}[{place}]"
        step = read_step(reading, item, at)
        if not isinstance(step, Scale | Log | Power):
            raise reading.error(at, f"is {shown(item)}: only scale, log and power can be undone")
        missing = [name for name in _numbers_of(step) if name not in item]
        if missing:
            raise reading.error(at, f"has no member {missing[0]!r}: only with its numbers can it be undone")
        if isinstance(step, Scale) and step.center == 0 and step.kind == "min-max":
            raise reading.error(f"{at}.factor", "is 0: that cannot be undone")
        steps.append(step)
    return tuple(steps)


def _numbers_of(step: Step) -> Sequence[str]:
    if isinstance(step, Scale):
        return ("factor", "offset") if step.kind == "min-max" else ("center", "width")
    return ("lambda",) if isinstance(step, Power) else ()


def _shape(reading: WrittenFile, value: object, where: str) -> tuple[int, ...]:
    return tuple(
        reading.whole(size, f"{where}[{place}]", least=1)
        for place, size in enumerate(reading.items(value, where, "sizes"))
    )


def _interval(reading: WrittenFile, value: object, where: str) -> Interval:
    members = reading.mapping(value, where)
    reading.members(members, where, needed=("alpha",), allowed=("quantile", "by"))
    quantile = read_quantile(reading, members, where)
    by = reading.text(members["by"], f"{where}.by") if "by" in members else ""
    return Interval(read_alpha(reading, members["alpha"], f"{where}.alpha"), quantile, by)
