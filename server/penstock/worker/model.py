"""What a model is made of: the tensors it takes and gives, and how an author of a plain Python model declares them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from penstock.core.status import ImageFit

__all__ = ["DTYPES", "TEXTS", "BadOutputError", "ModelSpec", "NoNumberError", "Tensor", "TensorSpec"]

# The element types a ring can hold, by NumPy's names (kernels/dtype.hpp).
DTYPES = frozenset(
    {
        "bool",
        "uint8",
        "uint16",
        "uint32",
        "uint64",
        "int8",
        "int16",
        "int32",
        "int64",
        "float16",
        "float32",
        "float64",
        "bytes",
        "str",
    }
)
# Those of strings: the model sees Python's bytes or str. To the ring and to clients both are `bytes`.
TEXTS = frozenset({"bytes", "str"})


@dataclass(frozen=True, slots=True)
class Tensor:
    """One input or output of a plain Python model: NumPy's name of its element type, and the shape of one row.

    "str" and "bytes" are strings: arrays of Python's objects of that name.

    A first size of None varies from row to row; all tensors of a row that vary have the same length.
    """

    dtype: str
    shape: tuple[int | None, ...] = ()


@dataclass(frozen=True, slots=True)
class TensorSpec:
    """A named tensor of a model. `shape` is that of a row: the batch dimension is not part of it.

    If the tensor varies in length, the first size is the longest. `sample` is what a warm-up puts into an input that
    zeros and empty strings may be nothing for: one for all elements, or one for each. `unit` is what its numbers count;
    empty where nobody said. `fit` is how images come to the size of an input that is one; None where they must have it.
    """

    name: str
    dtype: str
    shape: tuple[int, ...]
    varies: bool = False
    sample: str | tuple[str | float, ...] = field(default="", compare=False)
    unit: str = ""
    fit: ImageFit | None = None

    @property
    def ring_dtype(self) -> str:
        """What the ring calls it."""
        return "bytes" if self.dtype in TEXTS else self.dtype

    @property
    def declared_shape(self) -> tuple[int | None, ...]:
        """The shape with None for the size that varies."""
        return (None, *self.shape[1:]) if self.varies else self.shape

    def shape_at(self, length: int) -> tuple[int, ...]:
        """Return the shape of a row of this length."""
        return (length, *self.shape[1:]) if self.varies else self.shape


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """What a loaded model takes and gives.

    `max_batch_size` is None when any number of rows will do. `labels` names the classes along an output's last
    dimension, where the model says them. `record` is the digest of the record that clients send instead of the inputs,
    empty where they send those.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    max_batch_size: int | None = None
    labels: Mapping[str, tuple[int | str, ...]] = field(default_factory=dict)
    record: str = ""

    @property
    def varies(self) -> bool:
        """Whether rows differ in length."""
        return any(tensor.varies for tensor in self.inputs)


class BadOutputError(Exception):
    """The model returned something else than its schema promises; the message names the output, never its values."""


class NoNumberError(BadOutputError):
    """A row's scores hold a NaN: nothing can be said of it. Its batch runs again in halves until it is alone."""
