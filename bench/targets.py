"""What can be put under load: a server that is installed, started for some models, and asked in its own API."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from penstock.load.dialects import Dialect

__all__ = ["Batches", "NotInstalledError", "Running", "Target"]


class NotInstalledError(Exception):
    """A target cannot be installed here; the text says why, for the report."""


@dataclass(frozen=True, slots=True)
class Batches:
    """Rows and batches that a server's model has run so far."""

    rows: float
    batches: float


class Running(Protocol):
    """A server that is up: its process tree is what the CPU and memory are counted of."""

    @property
    def pid(self) -> int:
        """The root of the server's process tree."""

    @property
    def address(self) -> str:
        """Where it answers: "127.0.0.1:8000", or "unix:/path"."""

    @property
    def dialect(self) -> Dialect:
        """How to ask it."""

    def batches(self, model: str) -> Batches | None:
        """Count inside the predictor; None when that is not known."""


class Target(Protocol):
    """A kind of server."""

    @property
    def name(self) -> str:
        """The word for it in options and tables."""

    def install(self, environments: Path) -> Mapping[str, str]:
        """Make it ready below `environments`, once; versions of what counts. NotInstalledError if impossible."""

    def serve(self, models: Mapping[str, Path], folder: Path) -> AbstractContextManager[Running]:
        """Serve ONNX models (max batch 64, max delay 1 ms where it has them, one intra-op thread) until the block ends.

        The block is entered when the server answers. RuntimeError with the end of its log when it does not get ready.
        """
