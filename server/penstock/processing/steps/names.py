"""The steps of features by name.

Each is written as an object with a member that names it, {"impute": "median", "value": 28.0}. A number that is to be
learned is left out; fit.py finds it.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeAlias

from penstock.core.written_file import WrittenFile
from penstock.processing.steps.categories import Encode, Hash
from penstock.processing.steps.dates import Cycle, Date
from penstock.processing.steps.images import Picture
from penstock.processing.steps.numbers import Bin, Clip, Impute, Log, Missing, Power, Scale
from penstock.processing.steps.step import Step
from penstock.processing.steps.texts import Words
from penstock.processing.steps.tokens import Tokens

__all__ = ["STEPS", "read_step"]

_Read: TypeAlias = Callable[[WrittenFile, Mapping[str, Any], str], Step]
STEPS: Mapping[str, _Read] = {
    "impute": Impute.read,
    "missing": Missing.read,
    "scale": Scale.read,
    "clip": Clip.read,
    "log": Log.read,
    "power": Power.read,
    "bin": Bin.read,
    "encode": Encode.read,
    "hash": Hash.read,
    "date": Date.read,
    "cycle": Cycle.read,
    "image": Picture.read,
    "words": Words.read,
    "tokens": Tokens.read,
}


def read_step(reading: WrittenFile, value: object, where: str) -> Step:
    """Read a step; ModelLoadError names what is wrong in it."""
    members = reading.mapping(value, where)
    # The first member names the step: others may be called like one ("missing" of "encode").
    name = next(iter(members), "")
    if name not in STEPS:
        raise reading.error(where, f"must begin with one of {', '.join(STEPS)}")
    return STEPS[name](reading, members, where)
