"""Messages as packets of JSON, and back: each field is checked for its type as it is read."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import asdict

from penstock.core.cpus import CPU_MAX
from penstock.core.status import ImageFit
from penstock.worker.messages import (
    Attach,
    CostSample,
    Failed,
    Load,
    Loaded,
    Measured,
    Message,
    ModelToLoad,
    ProtocolError,
    Ready,
    Stop,
)
from penstock.worker.model import DTYPES, ModelSpec, TensorSpec
from penstock.worker.placement import Placement

__all__ = ["DETAIL_CHARACTERS_MAX", "from_packet", "to_packet"]

DETAIL_CHARACTERS_MAX = 4000


def to_packet(message: Message) -> bytes:
    """Return the message as JSON."""
    return json.dumps(_to_members(message)).encode()


def from_packet(packet: bytes) -> Message:
    """Return the message that a packet holds; ProtocolError when it is none."""
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


def _to_members(message: Message) -> dict[str, object]:
    match message:
        case Loaded(model, backend, spec, rerun):
            return {
                "kind": "loaded",
                "model": model,
                "backend": backend,
                "rerun": rerun,
                "inputs": [[*_parts(tensor)] for tensor in spec.inputs],
                "outputs": [[*_parts(tensor)] for tensor in spec.outputs],
                "max_batch_size": spec.max_batch_size,
                "labels": {name: list(labels) for name, labels in spec.labels.items()},
                "record": spec.record,
            }
        case Failed(detail, model):
            return {"kind": "failed", "detail": detail[:DETAIL_CHARACTERS_MAX], "model": model}
        case _:
            return {"kind": type(message).__name__.lower(), **asdict(message)}


def _parts(tensor: TensorSpec) -> tuple[str, str, list[int], bool, str, dict[str, object] | None]:
    fit = None if tensor.fit is None else asdict(tensor.fit)
    return tensor.name, tensor.dtype, list(tensor.shape), tensor.varies, tensor.unit, fit


class _Fields:
    """The members of a received object."""

    def __init__(self, members: Mapping[str, object]) -> None:
        self._members = members

    def text(self, name: str) -> str:
        value = self._members.get(name)
        if not isinstance(value, str):
            raise ProtocolError(f"{name!r} is not a string")
        return value

    def texts(self, name: str) -> tuple[str, ...]:
        values = self.items(name)
        if not all(isinstance(value, str) for value in values):
            raise ProtocolError(f"{name!r} are not strings")
        return tuple(str(value) for value in values)

    def bytes(self, name: str) -> int:
        return _integer(self._members.get(name), name, 2**63)

    def flag(self, name: str) -> bool:
        value = self._members.get(name)
        if not isinstance(value, bool):
            raise ProtocolError(f"{name!r} is not a boolean")
        return value

    def number(self, name: str) -> int:
        return _integer(self._members.get(name), name)

    def number_or_none(self, name: str) -> int | None:
        return None if self._members.get(name) is None else self.number(name)

    def seconds(self, name: str) -> float:
        return _seconds(self._members.get(name), name)

    def items(self, name: str) -> list[object]:
        value = self._members.get(name)
        if not isinstance(value, list):
            raise ProtocolError(f"{name!r} is not a list")
        return value

    def table(self, name: str) -> dict[str, object]:
        return _object(self._members.get(name), name)


def _object(value: object, name: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise ProtocolError(f"{name!r} is not an object")
    return value


def _integer(value: object, name: str, end: int = 2**31) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < end:
        raise ProtocolError(f"{name!r} is not a whole number")
    return value


def _seconds(value: object, name: str) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise ProtocolError(f"{name!r} is not a number of seconds")
    return float(value)


def _tensors(fields: _Fields, name: str) -> tuple[TensorSpec, ...]:
    tensors = []
    for item in fields.items(name):
        match item:
            case [str(tensor), str(dtype), [*sizes], bool(varies), str(unit), fit] if dtype in DTYPES and (
                sizes or not varies
            ):
                shape = tuple(_integer(size, name) for size in sizes)
                tensors.append(TensorSpec(tensor, dtype, shape, varies, unit=unit, fit=_fit(fit)))
            case _:
                raise ProtocolError(f"{name!r} does not describe tensors")
    return tuple(tensors)


def _fit(value: object) -> ImageFit | None:
    if value is None:
        return None
    fields = _Fields(_object(value, "fit"))
    resize, crop = (tuple(_integer(side, name) for side in fields.items(name)) for name in ("resize", "crop"))
    return ImageFit(resize, crop, fields.text("filter"))


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
        max_batch_size=fields.number_or_none("max_batch_size"),
        labels=_labels(fields),
        record=fields.text("record"),
    )
    return Loaded(fields.number("model"), fields.text("backend"), spec, fields.flag("rerun"))


def _load(fields: _Fields) -> Load:
    models = (_Fields(_object(item, "models")) for item in fields.items("models"))
    placement = _Fields(fields.table("placement"))
    cpus = tuple(_integer(cpu, "cpus") for cpu in placement.items("cpus"))
    if any(cpu > CPU_MAX for cpu in cpus):
        raise ProtocolError("'cpus' are not CPUs")
    return Load(
        worker=fields.number("worker"),
        models=tuple(_model_to_load(model) for model in models),
        placement=Placement(cpus, placement.number_or_none("numa_node")),
        memory_bytes=fields.bytes("memory_bytes"),
        idle=fields.flag("idle"),
    )


def _model_to_load(fields: _Fields) -> ModelToLoad:
    return ModelToLoad(
        name=fields.text("name"),
        version=fields.text("version"),
        path=fields.text("path"),
        backend=fields.text("backend"),
        intra_op_threads=fields.number("intra_op_threads"),
        warmup_seconds=fields.seconds("warmup_seconds"),
        lengths=tuple(_integer(length, "lengths") for length in fields.items("lengths")),
        max_batch_tokens=fields.number("max_batch_tokens"),
        convert=fields.text("convert"),
        trusted_digests=fields.texts("trusted_digests"),
        trusted_types=fields.texts("trusted_types"),
        golden=fields.text("golden"),
        max_batch_size=fields.number("max_batch_size"),
        device=fields.text("device"),
        precision=fields.text("precision"),
    )


def _attach(fields: _Fields) -> Attach:
    return Attach(
        rings=tuple(_integer(ring, "rings") for ring in fields.items("rings")),
        loops=fields.number("loops"),
        policy=fields.text("policy"),
        quarantine=fields.flag("quarantine"),
    )


def _measured(fields: _Fields) -> Measured:
    samples = []
    for item in fields.items("samples"):
        match item:
            case [rows, seconds, length]:
                sample = _integer(rows, "samples"), _seconds(seconds, "samples"), _integer(length, "samples")
                samples.append(CostSample(*sample))
            case _:
                raise ProtocolError("'samples' are not rows, seconds and length")
    return Measured(fields.number("model"), tuple(samples))


_PARSERS: dict[str, Callable[[_Fields], Message]] = {
    "load": _load,
    "loaded": _loaded,
    "failed": lambda fields: Failed(fields.text("detail"), fields.number_or_none("model")),
    "attach": _attach,
    "measured": _measured,
    "ready": lambda fields: Ready(fields.seconds("load_seconds"), fields.seconds("warmup_seconds")),
    "stop": lambda _: Stop(),
}
