"""What the request core asks of a transport, and what it is told.

The core has no sockets and does not wait. A call is a generator: it yields `Send` or `Sleep`, whoever drives it does
that, blocking or awaiting, and hands the outcome back. So both clients have one core, and a test can be a transport.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol, TypeAlias, TypeVar

if TYPE_CHECKING:
    from penstock_client.errors import TransportError
    from penstock_client.messages import Reply

__all__ = ["AsyncRun", "Failure", "Outcome", "Run", "Send", "Sleep", "Step", "Steps"]

T = TypeVar("T")


class Send:
    """Send `data` and then `more`, the rest of a large body; give back the Reply, or the Failure.

    `deadline` is a time of time.monotonic(): what is not answered by then is a Failure. A plain class: one is made for
    every call.
    """

    __slots__ = ("data", "deadline", "more")

    def __init__(self, data: bytes, more: Iterable[bytes | memoryview], deadline: float | None) -> None:
        self.data = data
        self.more = more
        self.deadline = deadline


class Sleep:
    """Wait so many seconds."""

    __slots__ = ("seconds",)

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class Failure:
    """There is no reply. `error.may_have_run` is false only when the server cannot have got the whole request."""

    error: TransportError


Step: TypeAlias = "Send | Sleep"
Outcome: TypeAlias = "Reply | Failure | None"
Steps: TypeAlias = Generator[Step, Outcome, T]


class Run(Protocol):
    """Drives steps to their end."""

    def __call__(self, steps: Steps[T], /) -> T:
        """Return what the steps return; raises what they raise."""


class AsyncRun(Protocol):
    """Drives steps to their end, awaiting."""

    async def __call__(self, steps: Steps[T], /) -> T:
        """Return what the steps return; raises what they raise."""
