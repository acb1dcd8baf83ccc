"""An HTTP load generator: sends at planned times, whatever the replies do, and records every request."""

import numpy as np
from numpy.typing import NDArray

class Generator:
    """One run. Arrays are taken without a copy and must not change before it ends."""

    def __init__(
        self,
        *,
        host: str,
        port: int,
        requests: NDArray[np.int8],
        offsets: NDArray[np.uint64],
        picks: NDArray[np.uint32],
        due_ns: NDArray[np.int64] | None = None,
        connections: int = 1,
        depth: int = 1,
        threads: int = 1,
        duration_ns: int = 0,
        timeout_ns: int = 10000000000,
        spin_ns: int = 0,
    ) -> None:
        """Port 0 means that `host` is the path of a Unix socket. `requests` are whole HTTP requests one after the
        other; `offsets` where each begins and the last one ends; `picks` which of them each arrival sends. With
        `due_ns`, ascending times since the start, the loop is open; without it each connection sends again as soon as
        it has its replies, for `duration_ns`. ValueError for a plan that makes no sense.
        """
    def start(self, lead_ns: int) -> int:
        """Open every connection, then start the schedule `lead_ns` later; the monotonic time of that in nanoseconds.
        RuntimeError when not every connection could be made.
        """
    def stop(self) -> None:
        """End the run soon."""
    def is_done(self) -> bool:
        """Whether every thread has ended."""
    def join(self) -> None:
        """Wait for the end of the run; RuntimeError or MemoryError when a thread of it failed."""
    def totals(self) -> tuple[int, int, int, int]:
        """Requests sent, answered and failed, and connections made anew, so far."""
    def records(self) -> NDArray[np.uint8]:
        """After join(): one row of 40 bytes a request; penstock.load.recording gives it its dtype."""
    def answers(self) -> list[tuple[int, int, int, bytes]]:
        """After join(): each distinct (pick, status, count, body)."""
    def unkept_answers(self) -> int:
        """Answers that were counted and not kept, for want of memory."""
    def cpu_ns(self) -> int:
        """CPU time of the generator's threads during the run."""
