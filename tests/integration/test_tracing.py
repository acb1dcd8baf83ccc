"""Traces: what arrives at a collector, and what a server does when none does."""

import json
import os
import re
import signal
import socket
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from tests.collector import SECONDS, Collector, Received, attributes_of, collector
from tests.integration.gate import Gate
from tests.models import affine
from tests.serving import Server
from tests.tap_records import records_of

TRACE = "4bf92f3577b34da6a3ce929d0e0e4736"
PARENT = "00f067aa0ba902b7"
IMPATIENT = {"OTEL_EXPORTER_OTLP_TIMEOUT": "1"}  # seconds
BODY = json.dumps({"model": "affine", "inputs": [1, 2, 3, 4]})


@contextmanager
def traced(
    folder: Path, *arguments: str, model: str | None = None, environment: dict[str, str] | None = None
) -> Iterator[Server]:
    server = Server.start([model or f"affine={affine(folder)}", *arguments], folder, environment)
    try:
        yield server
        server.stop()
    finally:
        server.process.kill()
        server.process.wait()


def predict(server: Server, trace: str = TRACE, flags: str = "01", **headers: str) -> int:
    fields = {"Content-Type": "application/json", "traceparent": f"00-{trace}-{PARENT}-{flags}", **headers}
    return server.request("POST", "/predict", BODY, fields).status


def metric(server: Server, name: str) -> float:
    found = re.search(rf"^{re.escape(name)} (\S+)$", server.request("GET", "/metrics").body.decode(), re.MULTILINE)
    assert found is not None, name
    return float(found[1])


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not holds():
        assert time.monotonic() < deadline


def exporter_of(server: Server) -> list[psutil.Process]:
    children = psutil.Process(server.process.pid).children()
    return [child for child in children if "penstock.telemetry" in child.cmdline()]


@pytest.fixture(scope="module")
def taken() -> Iterator[Collector]:
    with collector() as running:
        yield running


