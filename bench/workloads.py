"""What the load generator sends and what must come back."""

import json
import struct
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import msgpack  # type: ignore[import-untyped]
import numpy as np
import onnxruntime
from numpy.typing import NDArray

__all__ = ["Encoding", "Row", "Workload", "decode", "encode", "open_session", "same"]

TOLERANCE = 1e-5  # batches of other sizes may round otherwise


class Encoding(StrEnum):
    """How a row travels."""

    JSON = "json"
    MSGPACK = "msgpack"
    RAW = "raw"

    @property
    def media_type(self) -> str:
        """The value of Content-Type and of Accept."""
        return {"json": "application/json", "msgpack": "application/msgpack"}.get(self, "application/octet-stream")


Row = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Workload:
    """One model with one fixed request for it."""

    name: str
    path: Path
    width: int

    def row(self) -> Row:
        """Return the row that is sent: numbers with six decimals, so that JSON bodies have a usual length."""
        values = np.random.default_rng(7).uniform(-1.0, 1.0, self.width)
        return np.round(values, 6).astype(np.float32)

    def expected(self) -> Row:
        """Compute the answer by ONNX Runtime itself."""
        answer: Row = open_session(self.path).run(None, {"x": self.row()[None]})[0][0]
        return answer


def open_session(path: Path) -> Any:
    """Open a model as the server does: one thread, sequential."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def encode(encoding: Encoding, model: str, row: Row) -> bytes:
    """Encode a request body; a raw body carries no names, these go into the query."""
    if encoding is Encoding.RAW:
        return row.astype("<f4").tobytes()
    if encoding is Encoding.JSON:
        # float32's shortest text, not that of the float64 it would become.
        numbers = ",".join(str(value) for value in row)
        return f'{{"model":"{model}","inputs":[{numbers}]}}'.encode()
    head = msgpack.packb({"model": model})
    values = b"".join(b"\xca" + struct.pack(">f", value) for value in row)
    return b"\x82" + bytes(head[1:]) + bytes(msgpack.packb("inputs")) + _array_head(len(row)) + values


def decode(encoding: Encoding, body: bytes) -> Row:
    """Decode the output "y" of a reply body; ValueError or KeyError when it is not one."""
    if encoding is Encoding.RAW:
        return np.frombuffer(body, "<f4")
    reply = json.loads(body) if encoding is Encoding.JSON else msgpack.unpackb(body)
    return np.array(reply["outputs"]["y"], dtype=np.float32)


def same(answer: Row, expected: Row) -> bool:
    """Tell whether two answers are equal within the backend's rounding."""
    return answer.shape == expected.shape and bool(np.allclose(answer, expected, rtol=TOLERANCE, atol=TOLERANCE))


def _array_head(length: int) -> bytes:
    return b"\xdc" + struct.pack(">H", length) if length < 1 << 16 else b"\xdd" + struct.pack(">I", length)
