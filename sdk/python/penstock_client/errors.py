"""What can go wrong, as exceptions. Every one says which request it was about.

PenstockError
├── ArgumentError            what was asked cannot be put into a request (also a ValueError)
├── BatchError               rows of a batch failed, and raise_for_errors() was called
├── RefusedError             the server answered, and the answer is a refusal
│   ├── ClientError          4xx: one class for each code of the catalogue, such as InvalidInputError
│   └── ServerError          5xx: likewise, such as QueueFullError
└── TransportError           there is no answer
    ├── ConnectError         no connection; nothing was sent (also a ConnectionError)
    ├── ConnectionLostError  the connection ended before the answer did (also a ConnectionError)
    ├── ProtocolError        what came is no answer of a Penstock
    └── TimedOutError        the time that the call had is over (also a TimeoutError)

The classes for codes lie in `penstock_client.problems`.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar

__all__ = [
    "ArgumentError",
    "BatchError",
    "ClientError",
    "ConnectError",
    "ConnectionLostError",
    "PenstockError",
    "ProtocolError",
    "RefusedError",
    "ServerError",
    "TimedOutError",
    "TransportError",
]


class PenstockError(Exception):
    """The root of all exceptions of this package.

    Attributes:
        code: One stable word for the kind of error, for programs. Refusals have the code of the server's catalogue.
        detail: What went wrong, for people.
        request_id: The request's id, as the server's log and traces have it; empty when nothing was to be sent.
        attempts: How often the request was sent, or was tried to be.
        may_have_run: Whether the server may have run what was asked, although there is no answer that says so.
    """

    code: str = "error"
    may_have_run: bool = False

    def __init__(self, detail: str, *, request_id: str = "", attempts: int = 0) -> None:
        super().__init__(detail)
        self.detail = detail
        self.request_id = request_id
        self.attempts = attempts

    def __str__(self) -> str:
        about = self._about()
        return f"{self.detail} ({about})" if about else self.detail

    def _about(self) -> str:
        tried = [f"{self.attempts} attempts"] if self.attempts > 1 else []
        return ", ".join([*tried, *([f"request {self.request_id}"] if self.request_id else [])])


class ArgumentError(PenstockError, ValueError):
    """What was asked cannot be put into a request."""

    code = "invalid_argument"


class RefusedError(PenstockError):
    """The server answered with a problem.

    Attributes:
        code: The entry of the catalogue, such as "queue_full"; stable. Empty when the answer was none of Penstock's.
        status: The status of HTTP.
        title: The code in words, always the same for a code.
        retryable: Whether the request certainly did not run and may succeed later.
        retry_after_s: In how many seconds, as the server says; None when it says nothing.
        fields: What is wrong with fields of a record: mappings with `field`, `rule` and `detail`.
    """

    code: str = ""
    status: int = 0
    title: str = ""
    retryable: bool = False
    _known: ClassVar[bool] = False

    def __init__(self, detail: str, *, request_id: str = "", attempts: int = 0) -> None:
        super().__init__(detail, request_id=request_id, attempts=attempts)
        self.retry_after_s: float | None = None
        self.fields: Sequence[dict[str, str]] = ()

    def _about(self) -> str:
        code = f"{self.code}, {self.status}" if self.code else f"status {self.status}"
        rest = super()._about()
        return f"{code}, {rest}" if rest else code


class ClientError(RefusedError):
    """4xx: as it was sent, the request cannot be answered."""


class ServerError(RefusedError):
    """5xx: the server could not do what it was asked."""


class TransportError(PenstockError):
    """There is no answer."""

    code = "no_answer"

    def __init__(self, detail: str, *, request_id: str = "", attempts: int = 0, may_have_run: bool = False) -> None:
        super().__init__(detail, request_id=request_id, attempts=attempts)
        self.may_have_run = may_have_run

    def _about(self) -> str:
        rest = super()._about()
        ran = "it may have run" if self.may_have_run else "it was not run"
        return f"{ran}, {rest}" if rest else ran


class ConnectError(TransportError, ConnectionError):
    """No connection could be made, so nothing was sent."""

    code = "connect_failed"


class ConnectionLostError(TransportError, ConnectionError):
    """The connection ended before the answer did."""

    code = "connection_lost"


class ProtocolError(TransportError):
    """What came is not HTTP, or nothing that a Penstock would answer."""

    code = "bad_reply"


class TimedOutError(TransportError, TimeoutError):
    """The time that the call had is over."""

    code = "timed_out"


class BatchError(PenstockError):
    """Rows of a batch failed; `result` has the answers of the others and the errors of these."""

    code = "rows_failed"

    def __init__(self, detail: str, result: Any = None) -> None:
        super().__init__(detail)
        self.result = result