@pytest.fixture(scope="module")
def server(taken: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """Samples nothing of its own accord."""
    with traced(tmp_path_factory.mktemp("traced"), "--trace-endpoint", taken.url, "--trace-sample", "0") as running:
        yield running


def test_a_prediction_is_a_span_with_its_queue_batch_and_run(server: Server, taken: Collector) -> None:
    before = time.time_ns()
    assert predict(server, **{"X-Request-Id": "traced-1", "tracestate": "vendor=1"}) == 200
    after = time.time_ns()
    spans = taken.trace(TRACE, 4)
    served, queue, batch, run = (spans[name] for name in ("POST /predict", "queue", "batch", "run"))
    assert served.parent_span_id.hex() == PARENT and served.kind == served.SPAN_KIND_SERVER
    assert served.trace_state == "vendor=1"
    assert queue.parent_span_id == served.span_id == batch.parent_span_id
    assert run.parent_span_id == batch.span_id
    assert len({span.span_id for span in spans.values()}) == 4
    slack = 5_000_000  # the two clocks are read one after the other
    assert before - slack <= served.start_time_unix_nano <= served.end_time_unix_nano <= after + slack
    assert served.start_time_unix_nano == queue.start_time_unix_nano
    assert queue.end_time_unix_nano == batch.start_time_unix_nano <= run.start_time_unix_nano
    assert run.end_time_unix_nano == batch.end_time_unix_nano <= served.end_time_unix_nano
    about = attributes_of(served)
    assert about["http.request.method"] == "POST" and about["http.route"] == "/predict"
    assert about["http.response.status_code"] == 200 and about["http.request.body.size"] == len(BODY)
    assert about["penstock.model"] == "affine" and about["penstock.version"] == "1" and about["penstock.rows"] == 1
    assert about["penstock.request_id"] == "traced-1" and about["client.address"] == "127.0.0.1"
    assert attributes_of(batch)["penstock.batch.rows"] == 1
    assert served.status.code == served.status.STATUS_CODE_UNSET
    assert taken.spans[0].resource["service.name"] == "penstock"


@pytest.mark.parametrize(
    "traceparent",
    [
        None,
        f"00-{TRACE}-{PARENT}-00",
        f"00-{TRACE.upper()}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01-more",
        f"ff-{TRACE}-{PARENT}-01",
        f"00-{'0' * 32}-{PARENT}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE}-{PARENT}-1",
        f"00-{TRACE[:-1]}-{PARENT}-01",
        f"00-{TRACE}-{PARENT}-01, 00-{TRACE}-{PARENT}-01",
    ],
)
def test_what_asks_for_no_trace_gets_none(traceparent: str | None, server: Server, taken: Collector) -> None:
    fields = {"Content-Type": "application/json", "X-Request-Id": "not-traced"}
    if traceparent is not None:
        fields["traceparent"] = traceparent
    assert server.request("POST", "/predict", BODY, fields).status == 200
    marker = os.urandom(16).hex()  # behind it: exports keep the order
    assert predict(server, marker) == 200
    taken.trace(marker, 4)
    assert all(attributes_of(each.span).get("penstock.request_id") != "not-traced" for each in taken.spans)


def test_errors_and_other_routes_are_spans_too(server: Server, taken: Collector) -> None:
    trace = os.urandom(16).hex()
    fields = {"traceparent": f"00-{trace}-{PARENT}-01", "Content-Type": "application/json"}
    assert server.request("POST", "/predict", '{"model":"none","inputs":[1]}', fields).status == 404
    assert server.request("GET", "/models/affine", headers=fields).status == 200
    assert server.request("GET", "/health/live", headers=fields).status == 200
    spans = taken.trace(trace, 3)
    refused = attributes_of(spans["POST /predict"])
    assert refused["http.response.status_code"] == 404 and refused["error.type"] == "model_not_found"
    assert spans["POST /predict"].status.code == 0  # the client's mistake
    assert attributes_of(spans["GET /models/{model}"])["url.path"] == "/models/affine"
    assert "GET /health/live" in spans


def test_requests_of_one_batch_are_linked(taken: Collector, gate: Gate, tmp_path: Path) -> None:
    traces = [os.urandom(16).hex() for _ in range(2)]
    with traced(tmp_path, "--trace-endpoint", taken.url, model=f"gated={gate.path}") as server, ExitStack() as sockets:

        def send(first: float, trace: str) -> socket.socket:
            body = json.dumps({"model": "gated", "inputs": [first, 0, 0, 0]})
            client = sockets.enter_context(socket.create_connection((server.host, server.port), SECONDS))
            client.sendall(
                f"POST /predict HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
                f"Content-Length: {len(body)}\r\ntraceparent: 00-{trace}-{PARENT}-01\r\n\r\n{body}".encode()
            )
            return client

        clients = [send(Gate.HOLD, os.urandom(16).hex())]
        gate.wait_until_reached()
        clients += [send(1, trace) for trace in traces]
        wait_until(lambda: metric(server, 'penstock_queue_rows{model="gated",version="1"}') == 2)
        gate.open()
        for client in clients:
            assert client.recv(4096).startswith(b"HTTP/1.1 200")
    batches = [taken.trace(trace, 4)["batch"] for trace in traces]
    assert attributes_of(batches[0])["penstock.batch.id"] == attributes_of(batches[1])["penstock.batch.id"]
    assert {attributes_of(batch)["penstock.batch.rows"] for batch in batches} == {2}
    links = [link.span_id for batch in batches for link in batch.links]
    assert links in ([batches[0].span_id], [batches[1].span_id])


def test_a_share_of_what_comes_without_a_trace_is_traced(taken: Collector, tmp_path: Path) -> None:

    def spans() -> list[Received]:
        return [each for each in taken.spans if each.resource["service.name"] == "models-of-mine"]

    variables = {
        "OTEL_EXPORTER_OTLP_ENDPOINT": taken.url,
        "OTEL_SERVICE_NAME": "models-of-mine",
        "OTEL_RESOURCE_ATTRIBUTES": "deployment.environment.name=test",
    }
    with traced(tmp_path, "--trace-sample", "1", environment=variables) as server:
        assert server.request("POST", "/predict", BODY, {"Content-Type": "application/json"}).status == 200
        assert predict(server, flags="00", **{"X-Request-Id": "their-decision"}) == 200
        wait_until(lambda: len(spans()) >= 4)
    ours = spans()
    assert sorted(each.span.name for each in ours) == ["POST /predict", "batch", "queue", "run"]
    assert all(not each.span.parent_span_id for each in ours if each.span.name == "POST /predict")
    assert all(each.resource["deployment.environment.name"] == "test" for each in ours)


def test_a_collector_that_is_away_costs_its_traces_and_nothing_else(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as refused:
        port = refused.getsockname()[1]
    endpoint = f"http://127.0.0.1:{port}"
    with traced(tmp_path, "--trace-endpoint", endpoint, "--trace-sample", "1", environment=IMPATIENT) as server:
        for _ in range(20):
            assert predict(server) == 200
        wait_until(lambda: metric(server, "penstock_traces_dropped_total") >= 20)
        assert metric(server, "penstock_traces_exported_total") == 0
        with collector(port) as late:  # it comes back, and what comes now arrives, if not in vain once more
            wait_until(lambda: predict(server) == 200 and metric(server, "penstock_traces_exported_total") > 0)
            assert late.spans


def test_a_collector_that_hangs_delays_nothing(tmp_path: Path) -> None:
    with collector() as slow:
        slow.hang()
        with traced(tmp_path, "--trace-endpoint", slow.url, "--trace-sample", "1") as server:
            assert predict(server) == 200
            assert slow.hanging.wait(SECONDS)
            # Far more than the export may keep: the rest is dropped, and every request is answered.
            with socket.create_connection((server.host, server.port), SECONDS) as client:
                _ask_often(client, 30_000)
            wait_until(lambda: metric(server, "penstock_traces_dropped_total") > 0)
        # It has been stopped: the hanging collector did not keep it for long, or stop() would have failed.


def _ask_often(client: socket.socket, times: int) -> None:
    request = b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n"
    reader = client.makefile("rb")
    for done in range(0, times, 20):
        client.sendall(request * 20)
        for _ in range(20):
            assert reader.readline().startswith(b"HTTP/1.1 200"), done
            length = 0
            while (line := reader.readline()) != b"\r\n":
                if line.lower().startswith(b"content-length:"):
                    length = int(line.split(b":")[1])
            reader.read(length)


def test_an_exporter_that_is_killed_is_started_again(server: Server, taken: Collector) -> None:
    restarts = metric(server, "penstock_trace_exporter_restarts_total")
    (killed,) = exporter_of(server)
    killed.send_signal(signal.SIGKILL)
    wait_until(lambda: metric(server, "penstock_trace_exporter_restarts_total") == restarts + 1)
    wait_until(lambda: [process for process in exporter_of(server) if process.pid != killed.pid] != [])
    trace = os.urandom(16).hex()
    assert predict(server, trace) == 200
    taken.trace(trace, 4)


def test_an_endpoint_that_is_no_url_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="trace_endpoint is 'localhost:4317'"):
        Server.start([f"affine={affine(tmp_path)}", "--trace-endpoint", "localhost:4317"], tmp_path)


def test_records_are_read_as_they_are_written() -> None:
    from penstock.native._dataplane import Engine

    engine = Engine(trace_sample=1.0, access_log_sample=1.0)
    port = engine.listen_tcp("127.0.0.1", 0)
    engine.start()
    with socket.create_connection(("127.0.0.1", port), SECONDS) as client:
        client.sendall(
            f"GET /health/live?x=1 HTTP/1.1\r\nHost: a\r\nX-Request-Id: r-1\r\ntracestate: a=1\r\n"
            f"traceparent: 00-{TRACE}-{PARENT}-01\r\n\r\n".encode()
        )
        assert client.recv(4096).startswith(b"HTTP/1.1 200")
    lines, count, data = engine.drain_tap()
    engine.stop()
    (record,) = records_of(data)
    assert record.trace_id.hex() == TRACE and record.parent_id is not None and record.parent_id.hex() == PARENT
    assert (record.method, record.path, record.status) == ("GET", "/health/live", 200)
    assert (record.request_id, record.client, record.trace_state) == ("r-1", "127.0.0.1", "a=1")
    assert (record.model, record.version, record.principal, record.code) == ("", "", "", "")
    assert (record.taken_ns, record.rows, record.row_class, record.http_minor) == (0, 0, "normal", 1)
    assert not record.aborted and not record.streamed and record.bytes_out > 100
    assert record.arrival_ns <= record.replied_ns <= time.time_ns()
    line = json.loads(lines)
    assert count == 1 and line["trace_id"] == TRACE and line["span_id"] == record.span_id.hex()
    with pytest.raises(ValueError, match="no whole records"):
        list(records_of(data[:-1]))
