"""Spans of OpenTelemetry for calls: Client(..., hook=OpenTelemetryHook()). Needs the package opentelemetry-api."""

from __future__ import annotations

from urllib.parse import urlsplit

try:
    from opentelemetry import trace
    from opentelemetry.trace import Span, SpanKind, Status, StatusCode, TracerProvider
except ImportError as _error:
    _text = 'this needs opentelemetry-api: pip install "penstock-client[opentelemetry]"'
    raise ModuleNotFoundError(_text, name=_error.name) from None

from penstock_client.about import __version__
from penstock_client.errors import PenstockError, RefusedError

__all__ = ["OpenTelemetryHook"]


class OpenTelemetryHook:
    """Makes a span of kind CLIENT for each call, and hands its context on to the server as `traceparent`.

    Names and attributes are those of OpenTelemetry's conventions for HTTP clients. What is sent again stays in one
    span, with an event for each attempt that failed. `provider`: None is the global one.
    """

    def __init__(self, provider: TracerProvider | None = None) -> None:
        self._tracer = trace.get_tracer("penstock_client", __version__, provider)

    def started(self, method: str, route: str, url: str, request_id: str) -> _CallSpan:
        """Begin a span below the current one."""
        parts = urlsplit(url)
        attributes: dict[str, str | int] = {
            "http.request.method": method,
            "url.full": url,
            "url.template": route,
            "server.address": parts.hostname or parts.path,
            "penstock.request_id": request_id,
        }
        if parts.port is not None:
            attributes["server.port"] = parts.port
        return _CallSpan(self._tracer.start_span(f"{method} {route}", kind=SpanKind.CLIENT, attributes=attributes))


class _CallSpan:
    def __init__(self, span: Span) -> None:
        self._span = span
        self._resent = 0

    def traceparent(self) -> str | None:
        context = self._span.get_span_context()
        if not context.is_valid:
            return None
        return f"00-{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"

    def retried(self, error: PenstockError, wait_s: float) -> None:
        self._resent += 1
        self._span.add_event("retry", {"error.type": _type_of(error), "wait_s": wait_s})

    def ended(self, status: int | None, error: BaseException | None) -> None:
        if status is not None:
            self._span.set_attribute("http.response.status_code", status)
        if self._resent:
            self._span.set_attribute("http.request.resend_count", self._resent)
        if error is not None:
            self._span.set_attribute("error.type", _type_of(error))
            self._span.set_status(Status(StatusCode.ERROR, str(error)))
        self._span.end()


def _type_of(error: BaseException) -> str:
    return error.code if isinstance(error, RefusedError) and error.code else type(error).__name__
