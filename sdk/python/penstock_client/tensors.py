"""Rows of NumPy as binary tensors of the Open Inference Protocol: a head in JSON, then the arrays' own bytes.

Arrays are sent from where they lie, and what comes back are views of the reply. NumPy is imported when first used.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from penstock_client.errors import ArgumentError
from penstock_client.messages import Reply
from penstock_client.packages import installed
from penstock_client.schema import DTYPES, ModelSchema, TensorSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

__all__ = ["BinaryBody", "as_rows", "read_outputs"]

# By what NumPy calls them in short, without the byte order.
_DATATYPES = {
    "b1": "BOOL",
    **{f"{kind}{size}": f"{word}{8 * size}" for kind, word in (("i", "INT"), ("u", "UINT")) for size in (1, 2, 4, 8)},
    **{f"f{size}": f"FP{8 * size}" for size in (2, 4, 8)},
}
_LENGTH = "inference-header-content-length"


class BinaryBody:
    """A request's body: `head`, then the bytes of each array in turn."""

    __slots__ = ("_buffers", "bytes_after_head", "head")

    def __init__(self, tensors: Mapping[str, NDArray[Any]], *, row_errors: bool) -> None:
        self._buffers = [_bytes_of(array) for array in tensors.values()]
        self.bytes_after_head = sum(len(buffer) for buffer in self._buffers)
        described = [
            (name, _datatype(array), array.shape, len(buffer))
            for (name, array), buffer in zip(tensors.items(), self._buffers, strict=True)
        ]
        self.head = _head_of(tuple(described), row_errors)

    def __iter__(self) -> Iterator[bytes | memoryview]:
        return iter(self._buffers)

    @property
    def field(self) -> str:
        """The field that says where the head ends, with its CRLF."""
        return f"Inference-Header-Content-Length: {len(self.head)}\r\n"


@lru_cache(maxsize=256)
def _head_of(described: tuple[tuple[str, str, tuple[int, ...], int], ...], row_errors: bool) -> bytes:
    inputs = [
        {"name": name, "datatype": datatype, "shape": shape, "parameters": {"binary_data_size": size}}
        for name, datatype, shape, size in described
    ]
    parameters = {"binary_data_output": True, **({"row_errors": True} if row_errors else {})}
    document = {"parameters": parameters, "inputs": inputs}
    return json.dumps(document, separators=(",", ":"), ensure_ascii=False).encode()


def as_rows(inputs: object, schema: ModelSchema, *, one: bool) -> dict[str, NDArray[Any]]:
    """Return an array for each input, in the model's own dtypes, with the rows in front.

    Args:
        inputs: A mapping of names to arrays, or an array for a model of one input.
        schema: What the model takes.
        one: Whether `inputs` is one row, which has no extent for rows yet.
    """
    installed("numpy", "numpy")
    if isinstance(inputs, Mapping):
        named = {str(name): value for name, value in inputs.items()}
    elif len(schema.inputs) == 1:
        named = {schema.inputs[0].name: inputs}
    else:
        names = ", ".join(tensor.name for tensor in schema.inputs)
        raise ArgumentError(f"model {schema.name} has the inputs {names}: give a dict with an array for each")
    arrays = {name: _in_dtype(name, value, schema.input(name)) for name, value in named.items()}
    if one:
        for name, array in arrays.items():
            _check_one(name, array, schema.input(name))
        return {name: array[None] for name, array in arrays.items()}
    for name, array in arrays.items():
        if array.ndim == 0:
            raise ArgumentError(f"inputs.{name}: an array of no dimension holds no rows")
    if len({len(array) for array in arrays.values()}) > 1:
        counts = ", ".join(f"{name} {len(array)}" for name, array in arrays.items())
        raise ArgumentError(f"the inputs have different numbers of rows: {counts}")
    return arrays


def _check_one(name: str, array: NDArray[Any], spec: TensorSpec | None) -> None:
    """ArgumentError when an array is rows of what one row is."""
    if spec is None or array.ndim != len(spec.shape) + 1:
        return
    if all(wanted in (None, got) for wanted, got in zip(spec.shape, array.shape[1:], strict=True)):
        text = f"inputs.{name}: expected one row, {spec}, got an array of shape {array.shape}"
        raise ArgumentError(f"{text}: predict_batch takes rows")


def _in_dtype(name: str, value: object, spec: TensorSpec | None) -> NDArray[Any]:
    import numpy as np

    if np.ma.is_masked(value):
        raise ArgumentError(f"inputs.{name}: elements are masked, and a tensor has all of them: use .filled(...)")
    try:
        array = np.asarray(value)
    except Exception as error:  # each library has its own, as for tensors on a GPU or lists of different lengths
        raise ArgumentError(f"inputs.{name}: cannot be made an array: {error}") from error
    if spec is None or spec.dtype == "str":
        return array  # the server says what it knows of a name that is none of the model's
    wanted = np.dtype(spec.dtype)
    if array.dtype == wanted:
        return array
    if array.dtype.kind == "O":  # as columns of pandas are that have held other things, too
        try:
            array = np.asarray(array.tolist())
        except ValueError as error:
            raise ArgumentError(f"inputs.{name}: cannot be made an array: {error}") from error
    if array.dtype.kind not in "biuf":
        raise ArgumentError(f"inputs.{name}: expected {wanted}, got an array of {array.dtype}")
    converted = _converted(array, wanted)
    if converted is None:
        text = f"inputs.{name}: {array.dtype} does not become {wanted} without loss; if it may, use"
        raise ArgumentError(f"{text} .astype({str(wanted)!r})")
    return converted


