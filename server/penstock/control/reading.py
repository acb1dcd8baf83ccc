"""Bodies and queries as typed values. What is missing, unknown or of another type is refused by its name."""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any, NoReturn, TypeVar

from flask import request

from penstock.core.errors import RequestError
from penstock.core.settings import Name

__all__ = ["Members", "body", "parse_json", "query", "read_name"]

_E = TypeVar("_E", bound=StrEnum)

_NAME = Name()


class Members:
    """The members of a JSON object, taken out one by one; done() refuses what nobody has taken.

    With `text`, every value came as a string, as those of a query do: numbers, lists and objects are JSON in it.
    """

    def __init__(self, values: Mapping[str, object], where: str = "", *, text: bool = False) -> None:
        self._values = dict(values)
        self._where = where
        self._text = text
        self._known: set[str] = set()

    def has(self, name: str) -> bool:
        """Whether the member is there, be it null."""
        return name in self._values

    def done(self) -> None:
        """Refuse members that have no meaning here."""
        for name in self._values:
            if name in self._known:
                continue
            near = difflib.get_close_matches(name, sorted(self._known), n=1)
            known = ", ".join(sorted(self._known))
            hint = f"did you mean {near[0]!r}?" if near else f"known are {known}" if known else "nothing is taken here"
            raise RequestError("invalid_input", f"{self._where}{name[:100]}: no such member; {hint}")

    def text(self, name: str, default: str | None = None, *, bytes_max: int = 4096) -> str:
        """Take a string; without a default it must be there."""
        value = self._take(name)
        if value is None and default is not None:
            return default
        if not isinstance(value, str) or "\0" in value or (default is None and not value.strip()):
            self._refuse(name, "a string", value)
        if len(value.encode(errors="replace")) > bytes_max:
            self._refuse(name, f"a string of at most {bytes_max} bytes", f"{value[:40]}...")
        return value

    def text_or_none(self, name: str) -> str | None:
        """Take a string that may be null or missing."""
        return None if self._take(name) is None else self.text(name)

    def name(self, name: str) -> str:
        """Take a name of a model, an alias or a version."""
        return read_name(self.text(name), f"{self._where}{name}")

    def name_or_none(self, name: str) -> str | None:
        """Take a name that may be null or missing."""
        return None if self._take(name) is None else self.name(name)

    def flag(self, name: str, default: bool) -> bool:
        """Take true or false."""
        value = self._parsed(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            self._refuse(name, "true or false", value)
        return value

    def whole(self, name: str, default: int, minimum: int, maximum: int) -> int:
        """Take a whole number between two bounds, both allowed."""
        value = self.whole_or_none(name, minimum, maximum)
        return default if value is None else value

    def whole_or_none(self, name: str, minimum: int, maximum: int) -> int | None:
        """Take a whole number between two bounds, both allowed, that may be null or missing."""
        value = self._parsed(name)
        if value is None:
            return None
        if not isinstance(value, int) or isinstance(value, bool) or not minimum <= value <= maximum:
            self._refuse(name, f"a whole number from {minimum} to {maximum}", value)
        return value

    def number(self, name: str, default: float, minimum: float, maximum: float) -> float:
        """Take a number between two bounds, both allowed."""
        value = self._parsed(name)
        if value is None:
            return default
        if not _is_number(value) or not minimum <= value <= maximum:
            self._refuse(name, f"a number from {minimum:g} to {maximum:g}", value)
        return float(value)

    def one_of(self, name: str, choices: type[_E], default: _E | None = None) -> _E:
        """Take one of an enumeration's words."""
        value = self._take(name)
        if value is None and default is not None:
            return default
        if value not in list(choices):
            self._refuse(name, "one of " + ", ".join(repr(choice.value) for choice in choices), value)
        return choices(value)

    def texts(self, name: str) -> tuple[str, ...]:
        """Take a list of strings; an empty one when it is missing."""
        value = self._parsed(name)
        if value is None:
            return ()
        if not isinstance(value, list) or not all(isinstance(item, str) and item for item in value):
            self._refuse(name, "a list of strings", value)
        return tuple(value)

    def text_table(self, name: str) -> dict[str, str]:
        """Take an object of strings; an empty one when it is missing."""
        return self._table(name, "an object whose values are strings", lambda value: isinstance(value, str))

    def number_table(self, name: str) -> dict[str, float]:
        """Take an object of finite numbers; an empty one when it is missing."""
        return self._table(name, "an object whose values are numbers", _is_number)

    def table(self, name: str) -> dict[str, Any]:
        """Take an object of anything; an empty one when it is missing."""
        return self._table(name, "an object", lambda value: True)

    def members(self, name: str) -> Members | None:
        """Take an object to read on from; None when it is missing."""
        value = self._parsed(name)
        if value is None:
            return None
        if not isinstance(value, dict):
            self._refuse(name, "an object", value)
        return Members(value, f"{self._where}{name}.")

    def time(self, name: str) -> datetime | None:
        """Take a moment (RFC 3339) as UTC; None when it is missing."""
        value = self._take(name)
        if value is None:
            return None
        expected = "a moment with its time zone, such as 2026-01-31T12:00:00Z ('+' is written %2B in a query)"
        try:
            moment = datetime.fromisoformat(value) if isinstance(value, str) else self._refuse(name, expected, value)
        except ValueError:
            self._refuse(name, expected, value)
        if moment.tzinfo is None:
            self._refuse(name, expected, value)
        return moment.astimezone(UTC)

    def _table(self, name: str, expected: str, fits: Callable[[Any], bool]) -> dict[str, Any]:
        value = self._parsed(name)
        if value is None:
            return {}
        if not isinstance(value, dict) or not all(key and fits(item) for key, item in value.items()):
            self._refuse(name, expected, value)
        return value

    def _parsed(self, name: str) -> Any:
        """Take a member; out of a query it is JSON."""
        value = self._take(name)
        if not self._text or not isinstance(value, str):
            return value
        try:
            return parse_json(value.encode())
        except RequestError as error:
            raise RequestError("invalid_input", f"{self._where}{name}: {error.detail}") from None

    def _take(self, name: str) -> Any:
        self._known.add(name)
        return self._values.get(name)

    def _refuse(self, name: str, expected: str, value: object) -> NoReturn:
        got = "nothing" if value is None else json.dumps(value, ensure_ascii=False, default=str)[:200]
        raise RequestError("invalid_input", f"{self._where}{name}: expected {expected}, got {got}")


def body() -> Members:
    """Return the members of the request's JSON object; no body is an empty one."""
    if request.mimetype not in ("", "application/json") and request.content_length:
        raise RequestError(
            "unsupported_media_type",
            f"this takes application/json, not {request.mimetype!r}; send 'Content-Type: application/json'",
        )
    content = request.get_data()
    document = parse_json(content) if content.strip() else {}
    if not isinstance(document, dict):
        raise RequestError("invalid_input", f"the body: expected a JSON object, got {type(document).__name__}")
    return Members(document)


def query() -> Members:
    """Return the members of the request's query, each of which may stand there once."""
    for name, values in request.args.lists():
        if len(values) > 1:
            raise RequestError("invalid_input", f"{name}: given {len(values)} times in the query; give it once")
    return Members(request.args.to_dict(), text=True)


def parse_json(content: bytes) -> Any:
    """Read JSON as RFC 8259 has it: no NaN, no member twice. RequestError (`malformed_body`) with the offset."""
    try:
        return json.loads(content.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except UnicodeDecodeError as error:
        reason = f"byte {error.start} is not UTF-8"
    except json.JSONDecodeError as error:
        reason = f"{error.msg} at byte {len(error.doc[: error.pos].encode())}"
    except RecursionError:
        reason = "it is nested too deeply"
    except _NotJsonError as error:
        reason = str(error)
    raise RequestError("malformed_body", f"not valid JSON: {reason}")


def read_name(value: str, where: str) -> str:
    """Return a name as it is, or refuse it."""
    try:
        return _NAME.parse(value, text=True)
    except ValueError:
        raise RequestError("invalid_input", f"{where}: expected {_NAME.expected}, got {value[:100]!r}") from None


class _NotJsonError(Exception):
    """Python's reader takes it, RFC 8259 does not."""


def _unique(pairs: list[tuple[str, object]]) -> dict[str, object]:
    found: dict[str, object] = {}
    for name, value in pairs:
        if name in found:
            raise _NotJsonError(f"the member {name[:100]!r} is there twice")
        found[name] = value
    return found


def _no_constant(text: str) -> NoReturn:
    raise _NotJsonError(f"{text} is no number in JSON")


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
