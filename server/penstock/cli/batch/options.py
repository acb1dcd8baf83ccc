"""What the command line says of a batch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from penstock.cli.batch.choice import Choice

__all__ = ["BatchOptions"]


@dataclass(frozen=True, slots=True)
class BatchOptions:
    """A batch as it was asked for; `-` is standard input or output."""

    model: str
    version: str | None
    input: str
    output: str
    errors: Path | None
    read_as: str
    write_as: str
    chunk_rows: int
    concurrency: int
    timeout_s: float
    restart: bool
    choice: Choice
