"""A PyTorch model that has been opened, whatever its file was: how it is called, and what it takes and gives."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import torch

from penstock.worker.model import TensorSpec

__all__ = ["DTYPES", "Call", "TorchModel", "first_line"]

Call: TypeAlias = Callable[[list[Any]], Any]

# What a tensor can be that crosses the ring, by NumPy's names.
DTYPES = {
    torch.bool: "bool",
    torch.uint8: "uint8",
    torch.uint16: "uint16",
    torch.uint32: "uint32",
    torch.uint64: "uint64",
    torch.int8: "int8",
    torch.int16: "int16",
    torch.int32: "int32",
    torch.int64: "int64",
    torch.float16: "float16",
    torch.float32: "float32",
    torch.float64: "float64",
}
_BY_NAME = {name: dtype for dtype, name in DTYPES.items()}


@dataclass(frozen=True, slots=True)
class TorchModel:
    """`call` takes a list of tensors, the inputs in order, and gives a tensor, or several as a list, tuple or dict.

    It runs batches of `rows_min` to `rows_max` rows (None: any number); both are the same where the batch is fixed.
    `source` is what can be converted: an ExportedProgram, or a module that takes the inputs as arguments; None for
    what has been compiled already. `device` is where its weights are, as PyTorch calls it.
    """

    call: Call
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    rows_min: int = 1
    rows_max: int | None = None
    source: Any = None
    device: Any = "cpu"

    def random_rows(self, rows: int, length: int | None = None) -> list[Any]:
        """Return the inputs of a batch of random rows, the same each time; whole numbers are 0 or 1.

        `length` is that of rows that vary; the longest by default.
        """
        generator = torch.Generator().manual_seed(rows)
        return [_random(tensor, rows, length, generator).to(self.device) for tensor in self.inputs]

    def writes_into_inputs(self) -> bool:
        """Tell whether a run changes its inputs; true also when the model refuses random rows."""
        rows = self.random_rows(max(2, self.rows_min) if self.rows_max is None else self.rows_max)
        before = [tensor.clone() for tensor in rows]
        try:
            self.call(rows)
        except Exception:
            return True  # to be told by the warm-up, which knows how to say it
        return not all(torch.equal(old, new) for old, new in zip(before, rows, strict=True))


def _random(tensor: TensorSpec, rows: int, length: int | None, generator: torch.Generator) -> Any:
    shape = (rows, *(tensor.shape if length is None else tensor.shape_at(length)))
    dtype = _BY_NAME[tensor.dtype]
    if dtype.is_floating_point:
        return torch.randn(shape, generator=generator).to(dtype)
    return torch.randint(0, 2, shape, generator=generator).to(dtype)


def first_line(error: BaseException, lines: Sequence[str] = ()) -> str:
    """Return the first line of an error that says something, without PyTorch's preambles."""
    found = (line.strip() for line in lines or str(error).strip().splitlines())
    text = next((line for line in found if line), type(error).__name__)
    return text[:300].rstrip(".:")
