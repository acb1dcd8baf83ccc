"""What an ONNX file holds, as two digests: its graph, and its weights. Read from the bytes, without the onnx package.

Two versions of a model that was trained again have the same graph and other weights, unless constants were folded.

The format: https://github.com/onnx/onnx/blob/main/onnx/onnx.proto, in protobuf's encoding
(https://protobuf.dev/programming-guides/encoding/). Numbers of fields are named below.
"""

from __future__ import annotations

import hashlib
import mmap
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from penstock.core.errors import ModelLoadError

if TYPE_CHECKING:
    from hashlib import _Hash

__all__ = ["OnnxDigests", "digests_of"]

_GRAPH = 7  # of ModelProto
_INITIALIZER = 5  # of GraphProto
_DATA_TYPE, _EXTERNAL = 2, 13  # of TensorProto
_VALUES = frozenset({4, 5, 6, 7, 9, 10, 11})  # of TensorProto: in fields of their types, or raw
_KEY, _VALUE = 1, 2  # of StringStringEntryProto
# FLOAT, FLOAT16, DOUBLE, BFLOAT16. Whole numbers are shapes and indices as a rule: they belong to the graph.
_WEIGHTS = frozenset({1, 10, 11, 16})
_CHUNK = 1 << 20


class OnnxDigests(NamedTuple):
    """SHA-256 in hexadecimal."""

    graph: str
    weights: str


def digests_of(file: Path) -> OnnxDigests:
    """Read a file, and those beside it that hold its weights; ModelLoadError when it is no ONNX file."""
    graph, weights = hashlib.sha256(), hashlib.sha256()
    try:
        with file.open("rb") as opened:
            mapped = mmap.mmap(opened.fileno(), 0, access=mmap.ACCESS_READ)  # unmapped with the last view of it
        _read_model(memoryview(mapped), file.parent, graph, weights)
    except (OSError, ValueError, IndexError) as error:
        raise ModelLoadError(f"{file} is no ONNX file, or not a complete one: {error}") from error
    return OnnxDigests(graph.hexdigest(), weights.hexdigest())


def _read_model(data: memoryview, folder: Path, graph: _Hash, weights: _Hash) -> None:
    for number, value in _fields(data):
        if number != _GRAPH:
            _add(graph, number, value)
            continue
        for inner, part in _fields(value):
            if inner == _INITIALIZER:
                _read_tensor(part, folder, graph, weights)
            else:
                _add(graph, inner, part)


def _read_tensor(data: memoryview, folder: Path, graph: _Hash, weights: _Hash) -> None:
    fields = list(_fields(data))
    types = [int.from_bytes(value, "little") for number, value in fields if number == _DATA_TYPE]
    values_to = weights if types[-1:] and types[-1] in _WEIGHTS else graph
    beside: dict[bytes, bytes] = {}
    for number, value in fields:
        if number == _EXTERNAL:
            entry = {key: bytes(text) for key, text in _fields(value)}
            beside[entry.get(_KEY, b"")] = entry.get(_VALUE, b"")
        else:  # name, type, dimensions; or the values
            _add(values_to if number in _VALUES else graph, number, value)
    if b"location" in beside:
        _add_part(values_to, folder / beside[b"location"].decode(), beside)
    _add(graph, 0, memoryview(b""))  # the tensor's end


def _add_part(to: _Hash, file: Path, beside: dict[bytes, bytes]) -> None:
    """Add the part of a file that holds a tensor's values; where it lies there is no matter."""
    first = int(beside.get(b"offset", b"0"))
    left = int(beside.get(b"length", file.stat().st_size - first))
    with file.open("rb") as opened:
        opened.seek(first)
        while left > 0:
            part = opened.read(min(left, _CHUNK))
            if not part:
                raise ValueError(f"{file} ends within the weights")
            to.update(part)
            left -= len(part)


def _add(to: _Hash, number: int, value: memoryview) -> None:
    to.update(b"%d:%d:" % (number, len(value)))
    to.update(value)


def _fields(data: memoryview) -> Iterator[tuple[int, memoryview]]:
    """Yield each field's number and its value: bytes, or a number in little-endian order."""
    at = 0
    while at < len(data):
        tag, at = _varint(data, at)
        number, kind = tag >> 3, tag & 7
        if kind == 0:
            value, at = _varint(data, at)
            yield number, memoryview(value.to_bytes(8, "little"))
            continue
        if kind == 2:
            size, at = _varint(data, at)
        elif kind in (1, 5):
            size = 8 if kind == 1 else 4
        else:
            raise ValueError(f"a field of wire type {kind}")
        if at + size > len(data):
            raise ValueError("it ends within a field")
        yield number, data[at : at + size]
        at += size


def _varint(data: memoryview, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            return value & 0xFFFF_FFFF_FFFF_FFFF, at
        shift += 7
        if shift > 63:
            raise ValueError("a number of more than ten bytes")
