"""A collector of OpenTelemetry traces: takes OTLP over HTTP as the protocol's own messages describe it."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span

__all__ = ["Collector", "Received", "attributes_of", "collector"]

SECONDS = 300.0


@dataclass(frozen=True, slots=True)
class Received:
    """A span, and the attributes of whatever it came from."""

    span: Span
    resource: dict[str, str]


class Collector:
    """What has come so far. While `hangs` is set, requests wait for an answer until it is cleared."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.requests = 0
        self.hanging = threading.Event()
        self._go_on = threading.Event()
        self._changed = threading.Condition()
        self.url = ""

    def hang(self) -> None:
        self._go_on.clear()
        self.hanging.clear()

    def go_on(self) -> None:
        self._go_on.set()

    def handle(self, body: bytes) -> None:
        with self._changed:
            self.requests += 1
            self._changed.notify_all()
        if not self._go_on.is_set():
            self.hanging.set()
            self._go_on.wait(SECONDS)
        message = ExportTraceServiceRequest.FromString(body)
        with self._changed:
            for group in message.resource_spans:
                resource = {pair.key: pair.value.string_value for pair in group.resource.attributes}
                for scope in group.scope_spans:
                    self.spans += [Received(span, resource) for span in scope.spans]
            self._changed.notify_all()

    def wait_for(self, holds: Callable[[list[Received]], bool]) -> list[Received]:
        """Return the spans once this holds of them; AssertionError when it never does."""
        with self._changed:
            assert self._changed.wait_for(lambda: holds(self.spans), SECONDS), [each.span.name for each in self.spans]
            return list(self.spans)

    def trace(self, trace_id: str, spans: int) -> dict[str, Span]:
        """Return the spans of a trace by name, once there are so many."""

        def mine(received: list[Received]) -> list[Span]:
            return [each.span for each in received if each.span.trace_id.hex() == trace_id]

        return {span.name: span for span in mine(self.wait_for(lambda received: len(mine(received)) >= spans))}


def attributes_of(span: Span) -> dict[str, str | int | bool]:
    """Return a span's attributes as plain values."""
    return {pair.key: getattr(pair.value, pair.value.WhichOneof("value")) for pair in span.attributes}


@contextmanager
def collector(port: int = 0) -> Iterator[Collector]:
    """Run a collector on this machine."""
    taken = Collector()
    taken.go_on()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            assert self.path == "/v1/traces" and self.headers["Content-Type"] == "application/x-protobuf"
            taken.handle(body)
            answer = ExportTraceServiceResponse().SerializeToString()
            self.send_response(200)
            self.send_header("Content-Type", "application/x-protobuf")
            self.send_header("Content-Length", str(len(answer)))
            self.end_headers()
            self.wfile.write(answer)

        def log_message(self, format: str, *args: object) -> None:
            pass

    class Quiet(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(
            self, request: object, client_address: object
        ) -> None:  # the exporter may give up or be killed
            pass

    server = Quiet(("127.0.0.1", port), Handler)
    taken.url = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield taken
    finally:
        taken.go_on()
        server.shutdown()
        thread.join()
        server.server_close()
