"""How a row becomes a request of some server's API, and how its answer is read.

A dialect is one API in one encoding. Rows and answers are arrays by name, whatever the API calls them.
"""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol
from urllib.parse import quote

import numpy as np
from numpy.typing import NDArray

from penstock.load.rows import Row, TensorSpec, dtype_of

__all__ = [
    "DIALECTS",
    "Dialect",
    "HttpRequest",
    "OpenInference",
    "PenstockJson",
    "PenstockMsgpack",
    "PenstockRaw",
    "json_values",
    "request_bytes",
]

OIP_TYPES = {
    "bool": "BOOL",
    "int8": "INT8",
    "int16": "INT16",
    "int32": "INT32",
    "int64": "INT64",
    "uint8": "UINT8",
    "uint16": "UINT16",
    "uint32": "UINT32",
    "uint64": "UINT64",
    "float16": "FP16",
    "float32": "FP32",
    "float64": "FP64",
    "object": "BYTES",  # strings
}


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A POST: where to, with which header fields beside Host and Content-Length, and the body."""

    target: str
    headers: Mapping[str, str]
    body: bytes


class Dialect(Protocol):
    """One API in one encoding. `outputs` are the model's, for encodings that do not name what they carry."""

    @property
    def name(self) -> str:
        """The word for it in options and tables."""

    def request(self, model: str, row: Row) -> HttpRequest:
        """Write the request for one row of `model`."""

    def answer(self, body: bytes, outputs: Sequence[TensorSpec]) -> Row:
        """Read the body of a 200; ValueError or KeyError when it is not an answer."""


@dataclass(frozen=True, slots=True)
class PenstockJson:
    """POST /predict with JSON; of the latest version unless one is given."""

    version: str | None = None
    name: str = "json"

    def request(self, model: str, row: Row) -> HttpRequest:
        """Write the request for one row of `model`."""
        inputs = ",".join(f"{json.dumps(name)}:{json_values(array)}" for name, array in row.items())
        version = "" if self.version is None else f'"version":{json.dumps(self.version)},'
        body = f'{{"model":{json.dumps(model)},{version}"inputs":{{{inputs}}}}}'
        return HttpRequest("/predict", _both_ways("application/json"), body.encode())

    def answer(self, body: bytes, outputs: Sequence[TensorSpec]) -> Row:
        """Read {"outputs": {name: value}}."""
        values = json.loads(body)["outputs"]
        return {spec.name: np.array(values[spec.name], dtype=dtype_of(spec)) for spec in outputs}


@dataclass(frozen=True, slots=True)
class PenstockMsgpack:
    """POST /predict with msgpack, numbers as typed elements of arrays; of the latest version unless one is given."""

    version: str | None = None
    name: str = "msgpack"

    def request(self, model: str, row: Row) -> HttpRequest:
        """Write the request for one row of `model`."""
        inputs = b"".join(_msgpack_text(name) + _msgpack_array(array) for name, array in row.items())
        members = {"model": model} | ({} if self.version is None else {"version": self.version})
        body = struct.pack(">B", 0x80 | len(members) + 1)
        body += b"".join(_msgpack_text(name) + _msgpack_text(value) for name, value in members.items())
        body += _msgpack_text("inputs") + struct.pack(">BH", 0xDE, len(row)) + inputs
        return HttpRequest("/predict", _both_ways("application/msgpack"), body)

    def answer(self, body: bytes, outputs: Sequence[TensorSpec]) -> Row:
        """Read {"outputs": {name: value}}."""
        import msgpack  # type: ignore[import-untyped]

        values = msgpack.unpackb(body)["outputs"]
        return {spec.name: np.array(values[spec.name], dtype=dtype_of(spec)) for spec in outputs}


@dataclass(frozen=True, slots=True)
class PenstockRaw:
    """POST /predict with the bytes of a tensor, little-endian: for models with one input and one output.

    Of the latest version unless one is given.
    """

    version: str | None = None
    name: str = "raw"

    def request(self, model: str, row: Row) -> HttpRequest:
        """Write the request for one row of `model`; ValueError when it has several inputs."""
        (array,) = row.values()
        if array.dtype.hasobject:
            raise ValueError("raw bodies carry no strings")
        body = _little_endian(array).tobytes()
        version = "" if self.version is None else f"&version={quote(self.version, safe='')}"
        target = f"/predict?model={quote(model, safe='')}{version}"
        return HttpRequest(target, _both_ways("application/octet-stream"), body)

    def answer(self, body: bytes, outputs: Sequence[TensorSpec]) -> Row:
        """Read the only output."""
        (spec,) = outputs
        return {spec.name: np.frombuffer(body, np.dtype(spec.dtype).newbyteorder("<")).reshape(spec.shape_at(-1))}


