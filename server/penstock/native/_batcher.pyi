"""The worker's side of a batch ring, and for tests the producer's."""

from collections.abc import Sequence
from typing import Any

from numpy.typing import NDArray

Tensor = tuple[str, str, tuple[int, ...]]  # name, NumPy dtype name, row shape without the batch dimension

class Batch:
    """Rows taken together. Inputs are read-only views; both are valid until complete()."""

    @property
    def ring(self) -> int:
        """Index into the taker's rings: whose model runs it."""
    @property
    def rows(self) -> int:
        """Rows that want an answer."""
    @property
    def run_rows(self) -> int:
        """Rows of the arrays: `rows` padded to an allowed size, with copies of the first one."""
    @property
    def fixed_rows(self) -> int:
        """Rows of every run of reproducible rows, also when they run again in parts or singly; 0: any."""
    @property
    def blocks(self) -> list[int]:
        """Numbers of the blocks that it is made of."""
    @property
    def attempt(self) -> int:
        """Workers that have died with the batch."""
    @property
    def singly(self) -> bool:
        """Run row by row, mark_running() before each: it has killed two workers."""
    @property
    def inputs(self) -> tuple[NDArray[Any], ...]:
        """One array per input, shape (run_rows, *row shape); of str or bytes objects for strings."""
    @property
    def lengths(self) -> NDArray[Any] | None:
        """Each row's own length, int32 of shape (run_rows,); None where no tensor varies in length."""
    @property
    def outputs(self) -> tuple[NDArray[Any], ...]:
        """One writable array per output, shape (run_rows, *row shape).

        Those of strings are arrays of objects, str or bytes in the end: complete() and complete_row() store them, and
        fail a row that holds something else or has more than fits.
        """
    def input_addresses(self, index: int, to: NDArray[Any], base: int) -> None:
        """Where an input of each row lies, for whom the ring's region is at `base`; the rest repeats the first.

        uint64. For who reads rows where they lie: `inputs` may copy them together into memory that the next take()
        reuses.
        """
    def mark_started(self, now_ns: int) -> None:
        """When it began to run (CLOCK_MONOTONIC), if not when it was taken."""
    def mark_unmeasured(self) -> None:
        """What it takes says nothing of what the model costs."""
    def is_completed(self, row: int) -> bool:
        """Whether an earlier attempt has given the row its final word."""
    def is_cancelled(self, row: int) -> bool:
        """Whether the client is gone. A hint."""
    def mark_running(self, row: int) -> None: ...
    def complete_row(self, row: int) -> None:
        """The row's outputs are in place."""
    def fail_row(self, row: int, error: str, detail: str) -> None:
        """error: 'model_raised', 'bad_output' or 'invalid_input'."""
    def complete(self) -> None:
        """Publish the batch; rows without a word of their own are final."""

class Taker:
    """Takes the batches of the rings of a group. One per thread; `worker` is unique in them, 0 to 63."""

    def __init__(
        self,
        rings: Sequence[int],
        loop_event_fds: Sequence[int],
        worker: int,
        *,
        policy: str = "deadline",
        quarantine: bool = False,
    ) -> None:
        """Both kinds of descriptor stay the caller's; the first ring is the group's.

        `policy` is 'deadline' or 'round-robin'. A taker in quarantine takes nothing but blocks that have killed two
        workers. RuntimeError for a region of another version or size.
        """
    def max_batch_size(self, ring: int = 0) -> int: ...
    def batch_sizes(self, ring: int = 0) -> list[int]:
        """Sizes that the model may run, ascending; empty: any."""
    def inputs(self, ring: int = 0) -> list[Tensor]: ...
    def outputs(self, ring: int = 0) -> list[Tensor]: ...
    def region(self, ring: int = 0) -> tuple[int, int]:
        """Address and bytes of a ring's memory, valid as long as the taker."""
    def read_as_str(self, ring: int, inputs: Sequence[int]) -> None:
        """Which inputs of strings are arrays of str; the others are of bytes.

        What is not UTF-8 becomes lone surrogates (PEP 383).
        """
    def take(self, timeout_ms: int = -1) -> Batch | None:
        """Wait for a batch without the GIL; None after timeout_ms."""

