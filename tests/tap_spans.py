"""What the spans of a traced request are, in Python and with OpenTelemetry's own encoder: for comparison."""

from __future__ import annotations

import os
import re
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.sdk.resources import Resource
from opentelemetry.sdk.trace import ReadableSpan
from opentelemetry.sdk.util.instrumentation import InstrumentationScope
from opentelemetry.trace import Link as SdkLink
from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags, TraceState

from penstock.control.openapi import openapi_document
from tests.tap_records import TapRecord

__all__ = ["SpanMaker", "encoded"]

# Batches that requests of which more may come are linked to.
_BATCHES_KEPT = 1024
_SERVER_ERROR = 500
# Names have few values: what is a name in a path is left out of them.
_ROUTES: tuple[tuple[re.Pattern[str], str], ...] = tuple(
    (re.compile(re.sub(r"\{\w+\}", "[^/]+", route.replace(".", "[.]"))), route)
    for route in sorted(
        (path.replace("{name}", "{model}") for path in openapi_document()["paths"]),
        key=lambda route: "{" in route,
    )
)

Value = str | int | bool


@dataclass(frozen=True, slots=True)
class Link:
    """Another span that has to do with this one."""

    trace_id: bytes
    span_id: bytes


@dataclass(frozen=True, slots=True)
class Span:
    """One span, as it will be exported. `is_server`: else it is internal. Times are nanoseconds since 1970."""

    name: str
    trace_id: bytes
    span_id: bytes
    parent_id: bytes | None
    start_ns: int
    end_ns: int
    is_server: bool = False
    remote_parent: bool = False
    error: str | None = None
    trace_state: str = ""
    attributes: Mapping[str, Value] = field(default_factory=dict)
    links: tuple[Link, ...] = ()


class SpanMaker:
    """Makes spans of records; remembers batches, so that requests that shared one are linked."""

    def __init__(self, new_id: Callable[[], bytes] = lambda: os.urandom(8)) -> None:
        self._new_id = new_id
        self._batches: OrderedDict[int, Link] = OrderedDict()

    def spans_of(self, records: Iterable[TapRecord]) -> Iterator[Span]:
        """Yield the server's span of each record, and those of the queue, the batch and the run in it."""
        for record in records:
            yield _server_span(record)
            if record.taken_ns:
                yield from self._batch_spans(record)

    def _batch_spans(self, record: TapRecord) -> Iterator[Span]:
        def child(name: str, parent: bytes, start_ns: int, end_ns: int, **more: object) -> Span:
            return Span(
                name,
                record.trace_id,
                self._new_id(),
                parent,
                start_ns,
                max(start_ns, end_ns),
                **more,  # type: ignore[arg-type]
            )

        yield child("queue", record.span_id, record.arrival_ns, max(record.arrival_ns, record.taken_ns))
        about: dict[str, Value] = {
            "penstock.batch.id": f"{record.batch:016x}",
            "penstock.batch.rows": record.batch_rows,
            "penstock.batch.padding_rows": record.padding_rows,
            "penstock.batch.sealed": record.reason,
            "penstock.worker": record.worker,
        }
        first = self._batches.get(record.batch)
        links = () if first is None else (first,)
        batch = child("batch", record.span_id, record.taken_ns, record.done_ns, attributes=about, links=links)
        if first is None:
            self._batches[record.batch] = Link(record.trace_id, batch.span_id)
            if len(self._batches) > _BATCHES_KEPT:
                self._batches.popitem(last=False)
        yield batch
        yield child("run", batch.span_id, record.run_ns, record.done_ns)


def _server_span(record: TapRecord) -> Span:
    route = next((route for pattern, route in _ROUTES if pattern.fullmatch(record.path)), None)
    method = "HTTP" if record.method == "_OTHER" else record.method  # the conventions' word for unknown methods
    return Span(
        name=f"{method} {route}" if route else method,
        trace_id=record.trace_id,
        span_id=record.span_id,
        parent_id=record.parent_id,
        remote_parent=record.parent_id is not None,
        start_ns=record.arrival_ns,
        end_ns=max(record.arrival_ns, record.replied_ns),
        is_server=True,
        error=_error_of(record),
        trace_state=record.trace_state,
        attributes=dict(_server_attributes(record, route)),
    )


def _error_of(record: TapRecord) -> str | None:
    # What a client did wrong is no error of the server (semantic conventions for HTTP spans).
    if record.aborted:
        return "aborted"
    return (record.code or str(record.status)) if record.status >= _SERVER_ERROR else None


def _server_attributes(record: TapRecord, route: str | None) -> Iterator[tuple[str, Value]]:
    yield "http.request.method", record.method
    yield "url.path", record.path
    yield "url.scheme", "http"
    for name, text in (
        ("http.route", route),
        ("client.address", record.client),
        ("error.type", _error_of(record) or record.code),
        ("enduser.id", record.principal),
        ("penstock.model", record.model),
        ("penstock.version", record.version),
        ("penstock.request_id", record.request_id),
    ):
        if text:
            yield name, text
    if record.status:
        yield "http.response.status_code", record.status
    if not record.streamed:
        yield "http.request.body.size", record.bytes_in
        yield "http.response.size", record.bytes_out
    if record.rows:
        yield "penstock.rows", record.rows
        yield "penstock.priority", record.row_class


def encoded(spans: Iterable[Span], resource: Mapping[str, str], version: str) -> ExportTraceServiceRequest:
    """Encode as OpenTelemetry's SDK does."""
    about = Resource(dict(resource))
    scope = InstrumentationScope("penstock", version)
    return encode_spans([_readable(span, about, scope) for span in spans])


def _readable(span: Span, resource: Resource, scope: InstrumentationScope) -> ReadableSpan:
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
        resource=resource,
        attributes=dict(span.attributes),
        links=[SdkLink(context(link.span_id, link.trace_id)) for link in span.links],
        kind=SpanKind.SERVER if span.is_server else SpanKind.INTERNAL,
        status=Status(StatusCode.ERROR, span.error) if span.error else Status(),
        start_time=span.start_ns,
        end_time=span.end_ns,
        instrumentation_scope=scope,
    )
