"""Members taken out of lines of NDJSON. They are carried as the text that they are: no number is read and rounded."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any, NamedTuple

from penstock.cli.batch.carried import Cut, RowFault
from penstock.cli.batch.choice import Choice
from penstock.cli.batch.texts import json_text, quoted

__all__ = ["JsonCutter", "first_look"]

_SCALAR = r'"[^"\\\x00-\x1f]*+"|-?(?:0|[1-9][0-9]*+)(?:\.[0-9]++)?(?:[eE][-+]?[0-9]++)?|true|false|null'
_SPACE = re.compile(r"[ \t\r]*")
# A member, and of one whose value has nothing inside the value and what is behind it.
_MEMBER = re.compile(rf'"([^"\\\x00-\x1f]*+)"[ \t\r]*:[ \t\r]*(?:({_SCALAR})[ \t\r]*([,}}])[ \t\r]*)?')
_WRAPPER = "inputs"
_Raw = tuple[str | None, ...]


class _Member(NamedTuple):
    """Where a member stands in its line: its beginning, that of its value, and the end of both."""

    name: str
    start: int
    value: int
    end: int


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no JSON")


# Values are only passed over, so numbers may be as long as they like.
_scan = json.JSONDecoder(parse_int=str, parse_float=str, parse_constant=_no_constant).raw_decode


def _members_of(line: str) -> list[_Member] | None:
    """Return the members of an object; None of anything else."""
    found: list[_Member] = []
    try:
        at = _space(line, 0)
        if line[at] != "{":
            return None
        at = _space(line, at + 1)
        behind = "," if line[at] != "}" else "}"
        at += behind == "}"
        while behind == ",":
            member = _MEMBER.match(line, at)
            if member is not None and member[2] is not None:
                found.append(_Member(member[1], at, member.start(2), member.end(2)))
                behind, at = member[3], member.end()
                continue
            one = _member(line, at)
            if one is None:
                return None
            found.append(one)
            at = _space(line, one.end)
            behind = line[at]
            at = _space(line, at + 1)
        return found if behind == "}" and _space(line, at) == len(line) else None
    except (IndexError, ValueError, RecursionError):
        return None


def _member(line: str, at: int) -> _Member | None:
    """Read a member of any kind, as Python reads JSON."""
    if line[at] != '"':
        return None
    name, end = _scan(line, at)
    colon = _space(line, end)
    if line[colon] != ":":
        return None
    value = _space(line, colon + 1)
    return _Member(name, at, value, _scan(line, value)[1])


def _space(line: str, at: int) -> int:
    found = _SPACE.match(line, at)
    return at if found is None else found.end()


class JsonCutter:
    """Carries some members, and takes these and others out of the lines. `sent` are those of both that stay."""

    def __init__(self, choice: Choice, sent: frozenset[str]) -> None:
        self._names = choice.keep
        self._gone = frozenset({*choice.keep, *choice.drop} - sent)
        keys = {name: json_text(name) for name in (*choice.keep, *choice.drop)}
        self._simple = [(name, key, name in self._gone, _simple(key)) for name, key in keys.items()]
        self.columns = [(name, None) for name in self._names]

    def cut(self, payload: bytes) -> Cut:
        """Cut lines."""
        sent: list[str] = []
        carried: list[_Raw] = []
        faults: dict[int, RowFault] = {}
        nothing = (None,) * len(self._names)
        text, broken = _decoded(payload)
        for each in text.split("\n"):
            line = each.strip(" \t\r")
            if not line:
                continue
            if broken and not _is_text(line):
                # The server refuses it, as everything else that is no JSON.
                sent.append(line)
                carried.append(nothing)
                continue
            left, values = self._cut_simply(line) or self._cut(line)
            if values is None and self._names and _is_value(line):
                names = ", ".join(self._names)
                detail = f'the row is no object that has {names} to keep: write it as {{NAME: VALUE, "inputs": ROW}}'
                faults[len(carried)] = RowFault("invalid_input", 422, detail)
                left = "{"
            sent.append(left)
            carried.append(nothing if values is None else values)
        lines = "\n".join([*sent, ""]).encode(errors="surrogateescape")
        return Cut(lines, _Members(self._names, carried) if self._names else None, faults)

    def _cut_simply(self, line: str) -> tuple[str, _Raw | None] | None:
        """Cut a line without objects inside and without escapes, the name of each member standing in it once."""
        if "\\" in line or line.count("{") != 1 or line[0] != "{":
            return None
        values: dict[str, str] = {}
        for name, key, is_gone, member in self._simple:
            at = line.find(key)
            if at < 0:
                continue
            found = member.match(line, at)
            if found is None or line.find(key, at + 1) >= 0 or line.count('"', 0, at) % 2:
                return None
            start = at - 2 if line[at - 1] == " " else at - 1
            before, behind = line[start], found[2]
            if before not in "{,":
                return None
            values[name] = found[1]
            if not is_gone:
                continue
            if behind == ",":
                line = line[: start + 1] + line[found.end() :]
            elif before == "{":
                line = "{" + line[found.start(2) :]
            elif line[start - 1] not in "{, ":
                line = line[:start] + line[found.start(2) :]
            else:
                return None
        return line, tuple([values.get(name) for name in self._names])

    def _cut(self, line: str) -> tuple[str, _Raw | None]:
        """Cut any line; without values where it is no object."""
        members = _members_of(line)
        if members is None:
            return line, None
        values: dict[str, str | None] = {}
        left: list[str] = []
        for name, start, value, end in members:
            # Of two of one name the last counts, as nearly everywhere; the server refuses two of an input.
            values[name] = line[value:end]
            if name in self._gone:
                continue
            if name == _WRAPPER and line[value] == "{":
                # The row may stand in {"inputs": ...}, and what is kept beside it or in it.
                inner, inside = self._cut(line[value:end])
                values = {**dict(zip(self._names, inside or (), strict=False)), **values}
                left.append(line[start:value] + inner)
            else:
                left.append(line[start:end])
        return "{" + ",".join(left) + "}", tuple(values.get(name) for name in self._names)


def first_look(payload: bytes) -> tuple[list[str], set[str]]:
    """Return the names of members that all objects of a chunk have, in their order, and those that any has."""
    common: list[str] | None = None
    seen: set[str] = set()
    for line in payload.decode(errors="replace").split("\n"):
        members = _members_of(line)
        if members is None:
            continue
        names = [each.name for each in members]
        for each in members:
            if each.name == _WRAPPER and (inner := _members_of(line[each.value : each.end])) is not None:
                names = [*(name for name in names if name != _WRAPPER), *(member.name for member in inner)]
        common = names if common is None else [name for name in common if name in names]
        seen.update(names)
    return common or [], seen


class _Members:
    """Values as they stand in the file; None where a row has none."""

    def __init__(self, names: Sequence[str], rows: Sequence[_Raw]) -> None:
        self._names = names
        self._rows = rows

    def members(self) -> Sequence[bytes]:
        """Return members: a row has those that it had; see Carried."""
        labels = [json_text(name) + ":" for name in self._names]
        return [
            "".join(f"{label}{raw}," for label, raw in zip(labels, row, strict=True) if raw is not None).encode()
            for row in self._rows
        ]

    def fields(self) -> Sequence[bytes]:
        """Return fields: strings as their text, other values as JSON; see Carried."""
        return ["".join(f"{quoted(_text(raw) or '')}," for raw in row).encode() for row in self._rows]

    def columns(self) -> Sequence[Sequence[str | None]]:
        """Return columns of text; see Carried."""
        return [[_text(row[place]) for row in self._rows] for place in range(len(self._names))]


def _decoded(payload: bytes) -> tuple[str, bool]:
    try:
        return payload.decode(), False
    except UnicodeDecodeError:
        return payload.decode(errors="surrogateescape"), True


def _is_text(line: str) -> bool:
    try:
        line.encode()
    except UnicodeEncodeError:
        return False
    return True


def _simple(key: str) -> re.Pattern[str]:
    """Match a member whose value has nothing inside: its value, and the end of the object or the comma of another."""
    return re.compile(rf'{re.escape(key)}[ \t]*:[ \t]*({_SCALAR})[ \t]*(,(?=[ \t]*")|\}})')


def _is_value(line: str) -> bool:
    """Whether a line that is no object is another value of JSON."""
    at = _space(line, 0)
    try:
        return line[at] != "{" and _space(line, _scan(line, at)[1]) == len(line)
    except (ValueError, RecursionError):
        return False


def _text(raw: str | None) -> str | None:
    """Return a string's text, other values as they are; None for null."""
    if raw is None or raw == "null":
        return None
    if not raw.startswith('"'):
        return raw
    text = json.loads(raw)
    # Half of a surrogate pair has no place outside of JSON.
    return raw if any("\ud800" <= mark <= "\udfff" for mark in text) else text