@dataclass(frozen=True, slots=True)
class OpenInference:
    """The Open Inference Protocol v2 over REST, tensors in JSON or (`binary`) behind it as bytes.

    Source: the protocol's "inference_rest" and "extension_binary_data". Models batch, so shapes begin with 1.
    """

    binary: bool = False
    name: str = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "name", "oip-binary" if self.binary else "oip")

    def request(self, model: str, row: Row) -> HttpRequest:
        """Write the request for one row of `model`."""
        inputs = ",".join(self._tensor(name, array) for name, array in row.items())
        extra = ',"parameters":{"binary_data_output":true}' if self.binary else ""
        head = f'{{"id":"1","inputs":[{inputs}]{extra}}}'.encode()
        target = f"/v2/models/{quote(model, safe='')}/infer"
        if not self.binary:
            return HttpRequest(target, {"Content-Type": "application/json"}, head)
        fields = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(head))}
        return HttpRequest(target, fields, head + b"".join(map(_binary, row.values())))

    def answer(self, body: bytes, outputs: Sequence[TensorSpec]) -> Row:
        """Read the outputs, without the batch dimension."""
        document, offset = json.JSONDecoder().raw_decode(body.decode("latin-1"))
        by_name = {tensor["name"]: tensor for tensor in document["outputs"]}
        found: dict[str, NDArray[Any]] = {}
        for tensor in document["outputs"] if self.binary else []:
            end = offset + tensor["parameters"]["binary_data_size"]
            dtype = dtype_of(next(spec for spec in outputs if spec.name == tensor["name"]))
            data = body[offset:end]
            tensor["data"] = _texts_in(data) if dtype.hasobject else np.frombuffer(data, dtype)
            offset = end
        for spec in outputs:
            found[spec.name] = np.array(by_name[spec.name]["data"], dtype=dtype_of(spec)).reshape(spec.shape)
        return found

    def _tensor(self, name: str, array: NDArray[Any]) -> str:
        shape = json.dumps([1, *array.shape])
        if self.binary:
            data = f'"parameters":{{"binary_data_size":{len(_binary(array))}}}'
        else:
            data = f'"data":{json_values(array.reshape(-1))}'
        return f'{{"name":{json.dumps(name)},"shape":{shape},"datatype":"{OIP_TYPES[array.dtype.name]}",{data}}}'


DIALECTS: Mapping[str, Dialect] = {
    dialect.name: dialect
    for dialect in (PenstockJson(), PenstockMsgpack(), PenstockRaw(), OpenInference(), OpenInference(binary=True))
}


def request_bytes(host: str, request: HttpRequest, more: Sequence[tuple[str, str]] = ()) -> bytes:
    """Write an HTTP/1.1 request as it goes over the wire, with more header fields if given."""
    fields = {"Host": host, **request.headers, **dict(more), "Content-Length": str(len(request.body))}
    lines = [f"POST {request.target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1") + request.body


def json_values(array: NDArray[Any]) -> str:
    """Write an array as nested JSON lists: the shortest text of each number in its own dtype, not in float64."""
    if array.dtype.kind != "f":
        return json.dumps(array.tolist(), separators=(",", ":"))
    if array.ndim == 0:
        return str(array[()])
    if array.ndim > 1:
        return "[" + ",".join(json_values(part) for part in array) + "]"
    return "[" + ",".join(map(str, array)) + "]"


def _both_ways(media_type: str) -> dict[str, str]:
    return {"Content-Type": media_type, "Accept": media_type}


def _little_endian(array: NDArray[Any]) -> NDArray[Any]:
    return np.ascontiguousarray(array, array.dtype.newbyteorder("<"))


def _binary(array: NDArray[Any]) -> bytes:
    """Write a tensor of the binary extension: strings each behind its length."""
    if not array.dtype.hasobject:
        return _little_endian(array).tobytes()
    texts = [text.encode() for text in array.reshape(-1)]
    return b"".join(struct.pack("<I", len(text)) + text for text in texts)


def _texts_in(data: bytes) -> list[str]:
    texts = []
    while data:
        (length,) = struct.unpack_from("<I", data)
        texts.append(data[4 : 4 + length].decode(errors="surrogateescape"))
        data = data[4 + length :]
    return texts


# msgpack by hand where it is written: float32 elements, which the msgpack library has no way to ask for one by one.
_MSGPACK_HEADS = {
    "float32": b"\xca",
    "float64": b"\xcb",
    "uint8": b"\xcc",
    "uint16": b"\xcd",
    "uint32": b"\xce",
    "uint64": b"\xcf",
    "int8": b"\xd0",
    "int16": b"\xd1",
    "int32": b"\xd2",
    "int64": b"\xd3",
}


def _msgpack_text(text: str) -> bytes:
    encoded = text.encode()
    head = (">BB", 0xD9) if len(encoded) < 1 << 8 else (">BI", 0xDB)
    return struct.pack(*head, len(encoded)) + encoded


def _msgpack_array(array: NDArray[Any]) -> bytes:
    if array.ndim > 1:
        return struct.pack(">BI", 0xDD, len(array)) + b"".join(_msgpack_array(part) for part in array)
    if array.dtype.hasobject:
        elements = b"".join(b"\xc0" if text is None else _msgpack_text(text) for text in array.reshape(-1))
    elif array.dtype.kind == "b":
        elements = b"".join(b"\xc3" if value else b"\xc2" for value in array.reshape(-1))
    else:
        wide = array.astype("float32") if array.dtype.name == "float16" else array
        head = np.frombuffer(_MSGPACK_HEADS[wide.dtype.name], np.uint8)
        body = wide.astype(wide.dtype.newbyteorder(">")).reshape(-1, 1).view(np.uint8)
        elements = np.hstack([np.broadcast_to(head, (body.shape[0], 1)), body]).tobytes()
    return elements if array.ndim == 0 else struct.pack(">BI", 0xDD, len(array)) + elements
