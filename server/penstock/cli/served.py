"""What a served model takes and gives, in words, and a call of it that would work."""

from __future__ import annotations

import json
import math
import shlex
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from penstock.core.errors import PenstockError

if TYPE_CHECKING:
    import penstock_client

__all__ = ["Served", "Tensor", "served_of"]

# A row of more values is shown as a file: nobody types them.
_TYPED_VALUES_MAX = 16
# How long a version that comes into memory with the first request for it is waited for.
_LOADED_IN_S = 300.0
# Between two looks whether it is.
_LOOK_S = 0.5
# Of a version that no request has brought into memory, or not yet: what is known of it may be what it was.
_ASLEEP = ("registered", "unloaded", "loading", "warming")
# It asks for nothing that could be run, whatever the model takes.
_NO_ROW = b"{\n"


@dataclass(frozen=True, slots=True)
class Tensor:
    """An input or output of one row; an extent that varies is None."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    def __str__(self) -> str:
        if not self.shape:
            return f"{self.name} {self.dtype}"
        return f"{self.name} {self.dtype}[{', '.join('any' if n is None else str(n) for n in self.shape)}]"

    @property
    def elements(self) -> int | None:
        """How many values it has; None where that varies."""
        return None if None in self.shape else math.prod(n or 0 for n in self.shape)

    @property
    def is_text(self) -> bool:
        """Whether its values are texts."""
        return self.dtype in ("str", "bytes")

    @property
    def is_picture(self) -> bool:
        """Whether a picture may stand for it."""
        return self.dtype == "uint8" and len(self.shape) in (2, 3)


@dataclass(frozen=True, slots=True)
class Served:
    """A version of a model. Of one with a plan, the inputs are the fields of a record and `record` is its schema."""

    name: str
    version: str
    inputs: tuple[Tensor, ...]
    outputs: tuple[Tensor, ...]
    record: Mapping[str, Any] | None

    def takes(self) -> str:
        """Return what it takes, for people."""
        return ", ".join(map(str, self.inputs))

    def example(self) -> Any:
        """Return a row that it would take."""
        if self.record is not None:
            examples = self.record.get("examples") or [{}]
            return examples[0]
        if len(self.inputs) == 1:
            return _example(self.inputs[0])
        return {tensor.name: _example(tensor) for tensor in self.inputs}

    def document(self) -> dict[str, Any]:
        """Return all of it as JSON has it."""
        return {**asdict(self), "example": self.example(), "call": self.call()}

    def call(self) -> str:
        """Return a command that would work."""
        start = f"penstock predict {shlex.quote(self.name)}"
        row = self.example()
        only = self.inputs[0] if len(self.inputs) == 1 and self.record is None else None
        if only is not None and only.is_picture:
            return f"{start} @picture.png"
        if isinstance(row, dict):
            if len(row) <= _TYPED_VALUES_MAX and not any(isinstance(value, dict | list) for value in row.values()):
                words = [f"{name}={_word(value)}" for name, value in row.items()]
                return " ".join([start, *map(shlex.quote, words)])
        elif not isinstance(row, list):
            return f"{start} {shlex.quote(_word(row))}"
        elif len(row) <= _TYPED_VALUES_MAX and not any(isinstance(value, list) for value in row):
            return " ".join([start, *(shlex.quote(_word(value)) for value in row)])
        text = json.dumps(row, ensure_ascii=False)
        if len(text) <= 200:
            return f"{start} {shlex.quote(text)}"
        return f"{start} --example > row.json && {start} @row.json"


def served_of(client: penstock_client.Client, name: str, version: str | None) -> Served:
    """Ask what a model takes: of the version, or of the one that answers now."""
    if version is None:
        found: Sequence[Mapping[str, Any]] = client.models.show(name)["versions"]
        chosen = next((each for each in found if each["latest"]), None)
        if chosen is not None and chosen["state"] in _ASLEEP:
            chosen = _woken(client, name, chosen)
        if chosen is None or not chosen["inputs"]:
            raise PenstockError(f"no version of {name!r} answers at the moment: penstock models show {name}")
    else:
        chosen = client.models.version(name, version)
        if chosen["state"] in _ASLEEP:
            chosen = _woken(client, name, chosen)
        if not chosen["inputs"]:
            where = f"penstock models load {name} {chosen['version']}"
            raise PenstockError(f"version {chosen['version']} of {name!r} is {chosen['state']}: {where}")
    return Served(
        name, chosen["version"], _tensors(chosen["inputs"]), _tensors(chosen["outputs"]), chosen.get("record")
    )


def _woken(client: penstock_client.Client, name: str, asleep: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a version as it is once a request has brought it into memory, or as it was where none does."""
    from penstock_client.problems import ModelLoadingError, ModelNotFoundError, VersionNotFoundError

    version, deadline = asleep["version"], time.monotonic() + _LOADED_IN_S
    while asleep["state"] != "failed":
        try:
            client.predict_lines(name, _NO_ROW, version=version)
        except ModelLoadingError:
            if time.monotonic() > deadline:
                raise
            # The SDK has waited as long as the server said, but for what is longer than it waits at all.
            time.sleep(_LOOK_S)
            asleep = client.models.version(name, version)
            continue
        except (ModelNotFoundError, VersionNotFoundError):
            break
        return client.models.version(name, version)
    return asleep


def _tensors(described: Sequence[Mapping[str, Any]]) -> tuple[Tensor, ...]:
    return tuple(Tensor(each["name"], each["dtype"], tuple(each["shape"])) for each in described)


def _example(tensor: Tensor) -> Any:
    value: Any = "text" if tensor.is_text else True if tensor.dtype == "bool" else 1
    if tensor.dtype.startswith("float"):
        value = 0.5
    # Of what varies, one is enough.
    for extent in reversed(tensor.shape):
        value = [value] * (1 if extent is None else extent)
    return value


def _word(value: object) -> str:
    return value if isinstance(value, str) else json.dumps(value)