def _converted(array: NDArray[Any], wanted: np.dtype[Any]) -> NDArray[Any] | None:
    """Return the array in another dtype, None where more would be lost than precision of floats.

    So 3 of int64 becomes 3 of uint8, and 3.0 becomes 3; but not 300, nor 3.5, and 1e39 no infinity.
    """
    import numpy as np

    if np.can_cast(array.dtype, wanted, "safe") or array.size == 0:
        return array.astype(wanted)
    if wanted.kind == "b" or array.dtype.kind == "b":
        return None
    if wanted.kind == "f":
        with np.errstate(over="ignore"):
            floats = array.astype(wanted)
        grown = np.isinf(floats) & ~np.isinf(array)
        return None if grown.any() else floats
    limits = np.iinfo(wanted)
    if not (array.min() >= limits.min and array.max() <= limits.max):
        return None
    if array.dtype.kind == "f" and not (np.mod(array, 1) == 0).all():
        return None
    with np.errstate(invalid="ignore"):
        whole = array.astype(wanted)
    # As floats, the largest numbers of 64 bits are beyond themselves.
    return whole if (whole == array).all() else None


def _datatype(array: NDArray[Any]) -> str:
    if array.dtype.kind in "OSUT":
        return "BYTES"
    datatype = _DATATYPES.get(array.dtype.str[1:])
    if datatype is None:
        raise ArgumentError(f"arrays of {array.dtype} have no form on the wire")
    return datatype


def _bytes_of(array: NDArray[Any]) -> bytes | memoryview:
    import numpy as np

    if array.dtype.kind in "OSUT":
        return b"".join(len(text).to_bytes(4, "little") + text for text in map(_text, array.reshape(-1).tolist()))
    if array.dtype.byteorder == ">":
        array = array.astype(array.dtype.newbyteorder("<"))
    flat: NDArray[Any] = np.ascontiguousarray(array).reshape(-1)
    return flat.view(np.uint8).data if flat.size else b""


def _text(value: object) -> bytes:
    if isinstance(value, str):
        try:
            return value.encode()
        except UnicodeEncodeError:
            raise ArgumentError("a string holds half a surrogate pair, which UTF-8 has no form for") from None
    if isinstance(value, bytes):
        return value
    raise ArgumentError(f"an array of strings holds {value!r}, a {type(value).__name__}")


def read_outputs(reply: Reply) -> tuple[dict[str, Any], dict[str, NDArray[Any]]]:
    """Read a reply: its head, and an array for each output, which may be written to.

    ValueError, KeyError or TypeError when it is no such reply.
    """
    end = int(reply.field(_LENGTH) or -1)
    if not 0 < end <= len(reply.body):
        raise ValueError(f"a head of {end} bytes in a reply of {len(reply.body)}")
    head: dict[str, Any] = json.loads(bytes(reply.body[:end]))
    outputs: dict[str, NDArray[Any]] = {}
    for output in head["outputs"]:
        size = output["parameters"]["binary_data_size"]
        outputs[output["name"]] = _array(reply.body, end, size, output["datatype"], output["shape"])
        end += size
    return head, outputs


def _array(body: bytearray | memoryview, at: int, size: int, datatype: str, shape: Sequence[int]) -> NDArray[Any]:
    import numpy as np

    elements = math.prod(shape)
    if size < 0 or at + size > len(body) or min(shape, default=0) < 0:
        raise ValueError(f"a tensor of shape {shape} with {size} bytes behind byte {at} of {len(body)}")
    if datatype == "BYTES":
        found = _texts(memoryview(body)[at : at + size])
        if len(found) != elements:
            raise ValueError(f"{len(found)} strings for the shape {shape}")
        texts = np.empty(elements, dtype=object)
        texts[:] = found
        return texts.reshape(shape)
    dtype = np.dtype(DTYPES[datatype])
    if size != elements * dtype.itemsize:
        raise ValueError(f"{size} bytes for {datatype} of shape {shape}")
    array = np.frombuffer(body, dtype, size // dtype.itemsize, at).reshape(shape) if size else np.empty(shape, dtype)
    # Some code takes an array that begins in the middle of a word for granted, other code crashes.
    return array if array.flags.aligned else array.copy()


def _texts(data: memoryview) -> list[str | bytes]:
    texts: list[str | bytes] = []
    at = 0
    while at < len(data):
        length = int.from_bytes(data[at : at + 4], "little")
        if at + 4 + length > len(data):
            raise ValueError("a string that is longer than its tensor")
        text = bytes(data[at + 4 : at + 4 + length])
        at += 4 + length
        try:
            texts.append(text.decode())
        except UnicodeDecodeError:
            texts.append(text)
    return texts
