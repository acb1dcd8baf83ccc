"""What a model takes and gives, as the Open Inference Protocol describes it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

__all__ = ["DTYPES", "ModelSchema", "TensorSpec"]

# The protocol's names and NumPy's. Strings have none there.
DTYPES = {
    "BOOL": "bool",
    "UINT8": "uint8",
    "UINT16": "uint16",
    "UINT32": "uint32",
    "UINT64": "uint64",
    "INT8": "int8",
    "INT16": "int16",
    "INT32": "int32",
    "INT64": "int64",
    "FP16": "float16",
    "FP32": "float32",
    "FP64": "float64",
    "BYTES": "str",
}


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A tensor of one row: its name, dtype ("float32", ..., "str") and shape, in which None varies."""

    name: str
    dtype: str
    shape: tuple[int | None, ...]

    @property
    def datatype(self) -> str:
        """The protocol's word for the dtype."""
        return _DATATYPES[self.dtype]

    def __str__(self) -> str:
        return f"{self.name} {self.dtype}[{', '.join('any' if n is None else str(n) for n in self.shape)}]"


@dataclass(frozen=True, slots=True)
class ModelSchema:
    """The inputs and outputs of a model."""

    name: str
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]

    @classmethod
    def of(cls, document: Mapping[str, Any]) -> ModelSchema:
        """Read what GET /v2/models/NAME answers."""
        return cls(document["name"], _tensors(document["inputs"]), _tensors(document["outputs"]))

    def input(self, name: str) -> TensorSpec | None:
        """Return the input of this name."""
        return next((tensor for tensor in self.inputs if tensor.name == name), None)

    def output(self, name: str) -> TensorSpec | None:
        """Return the output of this name."""
        return next((tensor for tensor in self.outputs if tensor.name == name), None)


_DATATYPES = {dtype: datatype for datatype, dtype in DTYPES.items()}


def _tensors(specs: list[Mapping[str, Any]]) -> tuple[TensorSpec, ...]:
    # The first extent is the number of rows.
    return tuple(
        TensorSpec(spec["name"], DTYPES[spec["datatype"]], tuple(None if n < 0 else n for n in spec["shape"][1:]))
        for spec in specs
    )
