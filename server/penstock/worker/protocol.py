"""What the supervisor and a worker say to each other.

One JSON object per packet of a SOCK_SEQPACKET socket pair, descriptors beside it (SCM_RIGHTS). In order:

    supervisor                      worker
    Load              ->
                      <-            Loaded or Failed
    Attach + ring, loop descriptors ->
                      <-            Ready (warmed up; it takes batches from now on) or Failed
    Stop              ->            finishes its batch and exits

A worker runs a user's code and is not trusted: whatever does not parse is a ProtocolError.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field

from penstock.core.errors import WorkerError
from penstock.worker.model import DTYPES, ModelSpec, TensorSpec

__all__ = [
    "Attach",
    "Failed",
    "Load",
    "Loaded",
    "Message",
    "ProtocolError",
    "Ready",
    "Stop",
    "receive",
    "send",
]

# Below the default send buffer (about 208 KiB), so that a packet always fits an empty socket.
PACKET_BYTES_MAX = 128 * 1024
DESCRIPTORS_MAX = 65  # a ring and 64 I/O loops
DETAIL_CHARACTERS_MAX = 4000


class ProtocolError(WorkerError):
    """The other side said something that is no message of this protocol."""


@dataclass(frozen=True, slots=True)
class Load:
    """Load this model. `worker` is the slot (0..62) under which the worker will attach the ring."""

    model: str
    version: str
    path: str
    backend: str
    worker: int
    options: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Loaded:
    """The model is loaded and this is what it takes and gives. `rerun`: its batches may run twice, by default."""

    backend: str
    spec: ModelSpec
    rerun: bool


@dataclass(frozen=True, slots=True)
class Failed:
    """The model cannot be served; `detail` says to its operator why, and how to mend it."""

    detail: str


@dataclass(frozen=True, slots=True)
class Attach:
    """Serve this ring. With it travel the ring's descriptor and one event descriptor for each of `loops` I/O loops."""

    ring: int
    loops: int


@dataclass(frozen=True, slots=True)
class Ready:
    """The worker takes batches."""

    load_seconds: float
    warmup_seconds: float


@dataclass(frozen=True, slots=True)
class Stop:
    """Finish the batch at hand and exit."""


Message = Load | Loaded | Failed | Attach | Ready | Stop


def send(control: socket.socket, message: Message, descriptors: Sequence[int] = ()) -> None:
    """Send one message; OSError when the other side is gone, ProtocolError when the message is too large."""
    packet = json.dumps(_to_fields(message)).encode()
    if len(packet) > PACKET_BYTES_MAX:
        raise ProtocolError(f"a message of {len(packet)} bytes is too large (at most {PACKET_BYTES_MAX})")
    socket.send_fds(control, [packet], list(descriptors))


def receive(control: socket.socket) -> tuple[Message, list[int]] | None:
    """Receive one message and its descriptors, which the caller owns; None when the other side has closed.

    ProtocolError for anything that is no message; descriptors that came with it are closed.
    """
    packet, descriptors, flags, _ = socket.recv_fds(control, PACKET_BYTES_MAX, DESCRIPTORS_MAX)
    try:
        if not packet:
            return None
        if flags & (socket.MSG_TRUNC | socket.MSG_CTRUNC):
            raise ProtocolError("a message was cut short")
        message = _from_packet(packet)
    except ProtocolError:
        for descriptor in descriptors:
            os.close(descriptor)
        raise
    return message, descriptors


def _to_fields(message: Message) -> dict[str, object]:
    match message:
        case Load():
            return {"kind": "load", **asdict(message)}
        case Loaded(backend, spec, rerun):
            return {
                "kind": "loaded",
                "backend": backend,
                "rerun": rerun,
                "inputs": [[tensor.name, tensor.dtype, list(tensor.shape)] for tensor in spec.inputs],
                "outputs": [[tensor.name, tensor.dtype, list(tensor.shape)] for tensor in spec.outputs],
                "max_batch_size": spec.max_batch_size,
                "labels": {name: list(labels) for name, labels in spec.labels.items()},
            }
        case Failed(detail):
            return {"kind": "error", "detail": detail[:DETAIL_CHARACTERS_MAX]}
        case Attach(ring, loops):
            return {"kind": "attach", "ring": ring, "loops": loops}
        case Ready(load_seconds, warmup_seconds):
            return {"kind": "ready", "load_seconds": load_seconds, "warmup_seconds": warmup_seconds}
        case Stop():
            return {"kind": "stop"}


