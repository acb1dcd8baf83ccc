"""The records that clients send: fields, read from the subset of JSON Schema that the data plane checks in one pass."""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any, TypeAlias

from penstock.core.written_file import WrittenFile, shown
from penstock.processing.spelling import seconds_in

__all__ = [
    "SLOT_KINDS",
    "WHOLE_MAX",
    "Category",
    "Field",
    "FieldKind",
    "Record",
    "RecordObject",
    "place_of",
    "read_record",
]

Category: TypeAlias = str | bool | float

# Whole numbers up to here are exact in a slot.
WHOLE_MAX = 1 << 53
_DEPTH_MAX = 8
_FIELDS_MAX = 4096

_ANNOTATIONS = ("title", "description", "examples", "deprecated", "$comment", "default")
_OBJECT = ("type", "properties", "required", "additionalProperties", "$schema", "$id", "$defs")
_BOUNDS = ("minimum", "maximum", "exclusiveMinimum", "exclusiveMaximum")
_TENSOR_DTYPES = ("float32", "float64", "int32", "int64", "uint8", "bool")


class FieldKind(StrEnum):
    """What a field holds, which says where it goes: SLOT_KINDS into a slot each, the rest into tensors."""

    NUMBER = "number"
    INTEGER = "integer"
    BOOLEAN = "boolean"
    CATEGORY = "category"
    DATE = "date"
    HASH = "hash"
    TEXT = "text"
    IMAGE = "image"
    TENSOR = "tensor"


