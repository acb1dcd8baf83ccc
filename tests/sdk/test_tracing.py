"""Calls as spans of OpenTelemetry, whose context reaches the server."""

import json
import socket
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from opentelemetry.sdk.trace import ReadableSpan, TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import SpanKind, StatusCode

from penstock_client import Client, PenstockError, Retries
from penstock_client.opentelemetry import OpenTelemetryHook
from penstock_client.problems import InvalidInputError
from tests.sdk.asking import Ask
from tests.serving import Server


@pytest.fixture
def spans() -> InMemorySpanExporter:
    return InMemorySpanExporter()


@pytest.fixture
def provider(spans: InMemorySpanExporter) -> TracerProvider:
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    return provider


def attributes(span: ReadableSpan) -> dict[str, object]:
    return dict(span.attributes or {})


def test_a_call_is_a_span(ask: Ask, server: Server, provider: TracerProvider, spans: InMemorySpanExporter) -> None:
    hook = {"hook": OpenTelemetryHook(provider)}
    ask("predict", "affine", [1, 2, 3, 4], request_id="r-1", client=hook)
    ask("predict", "affine", np.ones(4), client=hook)
    with pytest.raises(InvalidInputError):
        ask("predict", "affine", [1], client=hook)
    plain, schema, binary, refused = spans.get_finished_spans()
    assert plain.name == "POST /predict"
    assert plain.kind is SpanKind.CLIENT
    assert attributes(plain) == {
        "http.request.method": "POST",
        "url.full": f"{server.url}/predict",
        "url.template": "/predict",
        "server.address": "127.0.0.1",
        "server.port": server.port,
        "penstock.request_id": "r-1",
        "http.response.status_code": 200,
    }
    assert (schema.name, binary.name) == ("GET /v2/models/{name}", "POST /v2/models/{name}/infer")
    assert attributes(binary)["url.full"] == f"{server.url}/v2/models/affine/infer"
    assert refused.status.status_code is StatusCode.ERROR
    assert attributes(refused)["error.type"] == "invalid_input"
    assert attributes(refused)["http.response.status_code"] == 422


def test_the_server_goes_on_with_the_trace(provider: TracerProvider, spans: InMemorySpanExporter) -> None:
    refusal = json.dumps({"code": "queue_full", "detail": "full"}).encode()
    answer = json.dumps({"model": "m", "version": "1", "outputs": {"y": 1}}).encode()
    replies = [
        b"HTTP/1.1 503 X\r\nRetry-After: 0\r\nContent-Type: application/problem+json\r\nContent-Length: %d\r\n\r\n%b"
        % (len(refusal), refusal),
        b"HTTP/1.1 200 X\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(answer), answer),
    ]
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as threads:

        def answered() -> list[bytes]:
            heads = []
            connection, _ = listening.accept()
            with connection:
                for reply in replies:
                    heads.append(connection.recv(65536))
                    connection.sendall(reply)
            return heads

        heads = threads.submit(answered)
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        tracer = provider.get_tracer("test")
        with (
            tracer.start_as_current_span("outer") as outer,
            Client(url, hook=OpenTelemetryHook(provider), retries=Retries(backoff_s=0)) as client,
        ):
            client.predict("m", 1)
        span = spans.get_finished_spans()[0]
        context = span.get_span_context()
        assert context is not None
        assert span.parent is not None
        assert span.parent.span_id == outer.get_span_context().span_id
        ids = f"{context.trace_id:032x}-{context.span_id:016x}-{int(context.trace_flags):02x}"
        expected = f"traceparent: 00-{ids}\r\n".encode()
        assert all(expected in head for head in heads.result())
    assert attributes(span)["http.request.resend_count"] == 1
    assert [(event.name, dict(event.attributes or {})["error.type"]) for event in span.events] == [
        ("retry", "queue_full")
    ]


def test_no_connection_is_an_error_of_the_span(ask: Ask, provider: TracerProvider, spans: InMemorySpanExporter) -> None:
    options = {"url": "http://127.0.0.1:1", "hook": OpenTelemetryHook(provider), "retries": Retries(1)}
    with pytest.raises(PenstockError):
        ask("predict", "m", 1, client=options)
    (span,) = spans.get_finished_spans()
    assert attributes(span)["error.type"] == "ConnectError"


def test_without_a_provider_nothing_is_sent(ask: Ask) -> None:
    assert ask("predict", "affine", [1, 2, 3, 4], client={"hook": OpenTelemetryHook()}).version == "1"
