"""The door to OpenTelemetry: spans out over OTLP/HTTP."""

from __future__ import annotations

import os
import socket
from collections.abc import Sequence

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_INSTANCE_ID, SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.trace.export import SpanExportResult
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link, SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from penstock import __version__
from penstock.telemetry.spans import Span

__all__ = ["Collector"]

_DEFAULT_NAME = "penstock"
_TRACES = "/v1/traces"


class Collector:
    """Whoever takes our spans; the OTEL_EXPORTER_OTLP_ variables say how it is asked (headers, timeout, TLS)."""

    def __init__(self, endpoint: str | None, service_name: str | None, parent: int) -> None:
        """Nothing is sent yet. `endpoint`: a base URL, or the whole of it; None: as the variables say."""
        if endpoint is not None and endpoint.count("/") <= (3 if endpoint.endswith("/") else 2):
            endpoint = endpoint.rstrip("/") + _TRACES
        self._exporter = OTLPSpanExporter(endpoint=endpoint)
        attributes = {SERVICE_VERSION: __version__, SERVICE_INSTANCE_ID: f"{socket.gethostname()}:{parent}"}
        if service_name is not None or not os.environ.get("OTEL_SERVICE_NAME"):
            attributes[SERVICE_NAME] = service_name or _DEFAULT_NAME
        self._resource = Resource.create(dict(attributes))
        self._scope = InstrumentationScope("penstock", __version__)

    def send(self, spans: Sequence[Span]) -> bool:
        """Whether they arrived; tries for some time, as OTEL_EXPORTER_OTLP_TIMEOUT says (10 s)."""
        return self._exporter.export([self._readable(span) for span in spans]) == SpanExportResult.SUCCESS

    def _readable(self, span: Span) -> ReadableSpan:
        def context(span_id: bytes, trace_id: bytes, *, remote: bool = False) -> SpanContext:
            return SpanContext(
                int.from_bytes(trace_id),
                int.from_bytes(span_id),
                is_remote=remote,
                trace_flags=TraceFlags(TraceFlags.SAMPLED),
                trace_state=TraceState.from_header([span.trace_state]) if span.trace_state else TraceState(),
            )

        parent = span.parent_id
        return ReadableSpan(
            name=span.name,
            context=context(span.span_id, span.trace_id),
            parent=None if parent is None else context(parent, span.trace_id, remote=span.remote_parent),
            resource=self._resource,
            attributes=dict(span.attributes),
            links=[Link(context(link.span_id, link.trace_id)) for link in span.links],
            kind=SpanKind.SERVER if span.is_server else SpanKind.INTERNAL,
            status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
            start_time=span.start_ns,
            end_time=span.end_ns,
            instrumentation_scope=self._scope,
        )
