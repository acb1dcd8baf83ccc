"""The codecs of the data plane, driven through the program codec_cli, and what they should answer."""

import json
import os
import re
import struct
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import orjson

__all__ = ["DTYPES", "NUMBERS", "Codec", "Pairs", "Refused", "Row", "Tensor", "reference_json", "reference_msgpack"]

DTYPES = (
    *("bool", "uint8", "uint16", "uint32", "uint64", "int8", "int16", "int32", "int64"),
    *("float16", "float32", "float64"),
    "bytes",
)
NUMBERS = DTYPES[:-1]
ENCODINGS = ("json", "msgpack", "raw")
ALIGNMENT = 64
NATIVE = Path(os.environ.get("PENSTOCK_NATIVE_TESTS", "build/release"))


@dataclass(frozen=True, slots=True)
class Tensor:
    """A tensor of a row. Of one that varies in length, the first extent is the longest."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    varies: bool = False

    @property
    def elements(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64))

    @property
    def is_text(self) -> bool:
        return self.dtype == "bytes"

    @property
    def heap_bytes(self) -> int:
        """Room for all strings together, where nothing else is said."""
        return max(1024, 64 * self.elements) if self.is_text else 0

    @property
    def bytes(self) -> int:
        return self.heap_bytes + self.elements * (8 if self.is_text else np.dtype(self.dtype).itemsize)

    def shape_at(self, length: int) -> tuple[int, ...]:
        return (length, *self.shape[1:]) if self.varies else self.shape


@dataclass(frozen=True, slots=True)
class Row:
    model: str
    version: str
    values: dict[str, np.ndarray]
    length: int = 0


@dataclass(frozen=True, slots=True)
class Refused:
    code: str
    detail: str


class Codec:
    """A running codec_cli."""

    def __init__(self) -> None:
        places = (NATIVE / "codec_cli", NATIVE / "tests/native/codec_cli")
        program = next((place for place in places if place.exists()), None)
        if program is None:
            raise FileNotFoundError(
                f"{NATIVE} holds no codec_cli: run `make test-native`, or set PENSTOCK_NATIVE_TESTS"
            )
        self._process = subprocess.Popen([program], stdin=subprocess.PIPE, stdout=subprocess.PIPE)

    def close(self) -> None:
        """End the program; it must not have failed."""
        self._process.communicate()
        assert self._process.returncode == 0

    def decode(
        self, encoding: str, inputs: Sequence[Tensor], body: bytes, query_model: str = "", query_version: str = ""
    ) -> Row | Refused:
        fields = [strings(query_model, query_version), strings(body)]
        reply = self._call(0, encoding, inputs, (), b"".join(fields))
        if reply[0] == 1:
            code, detail = split(reply[1:])
            return Refused(code.decode(), detail.decode(errors="replace"))
        model, version, row, length = split(reply[1:])
        return Row(model.decode(), version.decode(), unpack_row(inputs, row, int(length)), int(length))

    def encode(
        self,
        encoding: str,
        values: Mapping[Tensor, np.ndarray],
        model: str,
        version: str,
        output: int = 0,
        *,
        length: int = 0,
    ) -> bytes:
        """Of outputs that vary, `values` are as long as the longest; `length` elements are wanted."""
        tensors = [
            pack_texts(tensor, value) if tensor.is_text else np.ascontiguousarray(value).tobytes()
            for tensor, value in values.items()
        ]
        fields = strings(model, version) + struct.pack("<II", output, length) + strings(*tensors)
        reply = self._call(1, encoding, (), tuple(values), fields)
        return split(reply[1:])[0]

    def _call(self, op: int, encoding: str, inputs: Sequence[Tensor], outputs: Sequence[Tensor], rest: bytes) -> bytes:
        frame = bytes([op, ENCODINGS.index(encoding)]) + layout(inputs) + layout(outputs) + rest
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(struct.pack("<I", len(frame)) + frame)
        self._process.stdin.flush()
        head = self._process.stdout.read(4)
        assert len(head) == 4, f"codec_cli ended: {self._process.wait(10)}"
        return self._process.stdout.read(struct.unpack("<I", head)[0])


def strings(*texts: str | bytes) -> bytes:
    raw = [text.encode() if isinstance(text, str) else text for text in texts]
    return b"".join(struct.pack("<I", len(text)) + text for text in raw)


def split(reply: bytes) -> list[bytes]:
    fields = []
    while reply:
        size = struct.unpack_from("<I", reply)[0]
        fields.append(reply[4 : 4 + size])
        reply = reply[4 + size :]
    return fields


def layout(tensors: Sequence[Tensor]) -> bytes:
    parts = [struct.pack("<I", len(tensors))]
    for tensor in tensors:
        extents = struct.pack(f"<{len(tensor.shape)}I", *tensor.shape)
        kind = bytes([DTYPES.index(tensor.dtype), tensor.varies, len(tensor.shape)])
        parts += [strings(tensor.name), kind, extents]
    return b"".join(parts)


def unpack_row(inputs: Sequence[Tensor], row: bytes, length: int) -> dict[str, np.ndarray]:
    values = {}
    offset = 0
    for tensor in inputs:
        shape = tensor.shape_at(length)
        elements = int(np.prod(shape, dtype=np.int64))
        if tensor.is_text:
            flat = unpack_texts(tensor, row[offset : offset + tensor.bytes], elements)
        else:
            flat = np.frombuffer(row, tensor.dtype, elements, offset) if elements else np.zeros(0, tensor.dtype)
        values[tensor.name] = flat.reshape(shape)
        offset += -(-tensor.bytes // ALIGNMENT) * ALIGNMENT
    return values


def unpack_texts(tensor: Tensor, storage: bytes, elements: int) -> np.ndarray:
    """Read strings from their storage: the heap, then where each lies in it. What the heap has left is zero."""
    spans = [struct.unpack_from("<II", storage, tensor.heap_bytes + 8 * place) for place in range(elements)]
    assert all(offset + length <= tensor.heap_bytes for offset, length in spans)
    used = max((offset + length for offset, length in spans), default=0)
    assert not any(storage[used : tensor.heap_bytes])
    return objects([storage[offset : offset + length] for offset, length in spans])


def pack_texts(tensor: Tensor, value: np.ndarray) -> bytes:
    heap, spans = b"", b""
    for item in value.flat:
        spans += struct.pack("<II", len(heap), len(item))
        heap += item
    assert len(heap) <= tensor.heap_bytes
    return heap.ljust(tensor.heap_bytes, b"\0") + spans


def objects(items: Sequence[bytes]) -> np.ndarray:
    array = np.empty(len(items), object)
    array[:] = items
    return array


# ---- the reference: slow, exact, and made of other people's parsers --------------------------------------------------


class Pairs(list[tuple[Any, Any]]):
    """An object with its members in order, repeated ones included."""


class Number(str):
    """A number as it was written."""

    __slots__ = ()


class MismatchError(Exception):
    """The body does not fit the schema."""


def reference_json(inputs: Sequence[Tensor], body: bytes) -> Row | None:
    """What decode_json should make of a body without names in the query. None: it should refuse."""
    try:
        orjson.loads(body)
    except orjson.JSONDecodeError:
        return None
    parsed = json.loads(body.decode(), parse_float=Number, parse_int=Number, object_pairs_hook=Pairs)
    return reference(inputs, parsed, json_element)


def reference_msgpack(inputs: Sequence[Tensor], body: bytes) -> Row | None:
    """What decode_msgpack should make of a body without names in the query. None: it should refuse."""
    try:
        parsed = msgpack.unpackb(body, object_pairs_hook=Pairs, strict_map_key=False)
    except (ValueError, TypeError, msgpack.UnpackException):
        return None
    return reference(inputs, parsed, msgpack_element)


def reference(inputs: Sequence[Tensor], parsed: Any, element: Any) -> Row | None:
    try:
        members = unique(parsed)
        if not members.keys() <= {"model", "version", "inputs"} or "inputs" not in members:
            return None
        names = [members.get(name, "") for name in ("model", "version")]
        if any(type(name) is not str for name in names) or any(
            members.get(name) == "" for name in ("model", "version")
        ):
            return None
        if names[0] == "missing":
            return None
        values = read_inputs(inputs, members["inputs"], element)
        return Row(names[0], names[1], values, common_length(inputs, values))
    except MismatchError:
        return None


def unique(pairs: Any) -> dict[str, Any]:
    if not isinstance(pairs, Pairs):
        raise MismatchError("not an object")
    if not all(type(name) is str for name, _ in pairs):
        raise MismatchError("a name is no string")
    members = dict(pairs)
    if len(members) != len(pairs):
        raise MismatchError("a name occurs twice")
    return members


def read_inputs(inputs: Sequence[Tensor], value: Any, element: Any) -> dict[str, np.ndarray]:
    if not isinstance(value, Pairs):
        if len(inputs) != 1:
            raise MismatchError("names are needed")
        return {inputs[0].name: read_tensor(inputs[0], value, element)}
    members = unique(value)
    if members.keys() != {tensor.name for tensor in inputs}:
        raise MismatchError("other names")
    return {tensor.name: read_tensor(tensor, members[tensor.name], element) for tensor in inputs}


def common_length(inputs: Sequence[Tensor], values: Mapping[str, np.ndarray]) -> int:
    lengths = {len(values[tensor.name]) for tensor in inputs if tensor.varies}
    if len(lengths) > 1:
        raise MismatchError("other lengths")
    return lengths.pop() if lengths else 0


def read_tensor(tensor: Tensor, value: Any, element: Any) -> np.ndarray:
    if isinstance(value, bytes) and not tensor.is_text:  # a bin of msgpack
        length = len(value) * tensor.shape[0] // tensor.bytes if tensor.varies else 0
        shape = tensor.shape_at(length)
        if tensor.varies and not 1 <= length <= tensor.shape[0]:
            raise MismatchError("another length")
        expected = int(np.prod(shape, dtype=np.int64)) * np.dtype(tensor.dtype).itemsize
        if len(value) != expected or (tensor.dtype == "bool" and not set(value) <= {0, 1}):
            raise MismatchError("other bytes")
        return np.frombuffer(value, tensor.dtype).reshape(shape)
    flat: list[Any] = []
    whole = tensor.shape
    if tensor.varies:
        if type(value) is not list or not 1 <= len(value) <= tensor.shape[0]:
            raise MismatchError("another length")
        whole = tensor.shape_at(len(value))

    def walk(part: Any, shape: tuple[int, ...]) -> None:
        if not shape:
            flat.append(element(part, tensor.dtype))
            return
        if type(part) is not list or len(part) != shape[0]:
            raise MismatchError("another shape")
        for item in part:
            walk(item, shape[1:])

    walk(value, whole)
    if tensor.is_text:
        if sum(map(len, flat)) > tensor.heap_bytes:
            raise MismatchError("no room")
        return objects(flat).reshape(whole)
    return np.array(flat, tensor.dtype).reshape(whole)


def json_element(value: Any, dtype: str) -> Any:
    if dtype == "bytes":
        if type(value) is not str:
            raise MismatchError("another kind")
        return value.encode()
    kind = np.dtype(dtype).kind
    if kind == "b" and type(value) is bool:
        return value
    if kind == "f" and type(value) is str and value in ("NaN", "Infinity", "-Infinity"):
        return np.dtype(dtype).type(value)
    if type(value) is not Number or kind == "b":
        raise MismatchError("another kind")
    if kind == "f":
        return nearest(exact(value), dtype, value.startswith("-"))
    if not re.fullmatch(r"-?\d+", value):
        raise MismatchError("not an integer")
    return integer(int(value) if len(value) < 100 else 1 << 200, dtype)


def msgpack_element(value: Any, dtype: str) -> Any:
    if dtype == "bytes":
        if type(value) not in (str, bytes):
            raise MismatchError("another kind")
        return value.encode() if type(value) is str else value
    kind = np.dtype(dtype).kind
    if kind == "b" and type(value) is bool:
        return value
    if kind in "iu" and type(value) is int:
        return integer(value, dtype)
    if kind != "f" or type(value) not in (int, float):
        raise MismatchError("another kind")
    if type(value) is float and not np.isfinite(value):
        return np.dtype(dtype).type(value)
    return nearest(Fraction(value), dtype, np.signbit(value))


def integer(value: int, dtype: str) -> Any:
    limits = np.iinfo(dtype)
    if not limits.min <= value <= limits.max:
        raise MismatchError("out of range")
    return np.dtype(dtype).type(value)


def exact(number: str) -> Fraction:
    mantissa, _, exponent = number.lower().partition("e")
    power = int(exponent or "0")
    if abs(power) > 2000:  # beyond any float; the Fraction itself would not fit into memory
        zero = Fraction(mantissa) == 0
        return Fraction(0) if zero or power < 0 else Fraction(10**2000) * (-1 if mantissa.startswith("-") else 1)
    return Fraction(mantissa) * Fraction(10) ** power


def nearest(value: Fraction, dtype: str, negative: bool) -> Any:
    """The float nearest to value, ties to even, by comparison with its neighbours."""
    scalar = np.dtype(dtype).type
    limits = np.finfo(dtype)
    largest = Fraction(float(limits.max))
    # Half a step beyond the largest rounds to infinity.
    if abs(value) >= largest + (largest - Fraction(float(np.nextafter(limits.max, scalar(0))))) / 2:
        raise MismatchError("out of range")
    if value == 0:
        return scalar(-0.0 if negative else 0.0)
    with np.errstate(all="ignore"):
        start = scalar(np.clip(float(value), float(limits.min), float(limits.max)))
        candidates = [start, np.nextafter(start, scalar(-np.inf)), np.nextafter(start, scalar(np.inf))]
    finite = [candidate for candidate in candidates if np.isfinite(candidate)]
    unsigned = {"float16": np.uint16, "float32": np.uint32, "float64": np.uint64}[dtype]
    best = min(finite, key=lambda c: (abs(Fraction(float(c)) - value), int(c.view(unsigned)) & 1))
    return scalar(-0.0) if best == 0 and negative else best
