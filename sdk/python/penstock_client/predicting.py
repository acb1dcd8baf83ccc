"""One prediction: the request for it in each encoding, and what its answer means."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal, TypeAlias
from urllib.parse import quote

from penstock_client.core import Call, Core, Request
from penstock_client.errors import ArgumentError, ProtocolError
from penstock_client.messages import Reply
from penstock_client.plain import from_msgpack, holds_named_floats, is_array, is_bytes, to_json, to_msgpack, with_floats
from penstock_client.problems import InvalidInputError
from penstock_client.schema import ModelSchema
from penstock_client.steps import Steps
from penstock_client.tensors import BinaryBody, as_rows, read_outputs

__all__ = [
    "Encoding",
    "Prediction",
    "Predictor",
    "Receipt",
    "by_name",
    "check_names",
    "holds_array",
    "model_target",
    "unreadable",
]

Encoding = Literal["auto", "json", "msgpack", "binary"]
# Makes a model's inputs of columns.
Fit: TypeAlias = Callable[[Mapping[str, Any], ModelSchema], Mapping[str, Any]]
_JSON = "application/json"
_MSGPACK = "application/msgpack"
_OCTETS = "application/octet-stream"
_BINARY = f"{_OCTETS}, {_JSON};q=0.5"


@dataclass(frozen=True, slots=True)
class Receipt:
    """How a row fared, in the server's own words; docs/wire-format.md has them."""

    queue_us: int
    batch_us: int
    run_us: int
    batch_rows: int
    padding: float
    sealed: str
    version: str
    instance: int

    @classmethod
    def of(cls, reply: Reply) -> Receipt | None:
        """Read it from a reply's fields; None when it has none, as answers from a cache."""
        said = {name: reply.field(f"x-penstock-{name}") for name in _RECEIPT}
        if any(value is None for value in said.values()):
            return None
        texts = {name: str(value) for name, value in said.items()}
        return cls(
            int(texts["queue-us"]),
            int(texts["batch-us"]),
            int(texts["run-us"]),
            int(texts["batch-rows"]),
            float(texts["padding"]),
            texts["sealed"],
            texts["model-version"],
            int(texts["instance"]),
        )


_RECEIPT = ("queue-us", "batch-us", "run-us", "batch-rows", "padding", "sealed", "model-version", "instance")


@dataclass(frozen=True, slots=True)
class Prediction:
    """An answer. `outputs` are arrays where the inputs were, and plain values otherwise."""

    model: str
    version: str
    outputs: dict[str, Any]
    receipt: Receipt | None = None
    _reply: Reply | None = field(default=None, repr=False, compare=False)

    @property
    def request_id(self) -> str:
        """The request's id, as the server's log and traces have it."""
        return (self._reply.field("x-request-id") if self._reply is not None else None) or ""

    @property
    def output(self) -> Any:
        """The only output; ArgumentError when the model has several."""
        if len(self.outputs) != 1:
            raise ArgumentError(f"{self.model} has the outputs {', '.join(self.outputs)}: name one of them")
        return next(iter(self.outputs.values()))


