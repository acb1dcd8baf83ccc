"""Plain Python values as JSON and msgpack, and back."""

from __future__ import annotations

import base64
import datetime
import json
import math
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from penstock_client.errors import ArgumentError
from penstock_client.packages import installed

if TYPE_CHECKING:
    from penstock_client.schema import ModelSchema

__all__ = ["from_msgpack", "holds_named_floats", "is_array", "is_bytes", "to_json", "to_msgpack", "with_floats"]

_NAMED = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


def is_array(value: object) -> bool:
    """Whether a value is an array, whoever's: NumPy's, PyTorch's, pandas', Pillow's. A lone number is none."""
    return _has_array(value) and getattr(value, "shape", None) != ()


def _has_array(value: object) -> bool:
    return hasattr(value, "__array__") or hasattr(value, "__array_interface__")


def is_bytes(value: object) -> bool:
    """Whether a value is bytes, such as a file of a picture."""
    return isinstance(value, (bytes, bytearray, memoryview))


def _plainly(value: object) -> object:
    """Return what JSON has for a value that json does not know."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return {"base64": base64.b64encode(value).decode("ascii")}
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if _has_array(value):
        return _listed(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise ArgumentError(f"a value of type {type(value).__name__} has no form in JSON")


def _listed(value: Any) -> Any:
    if not hasattr(value, "tolist"):
        value = installed("numpy", "numpy").asarray(value)
    return value.tolist()


_encode = json.JSONEncoder(ensure_ascii=False, separators=(",", ":"), allow_nan=False, default=_plainly).encode


def to_json(document: object) -> bytes:
    """Encode a document; numbers that are not finite become the strings that the server takes for them."""
    try:
        try:
            return _encode(document).encode()
        except ValueError as error:
            if isinstance(error, (ArgumentError, UnicodeError)):
                raise
            return _encode(_named(document)).encode()
    except UnicodeEncodeError:
        raise ArgumentError("a string holds half a surrogate pair, which UTF-8 has no form for") from None
    except (TypeError, ValueError, RecursionError) as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(f"the inputs have no form in JSON: {error}") from None


def _named(value: object) -> object:
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, Mapping):
        return {name: _named(item) for name, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_named(item) for item in value]
    return _named(_listed(value)) if _has_array(value) else value


def holds_named_floats(text: str) -> bool:
    """Whether a reply may hold numbers that are not finite: as JSON has them, they are strings."""
    return '"NaN"' in text or 'Infinity"' in text


def with_floats(outputs: dict[str, Any], schema: ModelSchema) -> dict[str, Any]:
    """Make numbers of the strings that stand for some in outputs of floats; strings of other outputs stay."""
    floats = {spec.name for spec in schema.outputs if spec.dtype.startswith("float")}
    return {name: _unnamed(value) if name in floats else value for name, value in outputs.items()}


def _unnamed(value: Any) -> Any:
    if isinstance(value, list):
        return [_unnamed(item) for item in value]
    return _NAMED.get(value, value) if isinstance(value, str) else value


def to_msgpack(document: object) -> bytes:
    """Encode a document; ArgumentError when the package msgpack is missing."""
    pack = _msgpack().packb
    try:
        packed = pack(document, use_bin_type=True, default=_msgpack_plainly)
    except (TypeError, ValueError, OverflowError, RecursionError) as error:
        if isinstance(error, ArgumentError):
            raise
        raise ArgumentError(f"the inputs have no form in msgpack: {error}") from None
    assert isinstance(packed, bytes)
    return packed


def _msgpack_plainly(value: object) -> object:
    if isinstance(value, (datetime.date, datetime.time)):
        return value.isoformat()
    if _has_array(value):
        return _listed(value)
    if isinstance(value, Mapping):
        return dict(value)
    raise ArgumentError(f"a value of type {type(value).__name__} has no form in msgpack")


def from_msgpack(body: bytearray | memoryview) -> Any:
    """Decode a reply; a string that is no UTF-8 is bytes, as the server sends it."""
    return _msgpack().unpackb(body, raw=False, strict_map_key=False)


def _msgpack() -> Any:
    return installed("msgpack", "msgpack")
