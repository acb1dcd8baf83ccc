"""Records to send: drawn from the JSON Schema that a server shows for a model with a plan."""

from __future__ import annotations

import json
import math
import string
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import LoadError
from penstock.load.rows import Row, random_array

__all__ = ["has_images", "plain_schema", "random_records"]

_Schema: TypeAlias = Mapping[str, Any]

# How often a field is null that may be, or is not sent that need not.
_NULL_SHARE = 0.1
_ABSENT_SHARE = 0.2
# Of numbers that have a bound on one side; without any they are in [-1, 1), as those of tensors are.
_SPAN = 100.0
_TEXT_LENGTH = 8
_FIRST_MOMENT, _LAST_MOMENT = (int(datetime(year, 1, 1, tzinfo=UTC).timestamp()) for year in (2000, 2030))
_TRIES = 100


def random_records(schema: _Schema, count: int, seed: int = 1) -> list[Row]:
    """Make `count` records that a schema takes, each field by its path: "address.city" where objects are nested.

    Numbers are within their bounds, categories are those that are listed, dates are of 30 years; now and then a field
    is null, or is left to its default, where that is allowed. Images are the one of the schema's example.
    """
    draw = _Draw(schema, np.random.default_rng(seed))
    return [dict(draw.fields(schema, "")) for _ in range(count)]


def has_images(schema: _Schema) -> bool:
    """Whether a field is an image, whose bytes JSON has as base64."""
    return '"contentMediaType"' in json.dumps(schema)


def plain_schema(schema: _Schema, definitions: _Schema) -> tuple[_Schema, bool]:
    """Return a field's schema without references and without null; whether it had null."""
    nullable = False
    while "$ref" in schema or "anyOf" in schema:
        if "$ref" in schema:
            schema = {**definitions[schema["$ref"].rpartition("/")[2]], **_without(schema, "$ref")}
        else:
            (inner,) = (of for of in schema["anyOf"] if of != {"type": "null"})
            schema, nullable = {**inner, **_without(schema, "anyOf")}, True
    if isinstance(schema.get("type"), list):
        (kind,) = (name for name in schema["type"] if name != "null")
        nullable = nullable or "null" in schema["type"]
        schema = {**schema, "type": kind}
    if None in schema.get("enum", ()):
        nullable = nullable or "type" not in schema
        schema = {**schema, "enum": [value for value in schema["enum"] if value is not None]}
    return schema, nullable


class _Draw:
    def __init__(self, schema: _Schema, generator: np.random.Generator) -> None:
        self._definitions = schema.get("$defs", {})
        self._example: Mapping[str, Any] = next(iter(schema.get("examples", ())), {})
        self._generator = generator

    def fields(self, schema: _Schema, prefix: str, *, whole: bool = False) -> Iterator[tuple[str, NDArray[Any]]]:
        """Draw the fields of an object; `whole`: none is left out."""
        for name, given in schema.get("properties", {}).items():
            of, nullable = plain_schema(given, self._definitions)
            path = f"{prefix}{name}"
            required = name in schema.get("required", ())
            if not (required or whole) and self._generator.random() < _ABSENT_SHARE:
                continue
            if "properties" in of and "base64" not in of["properties"]:
                # One that must come is not there when nothing of it is.
                yield from list(self.fields(of, f"{path}.")) or self.fields(of, f"{path}.", whole=required or whole)
            # By its path a null does not say that its object is there.
            elif nullable and not prefix and self._generator.random() < _NULL_SHARE:
                yield path, np.array(None, object)
            else:
                yield path, self._value(of, path)

    def _value(self, schema: _Schema, path: str) -> NDArray[Any]:
        extras = schema.get("x-penstock", {})
        if "const" in schema:
            return _scalar(schema["const"])
        if choices := schema.get("enum", extras.get("categories")):
            return _scalar(choices[int(self._generator.integers(len(choices)))])
        if schema.get("type") == "object" or "contentMediaType" in schema:
            return self._image(path)
        draw = {
            "number": self._number,
            "integer": self._number,
            "boolean": self._boolean,
            "string": self._string,
            "array": self._tensor,
        }.get(str(schema.get("type")))
        if draw is None:
            raise LoadError(f"field {path!r} of the record is {schema.get('type')!r}, which this release cannot make")
        return draw(schema)

    def _number(self, schema: _Schema) -> NDArray[Any]:
        low = max(schema.get("minimum", -math.inf), schema.get("exclusiveMinimum", -math.inf))
        high = min(schema.get("maximum", math.inf), schema.get("exclusiveMaximum", math.inf))
        whole = schema["type"] == "integer"
        if math.isinf(low) and math.isinf(high):
            low, high = (0.0, _SPAN) if whole else (-1.0, 1.0)
        low, high = high - _SPAN if math.isinf(low) else low, low + _SPAN if math.isinf(high) else high
        for _ in range(_TRIES):
            drawn = low + (high - low) * self._generator.random()
            value = float(round(drawn)) if whole else round(drawn, 6)
            if _is_within(schema, value):
                return np.array(value, np.int64 if whole else np.float64)
        middle = math.floor((low + high) / 2) if whole else (low + high) / 2
        return np.array(middle, np.int64 if whole else np.float64)

    def _boolean(self, schema: _Schema) -> NDArray[Any]:
        return np.array(self._generator.random() < 0.5)

    def _string(self, schema: _Schema) -> NDArray[Any]:
        if "format" in schema:
            moment = datetime.fromtimestamp(int(self._generator.integers(_FIRST_MOMENT, _LAST_MOMENT)), UTC)
            return _scalar(f"{moment:%Y-%m-%d}" if schema["format"] == "date" else f"{moment:%Y-%m-%dT%H:%M:%SZ}")
        length = max(schema.get("minLength", 0), min(schema.get("maxLength", _TEXT_LENGTH), _TEXT_LENGTH))
        places = self._generator.integers(len(string.ascii_lowercase), size=length)
        return _scalar("".join(string.ascii_lowercase[place] for place in places))

    def _tensor(self, schema: _Schema) -> NDArray[Any]:
        shape: list[int] = []
        of = schema
        while of["type"] == "array":
            shape.append(of["minItems"])
            of = of["items"]
        by_type = {"number": "float32", "integer": "int64", "boolean": "bool"}
        dtype = schema.get("x-penstock", {}).get("dtype", by_type[of["type"]])
        return random_array(self._generator, dtype, tuple(shape))

    def _image(self, path: str) -> NDArray[Any]:
        value: Any = self._example
        for name in path.split("."):
            value = value.get(name, {}) if isinstance(value, dict) else {}
        return _scalar(value)


def _without(schema: _Schema, key: str) -> dict[str, Any]:
    return {name: value for name, value in schema.items() if name != key}


def _scalar(value: object) -> NDArray[Any]:
    if isinstance(value, bool | int | float):
        return np.array(value)
    cell = np.empty((), object)
    cell[()] = value
    return cell


def _is_within(schema: _Schema, value: float) -> bool:
    low, high = schema.get("minimum", -math.inf), schema.get("maximum", math.inf)
    above, below = schema.get("exclusiveMinimum", -math.inf), schema.get("exclusiveMaximum", math.inf)
    return bool(low <= value <= high and above < value < below)