class Predictor:
    """Makes the steps of predictions; remembers what models take."""

    def __init__(self, core: Core) -> None:
        self._core = core
        self._schemas: dict[tuple[str, str | None], ModelSchema] = {}

    def predict(
        self, model: str, inputs: object, version: str | None, encoding: Encoding, call: Call
    ) -> Steps[Prediction]:
        """Predict one row."""
        check_names(model, version)
        if encoding == "auto":
            encoding = "binary" if holds_array(inputs) else "json"
        if encoding == "json":
            return self._plain(model, inputs, version, call)
        if encoding == "binary":
            return self._binary(model, inputs, version, call)
        if encoding == "msgpack":
            return self._msgpack(model, inputs, version, call)
        raise ArgumentError(f"encoding {encoding!r}: it is auto, json, msgpack or binary")

    def schema(self, model: str, version: str | None, call: Call, *, anew: bool = False) -> Steps[ModelSchema]:
        """Give what a model takes; asked once, and again when the server does not take what fits it."""
        check_names(model, version)
        known = self._schemas.get((model, version))
        if known is not None and not anew:
            return known
        reply = yield from self._core.send(Request("GET", model_target(model, version)), call)
        try:
            schema = ModelSchema.of(json.loads(reply.text()))
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise unreadable(reply, error) from error
        if len(self._schemas) >= 1000:
            self._schemas.clear()
        self._schemas[model, version] = schema
        return schema

    def _plain(self, model: str, inputs: object, version: str | None, call: Call) -> Steps[Prediction]:
        if not is_bytes(inputs):
            return (yield from self._json(model, inputs, version, call))
        schema = yield from self.schema(model, version, call)
        try:
            return (yield from self._json(model, by_name(inputs, schema), version, call))
        except InvalidInputError:
            # As in infer(): another version, whose input has another name, may answer by now.
            changed = yield from self.schema(model, version, call, anew=True)
            if changed == schema:
                raise
        return (yield from self._json(model, by_name(inputs, changed), version, call))

    def _json(self, model: str, inputs: object, version: str | None, call: Call) -> Steps[Prediction]:
        document = {"model": model, "inputs": inputs}
        if version is not None:
            document["version"] = version
        reply = yield from self._core.send(Request("POST", "/predict", to_json(document), _JSON, _JSON), call)
        try:
            text = reply.text()
            answer = json.loads(text)
            prediction = Prediction(answer["model"], answer["version"], answer["outputs"], _receipt(reply, call), reply)
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise unreadable(reply, error) from error
        if holds_named_floats(text):
            schema = yield from self.schema(model, prediction.version, call)
            return replace(prediction, outputs=with_floats(prediction.outputs, schema))
        return prediction

    def _msgpack(self, model: str, inputs: object, version: str | None, call: Call) -> Steps[Prediction]:
        if holds_array(inputs):
            schema = yield from self.schema(model, version, call)
            inputs = _as_bins(inputs, schema)
        document = {"model": model, "inputs": inputs}
        if version is not None:
            document["version"] = version
        reply = yield from self._core.send(Request("POST", "/predict", to_msgpack(document), _MSGPACK, _MSGPACK), call)
        try:
            answer = from_msgpack(reply.body)
            return Prediction(answer["model"], answer["version"], answer["outputs"], _receipt(reply, call), reply)
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise unreadable(reply, error) from error

    def _binary(self, model: str, inputs: object, version: str | None, call: Call) -> Steps[Prediction]:
        reply = yield from self.infer(inputs, model, version, call)
        try:
            head, outputs = read_outputs(reply)
            rows = {name: array[0] for name, array in outputs.items()}
            return Prediction(head["model_name"], head["model_version"], rows, _receipt(reply, call), reply)
        except (AttributeError, KeyError, TypeError, ValueError, IndexError, RecursionError) as error:
            raise unreadable(reply, error) from error

    def infer(
        self, inputs: object, model: str, version: str | None, call: Call, *, one: bool = True, fit: Fit | None = None
    ) -> Steps[Reply]:
        """Send arrays as they lie.

        Args:
            inputs: A row, or rows where not `one`; then a row that fails has an entry in the answer's `row_errors`.
            model: Its name.
            version: A version, "latest" or None.
            call: What the caller says.
            one: Whether `inputs` is one row.
            fit: Makes the model's inputs of the columns of a table.
        """
        schema = yield from self.schema(model, version, call)
        try:
            return (yield from self._infer(inputs, schema, version, call, one, fit))
        except (ArgumentError, InvalidInputError):
            # Another version may answer by now. What was refused did not run, so it can be tried as that one wants it.
            changed = yield from self.schema(model, version, call, anew=True)
            if changed == schema:
                raise
        return (yield from self._infer(inputs, changed, version, call, one, fit))

    def _infer(
        self, inputs: object, schema: ModelSchema, version: str | None, call: Call, one: bool, fit: Fit | None
    ) -> Steps[Reply]:
        if fit is not None:
            assert isinstance(inputs, Mapping)
            inputs = fit(inputs, schema)
        body = BinaryBody(as_rows(inputs, schema, one=one), row_errors=not one)
        target = model_target(schema.name, version) + "/infer"
        request = Request("POST", target, body.head, _OCTETS, _BINARY, body, body.bytes_after_head, body.field)
        return self._core.send(request, call)


def model_target(model: str, version: str | None) -> str:
    """Return the path of a model, or of one of its versions, in the Open Inference Protocol."""
    path = f"/v2/models/{quote(model, safe='')}"
    return path if version is None else f"{path}/versions/{quote(version, safe='')}"


def check_names(model: object, version: object) -> None:
    """ArgumentError when they are no strings: 1 and "1" would be different versions to a server."""
    if not isinstance(model, str) or not isinstance(version, (str, type(None))):
        raise ArgumentError(f"model {model!r}, version {version!r}: names and versions are strings")
    for name in (model,) if version is None else (model, version):
        if name in ("", ".", "..") or not _is_text(name):
            raise ArgumentError(f"{name!r} names no model and no version")


def _is_text(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def by_name(row: object, schema: ModelSchema) -> object:
    """Give bytes that stand alone their input's name: in JSON they are an object, which would be a row by itself."""
    if not is_bytes(row):
        return row
    if len(schema.inputs) != 1:
        names = ", ".join(tensor.name for tensor in schema.inputs)
        raise ArgumentError(f"model {schema.name} has the inputs {names}: give a dict with a value for each")
    return {schema.inputs[0].name: row}


def holds_array(inputs: object) -> bool:
    """Whether inputs are arrays, or some of them are."""
    if isinstance(inputs, Mapping):
        return any(is_array(value) for value in inputs.values())
    return is_array(inputs)


def _as_bins(inputs: object, schema: ModelSchema) -> object:
    """Make a bin of each array of numbers; the server reads it as the tensor's bytes."""
    rows = as_rows(inputs, schema, one=True)
    values = {
        name: array[0].tolist() if array.dtype.kind in "OSUT" else array.tobytes() for name, array in rows.items()
    }
    return values if isinstance(inputs, Mapping) else next(iter(values.values()))


def _receipt(reply: Reply, call: Call) -> Receipt | None:
    return Receipt.of(reply) if call.receipt else None


def unreadable(reply: Reply, error: Exception) -> ProtocolError:
    """Return the exception for a 2xx that holds something else than such an answer does."""
    text = f"what answers is no Penstock: its answer cannot be read ({type(error).__name__}: {error})"
    return ProtocolError(text, request_id=reply.field("x-request-id") or "", attempts=1, may_have_run=True)
