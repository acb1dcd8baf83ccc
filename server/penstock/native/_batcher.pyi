"""The worker's side of a batch ring, and for tests the producer's."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Tensor = tuple[str, str, tuple[int, ...]]

class Batch:
    """Rows taken together. Inputs are read-only views; both are valid until complete()."""

    @property
    def rows(self) -> int: ...
    @property
    def sequence(self) -> int: ...
    @property
    def attempt(self) -> int: ...
    @property
    def singly(self) -> bool: ...
    @property
    def inputs(self) -> tuple[NDArray[Any], ...]:
        """One array per input, shape (rows, *row shape)."""
    @property
    def outputs(self) -> tuple[NDArray[Any], ...]:
        """One writable array per output, shape (rows, *row shape)."""
    def is_completed(self, row: int) -> bool: ...
    def is_cancelled(self, row: int) -> bool: ...
    def mark_running(self, row: int) -> None: ...
    def complete_row(self, row: int) -> None: ...
    def fail_row(self, row: int, error: str, detail: str) -> None:
        """error: 'model_raised' or 'bad_output'."""
    def complete(self) -> None: ...

class Taker:
    def __init__(self, ring_fd: int, loop_event_fds: Sequence[int], worker: int) -> None: ...
    @property
    def max_batch_size(self) -> int: ...
    @property
    def inputs(self) -> list[Tensor]: ...
    @property
    def outputs(self) -> list[Tensor]: ...
    def take(self, timeout_ms: int = -1) -> Batch | None:
        """Wait for a batch without the GIL; None after timeout_ms."""
