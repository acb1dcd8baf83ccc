"""What is special in records: the edges of what their JSON Schema takes, and what is just beyond them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from penstock.load.records import plain_schema
from penstock.testing.edges import ABSENT, UNUSUAL_TEXTS, WORD

if TYPE_CHECKING:
    from penstock.testing.rows import Kind

__all__ = ["Leaf", "RecordEdges", "leaves_of"]

_Schema: TypeAlias = Mapping[str, Any]
_Values: TypeAlias = Iterator[tuple[str, Any]]

# Whole numbers beyond it are refused: a slot is a float64.
_WHOLE_MAX = 2**53
# Of text without maxLength a row has room for 1024 bytes.
_TEXT_BYTES = 1024
_CATEGORIES_MAX = 100
_LARGE = 1e6


@dataclass(frozen=True, slots=True)
class Leaf:
    """A field that has a value: by its path, without references and null."""

    path: str
    schema: _Schema
    nullable: bool
    needed: bool
    nested: bool


class RecordEdges:
    """Changes to a record; see penstock.testing.rows.Edges."""

    def __init__(self, record: _Schema) -> None:
        self._record = record
        self._leaves = leaves_of(record)

    def of(self, kind: Kind) -> Sequence[tuple[str, str, Any]]:
        """Return the changes of a kind."""
        make = {"valid": _valid, "extreme": _extreme, "invalid": _invalid}[kind.value]
        changes = [(leaf.path, f"{leaf.path}: {about}", value) for leaf in self._leaves for about, value in make(leaf)]
        if kind.value == "invalid" and self._record.get("additionalProperties") is False:
            name = next(name for name in map("extra{}".format, range(1000)) if name not in self._record["properties"])
            changes.append((name, f"{name}: a field that is none", 1))
        return changes


def leaves_of(record: _Schema) -> list[Leaf]:
    """Return the fields of a record, those of objects by their paths."""
    return list(_leaves(record, record.get("$defs", {}), "", True))


def _leaves(schema: _Schema, definitions: _Schema, prefix: str, needed: bool) -> Iterator[Leaf]:
    for name, given in schema.get("properties", {}).items():
        of, nullable = plain_schema(given, definitions)
        required = needed and name in schema.get("required", ()) and "default" not in of
        if "properties" in of and "base64" not in of["properties"]:
            yield from _leaves(of, definitions, f"{prefix}{name}.", required and not nullable)
        else:
            yield Leaf(f"{prefix}{name}", of, nullable, required, bool(prefix))


def _is_picture(schema: _Schema) -> bool:
    return "contentMediaType" in schema or schema.get("type") == "object"


def _choices(schema: _Schema) -> list[Any] | None:
    if "const" in schema:
        return [schema["const"]]
    found = schema.get("enum", schema.get("x-penstock", {}).get("categories"))
    return None if found is None else list(found)


def _valid(leaf: Leaf) -> _Values:
    schema = leaf.schema
    # By its path a null does not say that its object is there.
    if leaf.nullable and not leaf.nested:
        yield "null", None
    if not leaf.needed and not leaf.nested:
        yield "absent", ABSENT
    choices = _choices(schema)
    if choices is not None:
        for choice in choices[:_CATEGORIES_MAX]:
            yield f"{choice!r}", choice
        if "categories" in schema.get("x-penstock", {}) and "enum" not in schema and isinstance(choices[0], str):
            yield "a category that is not listed", "never seen before"
    elif not _is_picture(schema):
        yield from {"number": _numbers, "integer": _numbers, "boolean": _booleans, "string": _texts}.get(
            str(schema.get("type")), _tensors
        )(schema)


def _numbers(schema: _Schema) -> _Values:
    whole = schema["type"] == "integer"
    for name in ("minimum", "maximum"):
        if name in schema:
            yield f"its {name}", schema[name]
    low, high = _bounds(schema)
    for name, bound, other in (("exclusiveMinimum", low, math.inf), ("exclusiveMaximum", high, -math.inf)):
        if name in schema:
            inside = math.nextafter(bound, other)
            if whole:
                inside = math.floor(bound) + 1 if other > 0 else math.ceil(bound) - 1
            yield f"just inside its {name}", inside
    for value in (0, 1, -1, *(() if whole else (-0.0, 0.5, 5e-324))):
        if _is_inside(schema, value):
            yield f"{value}", value
    for value in (_LARGE, -_LARGE):
        if _is_inside(schema, value):
            yield f"{value:g}", int(value) if whole else value


def _bounds(schema: _Schema) -> tuple[float, float]:
    return (
        max(schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf)),
        min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf)),
    )


def _is_inside(schema: _Schema, value: float) -> bool:
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    above, below = schema.get("exclusiveMinimum", -math.inf), schema.get("exclusiveMaximum", math.inf)
    return bool(low <= value <= high and above < value < below)


def _booleans(schema: _Schema) -> _Values:
    yield "true", True
    yield "false", False


def _texts(schema: _Schema) -> _Values:
    if "format" in schema:
        for day in ("1970-01-01", "2000-02-29", "2038-01-19"):
            yield day, day if schema["format"] == "date" else f"{day}T03:14:08Z"
        if schema["format"] == "date-time":
            yield "far from Greenwich", "2024-05-11T12:00:00.5+14:00"
        return
    least, most = schema.get("minLength", 0), schema.get("maxLength", math.inf)
    if least:
        yield f"{least} characters, the fewest", "a" * least
    else:
        yield "empty", ""
    if most < math.inf:
        yield f"{most} characters, the most", "a" * int(most)
        yield f"{most} characters of four bytes", "\U0001f680" * int(most)
    for about, text in UNUSUAL_TEXTS:
        if least <= len(text) <= most:
            yield about, text


def _tensors(schema: _Schema) -> _Values:
    if schema.get("type") != "array":
        return
    item: Any = True if _items(schema).get("type") == "boolean" else 1
    yield "all 1", lambda before: _like(before, item)
    yield "all 0", lambda before: _like(before, type(item)(0))


def _items(schema: _Schema) -> _Schema:
    while schema.get("type") == "array":
        schema = schema["items"]
    return schema


def _like(before: Any, item: Any) -> Any:
    return [_like(each, item) for each in before] if isinstance(before, list) else item


def _extreme(leaf: Leaf) -> _Values:
    schema = leaf.schema
    kind = schema.get("type")
    if _choices(schema) is not None or _is_picture(schema):
        return
    if kind in ("number", "integer"):
        far = _WHOLE_MAX if kind == "integer" else 1e300
        for value in (far, -far):
            if _is_inside(schema, value):
                yield f"{value:g}", value
    elif kind == "string" and "format" not in schema:
        if schema.get("minLength", 0) <= 4 <= schema.get("maxLength", math.inf):
            yield "control characters", "\x00\x01\x1f\x7f"
        if "maxLength" not in schema:
            yield f"{_TEXT_BYTES} bytes", "x" * _TEXT_BYTES
    elif kind == "string":
        for day in ("0001-01-01", "9999-12-31"):
            yield day, day if schema["format"] == "date" else f"{day}T00:00:00Z"
    elif kind == "array" and _items(schema).get("type") == "number":
        for value in (float("nan"), float("inf"), float("-inf")):
            yield f"all {value}", lambda before, value=value: _like(before, value)


def _invalid(leaf: Leaf) -> _Values:
    schema = leaf.schema
    if leaf.needed:
        yield "missing", ABSENT
    if not leaf.nullable:
        yield "null", None
    kind = schema.get("type")
    if kind != "array":
        yield "a list", [1, 2]
    if _is_picture(schema):
        yield "no picture", "bm8gcGljdHVyZQ=="
        return
    choices = _choices(schema)
    if choices is not None:
        if "enum" in schema or "const" in schema:
            yield "a category that is none", "never seen before"
    elif kind in ("number", "integer"):
        yield from _wrong_numbers(schema)
    elif kind == "boolean":
        yield "text", WORD
        yield "2", 2
    elif kind == "string":
        yield from _wrong_texts(schema)
    elif kind == "array":
        yield "text", WORD
        yield "one item too many", lambda value: [*value, *value[-1:]] if isinstance(value, list) and value else [[]]


def _wrong_numbers(schema: _Schema) -> _Values:
    yield "text", WORD
    low, high = _bounds(schema)
    if low > -math.inf:
        yield "below its minimum", math.floor(low) - 1
    if high < math.inf:
        yield "above its maximum", math.ceil(high) + 1
    if schema["type"] == "integer":
        yield "a fraction", 0.5
        yield "beyond 2^53", _WHOLE_MAX * 4


def _wrong_texts(schema: _Schema) -> _Values:
    yield "an object", {"a": 1}
    if "format" in schema:
        for text in ("yesterday", "2023-02-30", ""):
            yield f"{text!r} as a date", text
        return
    if schema.get("minLength", 0):
        yield "too short", "a" * (schema["minLength"] - 1)
    if "maxLength" in schema:
        yield "too long", "a" * (schema["maxLength"] + 1)
