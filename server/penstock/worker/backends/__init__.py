"""Backends: one file per format of model. Each is imported when a model needs it, never before."""

from __future__ import annotations

from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Protocol

from penstock.core.errors import ModelLoadError
from penstock.worker.arrays import Array
from penstock.worker.model import ModelSpec

__all__ = ["Backend", "choose_backend", "open_backend"]

BACKENDS = ("onnx", "python")


class Backend(Protocol):
    """A loaded model. Used by one thread."""

    @property
    def name(self) -> str:
        """The name of the backend: "onnx", "python"."""

    @property
    def spec(self) -> ModelSpec:
        """What the model takes and gives."""

    @property
    def rerun(self) -> bool:
        """Whether a batch may run twice, by default: true for formats that cannot have side effects."""

    @property
    def may_refuse_zeros(self) -> bool:
        """Whether raising for rows of zeros is the model's good right, and no fault that warm-up must find."""

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array], lengths: Array | None = None) -> None:
        """Run the rows of `inputs` and write their results into `outputs`, in the order of the schema.

        Both hold one array per tensor, shape (rows, *row shape). Rows that vary in length are padded with zeros to the
        same length; `lengths` are their own, int32 of shape (rows,). Raises BadOutputError when a result has another
        shape or element type than declared, and whatever the model raises.
        """


def choose_backend(path: Path, backend: str) -> str:
    """Name the backend for the model at `path`; ModelLoadError when there is none, or nothing at all."""
    if not path.exists():
        raise ModelLoadError(f"there is no model at {path}: check the path")
    if backend in BACKENDS:
        return backend
    if backend != "auto":
        raise ModelLoadError(f"there is no backend {backend!r}: choose one of {', '.join(BACKENDS)}, or leave it out")
    if path.suffix == ".onnx":
        return "onnx"
    if path.suffix == ".py" or path.is_dir():
        return "python"
    raise ModelLoadError(
        f"{path} is no model that Penstock knows: it serves ONNX files (.onnx) and plain Python models "
        f"(a .py file or a folder with a class Model). If it is one of these, name its backend"
    )


def open_backend(path: Path, backend: str, *, threads: int, lengths: Sequence[int] = ()) -> Backend:
    """Load the model at `path`; ModelLoadError, with a text for the operator, when it cannot be served.

    `lengths` are what rows will be padded to where they vary in length.
    """
    name = choose_backend(path, backend)
    module = import_module(f"{__name__}.{name}")
    loaded: Backend = module.load(path, threads=threads, lengths=lengths)
    if lengths and not loaded.spec.varies:
        raise ModelLoadError(
            "lengths is set, but no input of the model varies in length: leave it out, or export the model with a "
            "dynamic first dimension behind the batch"
        )
    return loaded