class Claim:
    """Rows [row, row + count) of block `sequence`, to be published."""

    @property
    def sequence(self) -> int: ...
    @property
    def buffer(self) -> int: ...
    @property
    def row(self) -> int: ...
    @property
    def count(self) -> int: ...

class DoneBlock:
    """A block that a worker has completed."""

    @property
    def sequence(self) -> int: ...
    @property
    def buffer(self) -> int: ...
    @property
    def rows(self) -> int: ...
    @property
    def unmeasured(self) -> bool: ...

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
        first_block: int = 0,
        block_rows: int = 0,
        batch_sizes: Sequence[int] = (),
        reproducible_batch_size: int = 1,
        group: Ring | None = None,
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
    def claim(self, count: int = 1, row_class: str = "normal") -> Claim | None:
        """Neighbouring rows of the open block of a lane; None when it is full."""
    def publish(self, claim: Claim, rows: Sequence[bytes], loop: int = 0, deadline_ns: int = 0) -> None:
        """Copy packed rows and publish them."""
    def cancel(self, claim: Claim, k: int = 0) -> None: ...
    def ring_bell(self) -> bool: ...
    def poll_done(self, loop: int = 0) -> DoneBlock | None: ...
    def error(self, block: DoneBlock, row: int) -> tuple[str, bytes] | None:
        """None, or the row's error and its detail."""
    def outputs(self, block: DoneBlock, row: int) -> list[bytes]:
        """The bytes of each output of the row."""
    def handled(self, block: DoneBlock, rows: Sequence[int]) -> None:
        """These rows have been answered."""
    def prepare_wait(self, loop: int = 0) -> bool: ...
    def finish_wait(self, loop: int = 0) -> None: ...
    def quarantined(self) -> int:
        """Blocks that wait for a quarantine or are in one."""
    def recover(self, worker: int) -> dict[str, int]: ...
    def close(self, error: str = "worker_died") -> None: ...
    def counters(self) -> dict[str, int]: ...

class ModelFigures:
    """What became of a model's rows."""

    @property
    def rows(self) -> int: ...
    @property
    def in_time(self) -> int: ...
    @property
    def late(self) -> int: ...
    @property
    def shed(self) -> int: ...
    @property
    def refused(self) -> int: ...
    @property
    def batches(self) -> int: ...
    @property
    def rows_run(self) -> int: ...
    @property
    def goodput(self) -> float:
        """Rows in time per second."""
    @property
    def latency_ns(self) -> tuple[int, int, int, int]:
        """p50, p99, p99.9 and maximum."""

class SimulationFigures:
    @property
    def models(self) -> list[ModelFigures]: ...
    @property
    def seconds(self) -> float:
        """Of virtual time that count."""
    @property
    def busy(self) -> float:
        """Share of the devices' time."""
    @property
    def idle_with_rows(self) -> float:
        """Seconds in which a worker waited although rows were there."""

class SimulatedModel:
    """A model of a simulation; its curve has 13 knots."""

    def __init__(self, mean_ns: Sequence[float], p99_ns: Sequence[float], rows_per_second: float) -> None: ...
    def arrive(self, process: str, gap_cv: float = 2.0, trace_ns: Sequence[int] = ...) -> None:
        """process: 'poisson', 'bursty', 'gamma' or 'trace'."""
    def limit(self, limit_ns: int, objective: bool = True) -> None:
        """A later answer is late; objective: the engine knows."""
    def batch(self, rows_max: int, block_rows: int, sizes: Sequence[int] = ...) -> None: ...
    def share(self, weight: int = 100, queue_delay_ns: int = 0, classes: Sequence[float] = ...) -> None:
        """classes: shares of interactive, normal and batch rows."""

class Simulator:
    """The engine on a virtual clock."""

    def __init__(
        self,
        models: Sequence[SimulatedModel],
        instances: int = 1,
        policy: str = "engine",
        admission: bool = True,
        jitter: float = 0.015,
        rows: int = 300000,
        seed: int = 1,
    ) -> None: ...
    def run(self, factor: float = 1.0) -> SimulationFigures:
        """factor: on all rates. ValueError for settings that make no sense."""
    def capacity_factor(self, violations_max: float = 0.01, factor_max: float = 1.5, precision: float = 0.002) -> float:
        """Largest factor on all rates that keeps every model's late, shed and refused rows below the share."""