SLOT_KINDS = frozenset(
    {
        FieldKind.NUMBER,
        FieldKind.INTEGER,
        FieldKind.BOOLEAN,
        FieldKind.CATEGORY,
        FieldKind.DATE,
        FieldKind.HASH,
    }
)


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a record. `path` has more than one name where objects are nested.

    `default` is what an absent field is, None for missing. Bounds hold for numbers, and for the characters of text.
    A category that is not in `categories` is refused unless they are `open`: then it is a code of its own. With
    `coerce` strings that spell a value are taken for it. `dtype` and `shape` are those of a tensor.
    """

    path: tuple[str, ...]
    kind: FieldKind
    required: bool = True
    nullable: bool = False
    default: Category | None = None
    minimum: float = -math.inf
    maximum: float = math.inf
    exclusive_minimum: bool = False
    exclusive_maximum: bool = False
    categories: tuple[Category, ...] = ()
    open: bool = False
    coerce: bool = False
    dtype: str = "float64"
    shape: tuple[int, ...] = ()

    @property
    def name(self) -> str:
        """The path with dots."""
        return ".".join(self.path)


@dataclass(frozen=True, slots=True)
class RecordObject:
    """An object that has fields; an empty path is the record itself. `required` are those of its members that are."""

    path: tuple[str, ...]
    closed: bool
    required: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Record:
    """The fields of a record, and the schema that says the same to clients. `closed`: no other members are taken."""

    fields: tuple[Field, ...]
    schema: Mapping[str, Any]
    closed: bool = False
    objects: tuple[RecordObject, ...] = ()

    @property
    def slots(self) -> tuple[Field, ...]:
        """The fields that have a slot, in its order."""
        return tuple(field for field in self.fields if field.kind in SLOT_KINDS)

    @property
    def tensors(self) -> tuple[Field, ...]:
        """The fields that are tensors of their own: arrays, text and images."""
        return tuple(field for field in self.fields if field.kind not in SLOT_KINDS)


def read_record(reading: WrittenFile, document: Mapping[str, Any], where: str = "record") -> Record:
    """Read a JSON Schema of an object, or just its properties: all are required then, but those with a default.

    ModelLoadError names what is no part of the subset.
    """
    schema = dict(document)
    if not isinstance(schema.get("properties"), dict) and "$ref" not in schema:
        schema = {
            "type": "object",
            "properties": schema,
            "required": [name for name, of in schema.items() if isinstance(of, dict) and "default" not in of],
            "additionalProperties": False,
        }
    walk = _Walk(reading, schema)
    fields = tuple(walk.object(schema, where, ()))
    if not fields:
        raise reading.error(where, "has no fields: it needs one at least")
    names = [field.name for field in fields]
    if len(set(names)) != len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise reading.error(where, f"has two fields {twice!r}: a member of an object is called so, too")
    if len(fields) > _FIELDS_MAX:
        raise reading.error(where, f"has {len(fields)} fields: {_FIELDS_MAX} is the most")
    return Record(fields, schema, schema.get("additionalProperties") is False, tuple(walk.objects))


def place_of(categories: Sequence[Category], value: object) -> int | None:
    """Return the place of a value among categories: 1, 1.0 and True are equal in Python, and True is another thing."""
    for place, category in enumerate(categories):
        if category == value and isinstance(category, bool) == isinstance(value, bool):
            return place
    return None


class _Walk:
    def __init__(self, reading: WrittenFile, schema: Mapping[str, Any]) -> None:
        self._reading = reading
        self._definitions = reading.mapping(schema.get("$defs", {}), "$defs")
        self.objects: list[RecordObject] = []

    def object(
        self, schema: Mapping[str, Any], where: str, path: tuple[str, ...], *, required: bool = True
    ) -> Iterator[Field]:
        """Go through the properties. Of an object that may be absent all fields may."""
        schema = self._resolved(schema, where)
        self._reading.members(
            schema,
            where,
            allowed=(*_OBJECT, *_ANNOTATIONS),
        )
        if schema.get("type", "object") != "object":
            raise self._reading.error(f"{where}.type", f"is {shown(schema['type'])}: a record is an object")
        if len(path) > _DEPTH_MAX:
            raise self._reading.error(where, f"is nested more than {_DEPTH_MAX} deep")
        properties = self._reading.mapping(schema.get("properties", {}), f"{where}.properties")
        needed = [
            self._reading.text(name, f"{where}.required[{place}]")
            for place, name in enumerate(self._reading.items(schema.get("required", []), f"{where}.required", "names"))
        ]
        for name in needed:
            if name not in properties:
                raise self._reading.error(f"{where}.required", f"names {shown(name)}, which is no property")
        if schema.get("additionalProperties") not in (None, True, False):
            raise self._reading.error(f"{where}.additionalProperties", "must be true or false")
        self.objects.append(RecordObject(path, schema.get("additionalProperties") is False, tuple(needed)))
        for name, value in properties.items():
            place = f"{where}.properties.{name}"
            of = self._resolved(self._reading.mapping(value, place), place)
            here = required and name in needed
            if of.get("type") == "object" or "properties" in of:
                yield from self.object(of, place, (*path, name), required=here)
            else:
                yield self._field(of, place, (*path, name), here)

    def _resolved(self, schema: Mapping[str, Any], where: str) -> Mapping[str, Any]:
        """Follow references into $defs, as the schemas of Python classes have them."""
        for _ in range(_DEPTH_MAX):
            if "$ref" not in schema:
                return schema
            prefix, _, name = str(schema["$ref"]).rpartition("/")
            if prefix != "#/$defs" or name not in self._definitions:
                raise self._reading.error(f"{where}.$ref", f"is {shown(schema['$ref'])}: it must name one of $defs")
            rest = {key: value for key, value in schema.items() if key not in ("$ref", "$defs", "$schema")}
            schema = {**self._reading.mapping(self._definitions[name], f"$defs.{name}"), **rest}
        raise self._reading.error(where, "refers to itself")

    def _field(self, schema: Mapping[str, Any], where: str, path: tuple[str, ...], required: bool) -> Field:
        schema, nullable = self._without_null(schema, where)
        extras = self._reading.mapping(schema.get("x-penstock", {}), f"{where}.x-penstock")
        self._reading.members(extras, f"{where}.x-penstock", allowed=("coerce", "categories", "hash", "dtype"))
        coerce = self._reading.flag(extras.get("coerce", False), f"{where}.x-penstock.coerce")
        if "enum" in schema or "const" in schema or "categories" in extras:
            field = self._category(schema, extras, where, path)
        else:
            read = {
                "number": self._number,
                "integer": self._number,
                "boolean": self._boolean,
                "string": self._string,
                "array": self._tensor,
            }.get(self._type(schema, where))
            if read is None:
                raise self._reading.error(
                    f"{where}.type",
                    f"is {shown(schema.get('type'))}: it must be number, integer, boolean, string, array or object, "
                    'or a list of one of them and "null"',
                )
            field = read(schema, extras, where, path)
        return self._finished(field, schema, where, required=required, nullable=nullable, coerce=coerce)

    def _type(self, schema: Mapping[str, Any], where: str) -> str:
        return self._reading.text(schema.get("type"), f"{where}.type")

    def _without_null(self, schema: Mapping[str, Any], where: str) -> tuple[Mapping[str, Any], bool]:
        """Take null out of `type`, `enum` or `anyOf`; whether it was in."""
        if "anyOf" in schema:
            choices = self._reading.items(schema["anyOf"], f"{where}.anyOf", "schemas")
            rest = [choice for choice in choices if choice != {"type": "null"}]
            if len(rest) != 1 or len(choices) != 2:
                raise self._reading.error(f"{where}.anyOf", "must be one schema, and one of type null")
            outer = {key: value for key, value in schema.items() if key != "anyOf"}
            inner = self._resolved(self._reading.mapping(rest[0], f"{where}.anyOf"), f"{where}.anyOf")
            return {**self._without_null(inner, where)[0], **outer}, True
        nullable = False
        if isinstance(schema.get("type"), list):
            rest = [name for name in schema["type"] if name != "null"]
            if len(rest) != 1:
                raise self._reading.error(f"{where}.type", f"is {shown(schema['type'])}: one type, and null, is all")
            nullable = len(rest) < len(schema["type"])
            schema = {**schema, "type": rest[0]}
        if isinstance(schema.get("enum"), list) and None in schema["enum"]:
            # A type that does not allow null wins, as it does in JSON Schema.
            nullable = nullable or "type" not in schema
            schema = {**schema, "enum": [value for value in schema["enum"] if value is not None]}
        elif "enum" in schema or "const" in schema:
            nullable = False
        return schema, nullable

    def _category(
        self, schema: Mapping[str, Any], extras: Mapping[str, Any], where: str, path: tuple[str, ...]
    ) -> Field:
        self._reading.members(schema, where, allowed=("type", "enum", "const", "x-penstock", *_ANNOTATIONS))
        closed = "enum" in schema or "const" in schema
        found = schema.get("enum", [schema["const"]] if "const" in schema else extras.get("categories"))
        values = self._reading.items(found, f"{where}.enum" if closed else f"{where}.x-penstock.categories", "values")
        kinds = {"string": str, "boolean": bool, "number": int | float, "integer": int | float}
        wanted = kinds.get(schema["type"]) if "type" in schema else None
        categories = []
        for place, value in enumerate(values):
            if not isinstance(value, str | bool | int | float):
                raise self._reading.error(
                    f"{where}.enum[{place}]", f"is {shown(value)}: a string, number or bool is needed"
                )
            if isinstance(value, int) and abs(value) > WHOLE_MAX:
                raise self._reading.error(
                    f"{where}.enum[{place}]", f"is {shown(value)}: beyond 2^53 numbers are told apart as strings only"
                )
            # What the type does not allow can never come.
            if wanted is None or (isinstance(value, wanted) and (wanted is bool or not isinstance(value, bool))):
                categories.append(value)
        if len({(isinstance(value, bool), value) for value in categories}) != len(categories):
            raise self._reading.error(f"{where}.enum", "has a value twice")
        if not categories:
            raise self._reading.error(f"{where}.enum", "has no value that its type allows")
        return Field(path, FieldKind.CATEGORY, categories=tuple(categories), open=not closed)

    def _number(self, schema: Mapping[str, Any], extras: Mapping[str, Any], where: str, path: tuple[str, ...]) -> Field:
        self._reading.members(schema, where, allowed=("type", *_BOUNDS, "x-penstock", *_ANNOTATIONS))
        bounds = {name: self._reading.number(schema[name], f"{where}.{name}") for name in _BOUNDS if name in schema}
        low, above = bounds.get("minimum", -math.inf), bounds.get("exclusiveMinimum", -math.inf)
        high, below = bounds.get("maximum", math.inf), bounds.get("exclusiveMaximum", math.inf)
        field = Field(
            path,
            FieldKind(schema["type"]),
            minimum=max(low, above),
            maximum=min(high, below),
            exclusive_minimum=above >= low and above > -math.inf,
            exclusive_maximum=below <= high and below < math.inf,
        )
        is_one = field.minimum == field.maximum and not (field.exclusive_minimum or field.exclusive_maximum)
        if field.minimum >= field.maximum and not is_one:
            raise self._reading.error(
                where, f"is bounded by {field.minimum:g} below and by {field.maximum:g} above: no number is both"
            )
        return field

    def _boolean(
        self, schema: Mapping[str, Any], extras: Mapping[str, Any], where: str, path: tuple[str, ...]
    ) -> Field:
        self._reading.members(schema, where, allowed=("type", "x-penstock", *_ANNOTATIONS))
        return Field(path, FieldKind.BOOLEAN)

    def _string(self, schema: Mapping[str, Any], extras: Mapping[str, Any], where: str, path: tuple[str, ...]) -> Field:
        allowed = ("type", "minLength", "maxLength", "format", "contentEncoding", "contentMediaType", "x-penstock")
        self._reading.members(schema, where, allowed=allowed + _ANNOTATIONS)
        if "format" in schema:
            self._reading.choice(schema["format"], f"{where}.format", ("date-time", "date"))
            return Field(path, FieldKind.DATE)
        if "contentMediaType" in schema:
            media = self._reading.text(schema["contentMediaType"], f"{where}.contentMediaType")
            if not media.startswith("image/"):
                raise self._reading.error(f"{where}.contentMediaType", f"is {shown(media)}: image/... is all there is")
            return Field(path, FieldKind.IMAGE, dtype="bytes")
        shortest = self._reading.whole(schema.get("minLength", 0), f"{where}.minLength")
        longest = self._reading.whole(schema["maxLength"], f"{where}.maxLength") if "maxLength" in schema else math.inf
        if shortest > longest:
            raise self._reading.error(f"{where}.minLength", f"is {shortest}, which is above maxLength {longest}")
        hashed = self._reading.flag(extras.get("hash", False), f"{where}.x-penstock.hash")
        if hashed:
            return Field(path, FieldKind.HASH, minimum=float(shortest), maximum=float(longest))
        return Field(path, FieldKind.TEXT, minimum=float(shortest), maximum=float(longest), dtype="bytes")

    def _tensor(self, schema: Mapping[str, Any], extras: Mapping[str, Any], where: str, path: tuple[str, ...]) -> Field:
        shape: list[int] = []
        of = schema
        while of.get("type") == "array":
            self._reading.members(
                of, where, allowed=("type", "items", "minItems", "maxItems", "x-penstock", *_ANNOTATIONS)
            )
            least, most = of.get("minItems"), of.get("maxItems")
            if least is None or least != most:
                raise self._reading.error(
                    where, "must have minItems and maxItems that are equal: a tensor's size is fixed"
                )
            shape.append(self._reading.whole(least, f"{where}.minItems", least=1))
            of = self._reading.mapping(of.get("items"), f"{where}.items")
            where = f"{where}.items"
        by_type = {"number": "float32", "integer": "int64", "boolean": "bool"}
        kind = self._reading.choice(of.get("type"), f"{where}.type", tuple(by_type))
        self._reading.members(of, where, allowed=("type", *_ANNOTATIONS))
        dtype = self._reading.choice(extras.get("dtype", by_type[kind]), f"{where}.x-penstock.dtype", _TENSOR_DTYPES)
        return Field(path, FieldKind.TENSOR, dtype=dtype, shape=tuple(shape))

    def _finished(
        self, field: Field, schema: Mapping[str, Any], where: str, *, required: bool, nullable: bool, coerce: bool
    ) -> Field:
        default = schema.get("default")
        if default is not None:
            _check_default(self._reading, field, default, f"{where}.default")
        elif field.kind not in SLOT_KINDS and not required:
            raise self._reading.error(
                where, f"is {field.kind.value}, which cannot be missing: require it, or give a default"
            )
        if field.kind not in SLOT_KINDS and nullable:
            raise self._reading.error(where, f"is {field.kind.value}, which cannot be null")
        return dataclasses.replace(
            field, required=required and default is None, nullable=nullable, default=default, coerce=coerce
        )


def _check_default(reading: WrittenFile, field: Field, default: object, where: str) -> None:
    fits: Sequence[type] = {
        FieldKind.NUMBER: (int, float),
        FieldKind.INTEGER: (int, float),
        FieldKind.BOOLEAN: (bool,),
        FieldKind.TEXT: (str,),
        FieldKind.HASH: (str,),
        FieldKind.DATE: (str,),
    }.get(field.kind, ())
    if field.kind is FieldKind.CATEGORY:
        right = place_of(field.categories, default) is not None
    else:
        right = isinstance(default, tuple(fits)) and (field.kind is FieldKind.BOOLEAN or not isinstance(default, bool))
    if not right:
        raise reading.error(where, f"is {shown(default)}: the field is {field.kind.value}")
    if not _is_taken(field, default):
        raise reading.error(where, f"is {shown(default)}, which the field itself would refuse")


def _is_taken(field: Field, value: Any) -> bool:
    if field.kind is FieldKind.DATE:
        return seconds_in(value) is not None
    if field.kind in (FieldKind.TEXT, FieldKind.HASH):
        return field.minimum <= len(value) <= field.maximum
    if field.kind not in (FieldKind.NUMBER, FieldKind.INTEGER):
        return True
    if field.kind is FieldKind.INTEGER and (value != math.floor(value) or abs(value) > WHOLE_MAX):
        return False
    above = value > field.minimum if field.exclusive_minimum else value >= field.minimum
    return bool(above and (value < field.maximum if field.exclusive_maximum else value <= field.maximum))
