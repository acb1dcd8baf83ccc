"""A JSON or TOML file that a person wrote, read member by member: faults say where, and what would be right."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from penstock.core.errors import ModelLoadError

__all__ = ["WrittenFile", "shown"]


class WrittenFile:
    """Reads one file. `where` is a member's path in it, such as inputs[0].shape; "" is the whole document.

    Every method raises ModelLoadError when something else is there than it promises to return.
    """

    def __init__(self, file: Path, kind: str, bytes_max: int, example: str = "") -> None:
        """`kind` is what the file is to be, in a sentence; `example` is shown where a member is missing."""
        self.file = file
        self._kind = kind
        self._bytes_max = bytes_max
        self._example = f". A {kind} looks like this:\n{example}" if example else ""

    def error(self, where: str, text: str) -> ModelLoadError:
        """Return an error to raise."""
        return ModelLoadError(f"{self.file}: {where + ' ' if where else ''}{text}")

    def document(self) -> Mapping[str, Any]:
        """Return the whole document."""
        toml = self.file.suffix == ".toml"
        try:
            if self.file.stat().st_size > self._bytes_max:
                raise self.error("", f"has more than {self._bytes_max} bytes: it can be no {self._kind}")
            text = self.file.read_text("utf-8")
            document = (
                tomllib.loads(text)
                if toml
                else json.loads(text, object_pairs_hook=_without_repeats, parse_constant=_no_constant)
            )
        except OSError as error:
            raise self.error("", f"cannot be read: {error.strerror}") from error
        except (ValueError, RecursionError) as error:
            raise self.error("", f"is no {'TOML' if toml else 'JSON'} in UTF-8 ({error}): mend it there") from error
        return self.mapping(document, "")

    def mapping(self, value: object, where: str) -> Mapping[str, Any]:
        """Return an object."""
        if not isinstance(value, dict):
            raise self.error(where, f"is {shown(value)}: it must be an object, {{...}}")
        return value

    def members(
        self, value: Mapping[str, Any], where: str, *, needed: Sequence[str] = (), allowed: Sequence[str] = ()
    ) -> None:
        """Check that an object has all of `needed`, and besides only what is in `allowed`."""
        for name in needed:
            if name not in value:
                raise self.error(where, f"has no member {name!r}{self._example}")
        for name in value:
            if name not in needed and name not in allowed:
                raise self.error(
                    where, f"has a member {name!r}, which means nothing: it can be {', '.join([*needed, *allowed])}"
                )

    def items(self, value: object, where: str, of: str, *, least: int = 0) -> Sequence[Any]:
        """Return a list; `of` says what it is to hold."""
        if not isinstance(value, list) or len(value) < least:
            raise self.error(where, f"is {shown(value)}: it must be a list of {of}")
        return value

    def text(self, value: object, where: str) -> str:
        """Return a string that is not empty."""
        if not isinstance(value, str) or not value:
            raise self.error(where, f"is {shown(value)}: it must be a string that is not empty")
        return value

    def choice(self, value: object, where: str, choices: Sequence[str]) -> str:
        """Return one of `choices`."""
        if not isinstance(value, str) or value not in choices:
            raise self.error(where, f"is {shown(value)}: it must be one of {', '.join(choices)}")
        return value

    def number(self, value: object, where: str) -> float:
        """Return a finite number."""
        if isinstance(value, bool) or not isinstance(value, int | float) or not abs(value) < float("inf"):
            raise self.error(where, f"is {shown(value)}: it must be a number")
        return float(value)

    def whole(self, value: object, where: str, *, least: int = 0) -> int:
        """Return a whole number of at least `least`."""
        if type(value) is not int or value < least:
            raise self.error(where, f"is {shown(value)}: it must be a whole number from {least} on")
        return value

    def flag(self, value: object, where: str) -> bool:
        """Return true or false."""
        if not isinstance(value, bool):
            raise self.error(where, f"is {shown(value)}: it must be true or false")
        return value


def shown(value: object) -> str:
    """Return a value as JSON, cut where it is long."""
    text = json.dumps(value, default=str)
    return text if len(text) <= 60 else f"{text[:57]}..."


def _without_repeats(pairs: list[tuple[str, object]]) -> dict[str, object]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        raise ValueError(f"member {next(name for name in names if names.count(name) > 1)!r} occurs twice")
    return members


def _no_constant(name: str) -> object:
    raise ValueError(f"{name} is no number in JSON")
