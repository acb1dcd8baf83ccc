"""What a program that traces its calls gives to a client. `penstock_client.opentelemetry` is one for OpenTelemetry."""

from __future__ import annotations

from typing import Protocol

from penstock_client.errors import PenstockError

__all__ = ["Hook", "Span"]


class Span(Protocol):
    """One call, from when it was asked for to its answer or error. Attempts that are sent again belong to it."""

    def traceparent(self) -> str | None:
        """Return the field `traceparent` (W3C Trace Context) that goes with the request; None for none."""

    def retried(self, error: PenstockError, wait_s: float) -> None:
        """Note that an attempt failed with `error`, and that the request is sent again after `wait_s`."""

    def ended(self, status: int | None, error: BaseException | None) -> None:
        """Note the end: the reply's status, None without a reply, and what the call raises."""


class Hook(Protocol):
    """Is told of every call. Its methods must not raise; they run where the call does, in any thread."""

    def started(self, method: str, route: str, url: str, request_id: str) -> Span:
        """Note that a call begins: "POST", "/v2/models/{name}/infer", "http://h:8000/v2/models/m/infer", an id."""
