"""Records as the data plane takes them, and as they look to clients who think in tensors."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias

from penstock.core.status import Tensor
from penstock.processing.record import Category, Field, FieldKind, Record, RecordObject

__all__ = [
    "Description",
    "described",
    "digest_of",
    "example_of",
    "fields_of",
    "rooms_of",
    "shown_schema",
    "takes_empty",
]

# Of the files of pictures that the model decodes itself: thumbnails, and what a camera makes of a small scene.
_PICTURE_BYTES = 256 << 10
# Of text that nobody has bounded, as the data plane has it for other strings.
_TEXT_BYTES = 1024
_CHARACTER_BYTES_MAX = 4

# A PNG of one pixel.
_DOT = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR42mNgAAAAAgAB5Sfe/AAAAABJRU5ErkJggg=="

# Path, kind, required by its own object, nullable, coerce, open, minimum and whether it is excluded, maximum likewise,
# categories, what an absent field is. See server/dataplane/bindings_record.hpp.
_Field: TypeAlias = tuple[
    list[str], str, bool, bool, bool, bool, float, bool, float, bool, list[Category], Category | None
]
# Path, required by the object around it, closed.
_Object: TypeAlias = tuple[list[str], bool, bool]
Description: TypeAlias = tuple[list[_Field], list[_Object]]


def described(record: Record) -> Description:
    """Return what Engine.add_ring() takes as `record`."""
    objects = record.objects or (_root(record),)
    required = {inner.path: inner.required for inner in objects}

    def needs(path: tuple[str, ...]) -> bool:
        return path[-1] in required.get(path[:-1], ())

    fields = [_described(field, needed=needs(field.path) and field.default is None) for field in record.fields]
    return fields, [([*inner.path], not inner.path or needs(inner.path), inner.closed) for inner in objects]


def _root(record: Record) -> RecordObject:
    return RecordObject((), record.closed, tuple(field.name for field in record.fields if field.required))


def _described(field: Field, *, needed: bool) -> _Field:
    return (
        [*field.path],
        "pixels" if _is_decoded(field) else field.kind.value,
        needed,
        field.nullable,
        field.coerce,
        field.open,
        field.minimum,
        field.exclusive_minimum,
        field.maximum,
        field.exclusive_maximum,
        [_native(category) for category in field.categories],
        None if field.default is None else _native(field.default),
    )


def _is_decoded(field: Field) -> bool:
    """Whether the data plane gets the pixels of an image, which a job has decoded."""
    return field.kind is FieldKind.IMAGE and field.dtype != "bytes"


def _native(value: Category) -> Category:
    """Return numbers as floats: a slot holds nothing else."""
    return value if isinstance(value, str | bool) else float(value)


def digest_of(record: Record | None) -> str:
    """Return the SHA-256 of what the data plane needs to know of a record, empty without one."""
    if record is None:
        return ""
    return hashlib.sha256(json.dumps(described(record)).encode()).hexdigest()


def rooms_of(record: Record) -> dict[str, int]:
    """Return how many bytes a row needs for each text and each file of a picture, by its name.

    As many as `maxLength` characters can have, and its default; without one the usual room.
    """
    rooms = {}
    for field in record.tensors:
        if field.kind is FieldKind.TEXT:
            longest = 0 if math.isinf(field.maximum) else int(field.maximum) * _CHARACTER_BYTES_MAX
            rooms[field.name] = max(_TEXT_BYTES, longest, len(str(field.default or "").encode()))
        elif field.kind is FieldKind.IMAGE and not _is_decoded(field):
            rooms[field.name] = _PICTURE_BYTES
    return rooms


def fields_of(record: Record) -> tuple[Tensor, ...]:
    """Return each field as a tensor of its own: name, dtype, shape."""
    return tuple((field.name, _dtype(field), field.shape) for field in record.fields)


def shown_schema(record: Record) -> Mapping[str, Any]:
    """Return the JSON Schema of a record with an example, if it has none."""
    schema = dict(record.schema)
    for field in record.fields:
        if _is_decoded(field):
            schema = _with_file(schema, field.path)
    return schema if schema.get("examples") else {**schema, "examples": [example_of(record)]}


def _with_file(schema: Mapping[str, Any], path: Sequence[str]) -> dict[str, Any]:
    """Say how JSON has the file of an image: what is there says what it is."""
    properties = dict(schema.get("properties", {}))
    name, *inner = path
    if name not in properties:
        return dict(schema)  # behind a reference
    if inner:
        properties[name] = _with_file(properties[name], inner)
    else:
        file = {"contentEncoding": "base64", **properties[name]}
        properties[name] = {"type": "object", "properties": {"base64": file}, "required": ["base64"]}
    return {**schema, "properties": properties}


def takes_empty(field: Field) -> bool:
    """Whether an empty string is a value of the field, and no sign of a missing one."""
    if field.kind is FieldKind.CATEGORY:
        return "" in field.categories or (field.open and any(isinstance(of, str) for of in field.categories))
    return field.kind in (FieldKind.TEXT, FieldKind.HASH)


def example_of(record: Record) -> dict[str, Any]:
    """Return a record that is taken."""
    example: dict[str, Any] = {}
    for field in record.fields:
        inner = example
        for name in field.path[:-1]:
            inner = inner.setdefault(name, {})
        inner[field.path[-1]] = _example(field)
    return example


def _example(field: Field) -> object:
    match field.kind:
        case FieldKind.NUMBER | FieldKind.INTEGER:
            return _example_number(field)
        case FieldKind.BOOLEAN:
            return True
        case FieldKind.CATEGORY:
            return field.categories[0]
        case FieldKind.DATE:
            return "2026-01-31T12:00:00Z"
        case FieldKind.TENSOR:
            value: object = False if field.dtype == "bool" else 0
            for extent in reversed(field.shape):
                value = [value] * extent
            return value
        case FieldKind.IMAGE:
            return {"base64": _DOT} if _is_decoded(field) else ""
        case _:
            return "text".ljust(int(field.minimum), ".")[: None if math.isinf(field.maximum) else int(field.maximum)]


def _example_number(field: Field) -> float:
    low, high = field.minimum, field.maximum
    value = 0.0 if low <= 0 <= high else low if math.isfinite(low) else high
    if field.kind is FieldKind.INTEGER:
        whole = math.ceil(value) if value == low else math.floor(value)
        if whole == low and field.exclusive_minimum:
            whole += 1
        if whole == high and field.exclusive_maximum:
            whole -= 1
        return whole
    if value == low and field.exclusive_minimum:
        value = (low + high) / 2 if math.isfinite(high) else low + 1
    elif value == high and field.exclusive_maximum:
        value = (low + high) / 2 if math.isfinite(low) else high - 1
    return value


def _dtype(field: Field) -> str:
    match field.kind:
        case FieldKind.NUMBER:
            return "float64"
        case FieldKind.INTEGER:
            return "int64"
        case FieldKind.BOOLEAN:
            return "bool"
        case FieldKind.DATE | FieldKind.HASH:
            return "str"
        case FieldKind.CATEGORY:
            if any(isinstance(category, str) for category in field.categories):
                return "str"
            return "bool" if all(isinstance(category, bool) for category in field.categories) else "float64"
        case FieldKind.TEXT:
            return "str"
        case _:
            return field.dtype
