"""The file of a plan: the record that clients send, the features made of it, the answer made of the model's outputs."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from penstock.core.written_file import WrittenFile
from penstock.processing.answers.answer import read_answer
from penstock.processing.plan_files import FILE_BYTES_MAX
from penstock.processing.record import FieldKind, Record, read_record
from penstock.processing.steps.images import Picture
from penstock.processing.steps.names import read_step
from penstock.processing.steps.step import Step

__all__ = ["COMBINATIONS", "Feature", "Plan", "read_plan"]

COMBINATIONS = ("ratio", "difference", "product", "sum")
_FORMAT = 1
_EXAMPLE = """{
  "format": 1,
  "record": {"age": {"type": ["number", "null"], "minimum": 0}, "sex": {"enum": ["female", "male"]}},
  "features": [
    {"column": "age", "steps": [{"impute": "median", "value": 28.0}]},
    {"column": "sex", "steps": [{"encode": "one-hot", "numbers": [["female", 0], ["male", 1]], "width": 2}]}
  ]
}
"""


@dataclass(frozen=True, slots=True)
class Feature:
    """A field, an earlier feature or a combination of two, and the steps it goes through.

    A hidden one is there for others to use. `into` is the input of the model that its columns are part of; empty where
    only one is left.
    """

    name: str
    sources: tuple[str, ...]
    combination: str = ""
    steps: tuple[Step, ...] = ()
    hidden: bool = False
    into: str = ""

    def members(self) -> dict[str, Any]:
        """Return it as the file has it."""
        what: dict[str, Any] = (
            {self.combination: list(self.sources)} if self.combination else {"column": self.sources[0]}
        )
        if self.name != self.sources[0]:
            what["name"] = self.name
        if self.steps:
            what["steps"] = [step.members() for step in self.steps]
        return what | ({"hidden": True} if self.hidden else {}) | ({"into": self.into} if self.into else {})


@dataclass(frozen=True, slots=True)
class Plan:
    """What a file says; `answer` as it is written there."""

    file: Path
    record: Record | None = None
    features: tuple[Feature, ...] = ()
    answer: Mapping[str, Any] | None = None

    def document(self) -> dict[str, Any]:
        """Return what read_plan() takes."""
        document: dict[str, Any] = {"format": _FORMAT}
        if self.record is not None:
            document["record"] = self.record.schema
        if self.features:
            document["features"] = [feature.members() for feature in self.features]
        return document | ({"answer": self.answer} if self.answer else {})


def read_plan(file: Path, schema_of: Callable[[Path, str], Mapping[str, Any]] | None = None) -> Plan:
    """Read a plan; ModelLoadError names the file and the place in it, and says what would be right.

    `schema_of`, given the file's folder and "FILE.py:CLASS", describes a record that is a Python class.
    """
    reading = WrittenFile(file, "plan", FILE_BYTES_MAX, _EXAMPLE)
    document = reading.document()
    reading.members(document, "", needed=("format",), allowed=("record", "features", "answer"))
    if document["format"] != _FORMAT:
        raise reading.error("format", f"is {document['format']}: this release reads {_FORMAT}")
    record = None
    if "record" in document:
        record = read_record(reading, _schema(reading, document["record"], schema_of))
    features: list[Feature] = []
    for place, value in enumerate(reading.items(document.get("features", []), "features", "features")):
        for feature in _features(reading, value, f"features[{place}]"):
            if feature.name in (other.name for other in features):
                raise reading.error(
                    f"features[{place}].name", f"is {feature.name!r} for the second time: give it another name"
                )
            features.append(feature)
    if record is not None:
        record = _with_pictures(record, features)
    answer = reading.mapping(document["answer"], "answer") if "answer" in document else None
    if answer is not None:
        read_answer(reading, answer)
    if record is None and not answer:
        raise reading.error("", "has neither a record nor an answer: it would change nothing")
    if features and record is None:
        raise reading.error("features", "need a record, whose fields they are made of")
    return Plan(file, record, tuple(features), answer)


def _schema(
    reading: WrittenFile, record: object, schema_of: Callable[[Path, str], Mapping[str, Any]] | None
) -> Mapping[str, Any]:
    if not isinstance(record, str):
        return reading.mapping(record, "record")
    if schema_of is None:
        raise reading.error("record", f"names a Python class: penstock fit {reading.file.name} puts its schema there")
    return schema_of(reading.file.parent, record)


def _features(reading: WrittenFile, value: object, where: str) -> Iterator[Feature]:
    members = reading.mapping(value, where)
    kinds = [name for name in ("column", "columns", *COMBINATIONS) if name in members]
    if len(kinds) != 1:
        raise reading.error(where, f"must have exactly one of column, columns, {', '.join(COMBINATIONS)}")
    kind = kinds[0]
    reading.members(members, where, needed=(kind,), allowed=("name", "steps", "hidden", "into"))
    steps = tuple(
        read_step(reading, step, f"{where}.steps[{place}]")
        for place, step in enumerate(reading.items(members.get("steps", []), f"{where}.steps", "steps"))
    )
    hidden = reading.flag(members.get("hidden", False), f"{where}.hidden")
    into = reading.text(members["into"], f"{where}.into") if "into" in members else ""
    if kind in COMBINATIONS:
        operands = _names(reading, members[kind], f"{where}.{kind}")
        if len(operands) != 2:
            raise reading.error(f"{where}.{kind}", f"names {len(operands)} columns: it takes two")
        name = reading.text(members.get("name", f"{operands[0]} {kind} {operands[1]}"), f"{where}.name")
        yield Feature(name, operands, kind, steps, hidden, into)
        return
    columns = _names(reading, members[kind] if kind == "columns" else [members[kind]], f"{where}.{kind}")
    if "name" in members and len(columns) > 1:
        raise reading.error(f"{where}.name", "cannot be that of several columns")
    for column in columns:
        yield Feature(reading.text(members.get("name", column), f"{where}.name"), (column,), "", steps, hidden, into)


def _with_pictures(record: Record, features: Sequence[Feature]) -> Record:
    """Give fields that are images the size that their feature makes of them."""
    steps = {feature.sources[0]: feature.steps[0] for feature in features if len(feature.steps) == 1}
    fields = []
    for field in record.fields:
        if field.kind is FieldKind.IMAGE:
            step = steps.get(field.name)
            # Without an image step the model decodes the file itself.
            if isinstance(step, Picture):
                field = replace(field, dtype="uint8", shape=(*step.size, step.channels))
        fields.append(field)
    return replace(record, fields=tuple(fields))


def _names(reading: WrittenFile, value: object, where: str) -> tuple[str, ...]:
    items = reading.items(value, where, "columns", least=1)
    return tuple(reading.text(item, f"{where}[{place}]") for place, item in enumerate(items))
