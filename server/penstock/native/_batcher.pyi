"""The worker's side of a batch ring, and for tests the producer's."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

Tensor = tuple[str, str, tuple[int, ...]]  # name, NumPy dtype name, row shape without the batch dimension

class Batch:
    """Rows taken together. Inputs are read-only views; both are valid until complete()."""

    @property
    def rows(self) -> int: ...
    @property
    def sequence(self) -> int: ...
    @property
    def attempt(self) -> int:
        """Workers that have died with the batch."""
    @property
    def singly(self) -> bool:
        """Run row by row, mark_running() before each: it has killed two workers."""
    @property
    def inputs(self) -> tuple[NDArray[Any], ...]:
        """One array per input, shape (rows, *row shape)."""
    @property
    def outputs(self) -> tuple[NDArray[Any], ...]:
        """One writable array per output, shape (rows, *row shape)."""
    def is_completed(self, row: int) -> bool:
        """Whether an earlier attempt has given the row its final word."""
    def is_cancelled(self, row: int) -> bool:
        """Whether the client is gone. A hint."""
    def mark_running(self, row: int) -> None: ...
    def complete_row(self, row: int) -> None:
        """The row's outputs are in place."""
    def fail_row(self, row: int, error: str, detail: str) -> None:
        """error: 'model_raised' or 'bad_output'."""
    def complete(self) -> None:
        """Publish the batch; rows without a word of their own are final."""

class Taker:
    """Takes the batches of one ring. One per thread; `worker` is unique in the ring, 0 to 63."""

    def __init__(self, ring_fd: int, loop_event_fds: Sequence[int], worker: int) -> None:
        """Both kinds of descriptor stay the caller's. RuntimeError for a region of another version or size."""
    @property
    def max_batch_size(self) -> int: ...
    @property
    def inputs(self) -> list[Tensor]: ...
    @property
    def outputs(self) -> list[Tensor]: ...
    def take(self, timeout_ms: int = -1) -> Batch | None:
        """Wait for a batch without the GIL; None after timeout_ms."""

class Claim:
    """Rows [row, row + count) of batch `sequence`, to be published."""

    @property
    def sequence(self) -> int: ...
    @property
    def buffer(self) -> int: ...
    @property
    def row(self) -> int: ...
    @property
    def count(self) -> int: ...

class DoneBatch:
    """A batch that a worker has completed."""

    @property
    def sequence(self) -> int: ...
    @property
    def buffer(self) -> int: ...
    @property
    def rows(self) -> int: ...

class Ring:
    """The producer's side of a ring, for tests: the data plane uses it in C++."""

    def __init__(
        self,
        inputs: Sequence[Tensor],
        outputs: Sequence[Tensor],
        *,
        max_batch_size: int = 64,
        queue_bytes: int = 67108864,
        max_queue_delay_us: int = 0,
        loops: int = 1,
        rerun_on_worker_death: bool = False,
        first_batch: int = 0,
    ) -> None: ...
    @property
    def fd(self) -> int: ...
    @property
    def max_batch_size(self) -> int: ...
    @property
    def buffers(self) -> int: ...
    @property
    def row_bytes(self) -> int:
        """Bytes of a packed input row: each tensor padded to 64."""
    def claim(self, count: int = 1) -> Claim | None:
        """Neighbouring rows of the open batch; None when the ring is full."""
    def publish(self, claim: Claim, rows: Sequence[bytes], loop: int = 0) -> None:
        """Copy packed rows and publish them."""
    def cancel(self, claim: Claim, k: int = 0) -> None: ...
    def ring_bell(self) -> bool: ...
    def poll_done(self, loop: int = 0) -> DoneBatch | None: ...
    def error(self, batch: DoneBatch, row: int) -> tuple[str, bytes] | None:
        """None, or the row's error and its detail."""
    def outputs(self, batch: DoneBatch, row: int) -> list[bytes]:
        """The bytes of each output of the row."""
    def handled(self, batch: DoneBatch, rows: Sequence[int]) -> None:
        """These rows have been answered."""
    def prepare_wait(self, loop: int = 0) -> bool: ...
    def finish_wait(self, loop: int = 0) -> None: ...
    def recover(self, worker: int) -> dict[str, int]: ...
    def close(self, error: str = "worker_died") -> None: ...
    def counters(self) -> dict[str, int]: ...
