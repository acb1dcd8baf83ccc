"""What becomes of a model's outputs: the member `answer` of a plan, read and checked.

Its members are names of outputs. One with `scores` is a classifier's, {"drop": true} is left out, any other holds
numbers; an output that is not named stays as it is.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, TypeAlias

from penstock.core.written_file import WrittenFile
from penstock.processing.answers.classes import Classes, read_classes
from penstock.processing.answers.numbers import Numbers, read_numbers

__all__ = ["Answer", "read_answer"]

# By output; nothing for one that is left out.
Answer: TypeAlias = Mapping[str, tuple[Classes | Numbers, ...]]


def read_answer(reading: WrittenFile, members: Mapping[str, Any], where: str = "answer") -> Answer:
    """Read it; ModelLoadError names what is wrong in it, and where. What the model must have is checked with it."""
    return {output: _parts(reading, output, value, f"{where}.{output}") for output, value in members.items()}


def _parts(reading: WrittenFile, output: str, value: object, where: str) -> tuple[Classes | Numbers, ...]:
    members = reading.mapping(value, where)
    if "drop" in members:
        reading.members(members, where, needed=("drop",))
        if not reading.flag(members["drop"], f"{where}.drop"):
            raise reading.error(f"{where}.drop", "is false: leave the output out, and it stays as it is")
        return ()
    if "scores" in members:
        return (read_classes(reading, output, members, where),)
    if "columns" not in members:
        return (read_numbers(reading, output, members, where, output),)
    reading.members(members, where, needed=("columns",))
    columns = reading.items(members["columns"], f"{where}.columns", "columns, one for each element", least=1)
    parts = []
    for element, column in enumerate(columns):
        at = f"{where}.columns[{element}]"
        of = {"name": column} if isinstance(column, str) else reading.mapping(column, at)
        if of == {"drop": True}:
            continue
        if "name" not in of:
            raise reading.error(at, "has no member 'name', what its output is called")
        numbers = read_numbers(reading, output, of, at, "", shaped=False)
        parts.append(replace(numbers, element=element, elements=len(columns), shape=()))
    return tuple(parts)