class _Fields:
    """The members of a received object, each checked for its type as it is read."""

    def __init__(self, members: Mapping[str, object]) -> None:
        self._members = members

    def text(self, name: str) -> str:
        value = self._members.get(name)
        if not isinstance(value, str):
            raise ProtocolError(f"{name!r} is not a string")
        return value

    def flag(self, name: str) -> bool:
        value = self._members.get(name)
        if not isinstance(value, bool):
            raise ProtocolError(f"{name!r} is not a boolean")
        return value

    def number(self, name: str) -> int:
        return _integer(self._members.get(name), name)

    def seconds(self, name: str) -> float:
        value = self._members.get(name)
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise ProtocolError(f"{name!r} is not a number")
        return float(value)

    def items(self, name: str) -> list[object]:
        value = self._members.get(name)
        if not isinstance(value, list):
            raise ProtocolError(f"{name!r} is not a list")
        return value

    def table(self, name: str) -> dict[str, object]:
        value = self._members.get(name)
        if not isinstance(value, dict):
            raise ProtocolError(f"{name!r} is not an object")
        return value

    def missing(self, name: str) -> bool:
        return self._members.get(name) is None


def _integer(value: object, name: str) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**31:
        raise ProtocolError(f"{name!r} is not a whole number")
    return value


def _tensors(fields: _Fields, name: str) -> tuple[TensorSpec, ...]:
    tensors = []
    for item in fields.items(name):
        match item:
            case [str(tensor), str(dtype), [*shape]] if dtype in DTYPES:
                tensors.append(TensorSpec(tensor, dtype, tuple(_integer(size, name) for size in shape)))
            case _:
                raise ProtocolError(f"{name!r} does not describe tensors")
    return tuple(tensors)


def _labels(fields: _Fields) -> dict[str, tuple[int | str, ...]]:
    labels: dict[str, tuple[int | str, ...]] = {}
    for output, values in fields.table("labels").items():
        if not isinstance(values, list):
            raise ProtocolError("'labels' are not lists")
        labels[output] = tuple(value for value in values if isinstance(value, int | str))
    return labels


def _loaded(fields: _Fields) -> Loaded:
    spec = ModelSpec(
        inputs=_tensors(fields, "inputs"),
        outputs=_tensors(fields, "outputs"),
        max_batch_size=None if fields.missing("max_batch_size") else fields.number("max_batch_size"),
        labels=_labels(fields),
    )
    return Loaded(backend=fields.text("backend"), spec=spec, rerun=fields.flag("rerun"))


def _load(fields: _Fields) -> Load:
    return Load(
        model=fields.text("model"),
        version=fields.text("version"),
        path=fields.text("path"),
        backend=fields.text("backend"),
        worker=fields.number("worker"),
        options={name: _integer(value, name) for name, value in fields.table("options").items()},
    )


_PARSERS: dict[str, Callable[[_Fields], Message]] = {
    "load": _load,
    "loaded": _loaded,
    "error": lambda fields: Failed(fields.text("detail")),
    "attach": lambda fields: Attach(fields.number("ring"), fields.number("loops")),
    "ready": lambda fields: Ready(fields.seconds("load_seconds"), fields.seconds("warmup_seconds")),
    "stop": lambda _: Stop(),
}


def _from_packet(packet: bytes) -> Message:
    try:
        members = json.loads(packet)
    except ValueError as error:
        raise ProtocolError("a message is not JSON") from error
    if not isinstance(members, dict):
        raise ProtocolError("a message is not an object")
    fields = _Fields(members)
    kind = fields.text("kind")
    if kind not in _PARSERS:
        raise ProtocolError(f"there is no message of kind {kind!r}")
    return _PARSERS[kind](fields)
