"""Traces of calls that are no /predict: many rows, the Open Inference Protocol, gRPC. One trace for each request."""

import json
import os
import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from penstock.native._dataplane import has_http2
from tests.collector import Collector, attributes_of, collector
from tests.models import affine
from tests.serving import Server

PARENT = "00f067aa0ba902b7"
ROWS = 5
TENSOR = {"name": "x", "datatype": "FP32", "shape": [ROWS, 4], "data": [1.0] * 4 * ROWS}
SERVICE = "inference.GRPCInferenceService"
needs_http2 = pytest.mark.skipif(not has_http2(), reason="Penstock was built without HTTP/2")


@pytest.fixture(scope="module")
def taken() -> Iterator[Collector]:
    with collector() as running:
        yield running


@pytest.fixture(scope="module")
def server(taken: Collector, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("calls")
    options = ["--trace-endpoint", taken.url, "--trace-sample", "0"]
    server = Server.start([f"affine={affine(folder)}", *options], folder)
    try:
        yield server
        server.stop()
    finally:
        server.process.kill()
        server.process.wait()


def traceparent(trace: str) -> str:
    return f"00-{trace}-{PARENT}-01"


def check_prediction(spans: dict[str, Span], name: str, rows: int) -> None:
    """One span of the server, and in it one queue, batch and run, in this order."""
    assert sorted(spans) == sorted([name, "queue", "batch", "run"])
    served, queue, batch, run = (spans[each] for each in (name, "queue", "batch", "run"))
    assert served.parent_span_id.hex() == PARENT and served.kind == Span.SPAN_KIND_SERVER
    assert queue.parent_span_id == batch.parent_span_id == served.span_id and run.parent_span_id == batch.span_id
    assert served.start_time_unix_nano == queue.start_time_unix_nano
    assert queue.end_time_unix_nano == batch.start_time_unix_nano <= run.start_time_unix_nano
    assert run.end_time_unix_nano == batch.end_time_unix_nano <= served.end_time_unix_nano
    about = attributes_of(served)
    assert (about["penstock.model"], about["penstock.version"], about["penstock.rows"]) == ("affine", "1", rows)
    assert attributes_of(batch)["penstock.batch.rows"] == rows


@pytest.mark.parametrize(
    ("path", "route", "body"),
    [
        ("/predict/batch", "/predict/batch", {"model": "affine", "inputs": [[1, 2, 3, 4]] * ROWS}),
        ("/v2/models/affine/infer", "/v2/models/{model}/infer", {"inputs": [TENSOR]}),
        (
            "/v2/models/affine/versions/1/infer",
            "/v2/models/{model}/versions/{version}/infer",
            {"inputs": [TENSOR]},
        ),
    ],
)
def test_many_rows_are_one_trace(
    path: str, route: str, body: dict[str, object], server: Server, taken: Collector
) -> None:
    trace = os.urandom(16).hex()
    headers = {"Content-Type": "application/json", "traceparent": traceparent(trace)}
    assert server.request("POST", path, json.dumps(body), headers).status == 200
    spans = taken.trace(trace, 4)
    check_prediction(spans, f"POST {route}", ROWS)
    about = attributes_of(spans[f"POST {route}"])
    assert about["http.route"] == route and about["url.path"] == path and about["http.response.status_code"] == 200


def test_a_row_that_is_refused_does_not_fail_its_trace(server: Server, taken: Collector) -> None:
    trace = os.urandom(16).hex()
    body = json.dumps({"model": "affine", "inputs": [[1, 2, 3, 4], [1], [1, 2, 3, 4]]})
    headers = {"Content-Type": "application/json", "traceparent": traceparent(trace)}
    assert server.request("POST", "/predict/batch", body, headers).status == 200
    spans = taken.trace(trace, 4)
    assert spans["POST /predict/batch"].status.code == 0 and "error.type" not in attributes_of(
        spans["POST /predict/batch"]
    )


def infer_request(model: str) -> bytes:
    def field(number: int, content: bytes) -> bytes:
        assert len(content) < 128
        return bytes([number << 3 | 2, len(content)]) + content

    values = struct.pack("<8f", *range(8))
    tensor = field(1, b"x") + field(2, b"FP32") + field(3, bytes([2, 4]))
    return field(1, model.encode()) + field(5, tensor) + field(7, values)


def call(server: Server, folder: Path, method: str, message: bytes, **metadata: str) -> int:
    """Call over gRPC; the status."""
    (folder / "message").write_bytes(struct.pack(">BI", 0, len(message)) + message)
    fields = {"Content-Type": "application/grpc", "TE": "trailers", **metadata}
    command = ["curl", "-sS", "--http2-prior-knowledge", "--data-binary", f"@{folder / 'message'}"]
    command += [word for name, value in fields.items() for word in ("-H", f"{name}: {value}")]
    command += ["-o", "answer", "-D", "head", f"{server.url}/{method}"]
    subprocess.run(command, cwd=folder, check=True, timeout=300)
    head = (folder / "head").read_text().splitlines()
    return next(int(line.split(":")[1]) for line in head if line.startswith("grpc-status:"))


@needs_http2
def test_a_call_of_grpc_is_a_trace(server: Server, taken: Collector, tmp_path: Path) -> None:
    trace = os.urandom(16).hex()
    metadata = {"traceparent": traceparent(trace), "tracestate": "vendor=1"}
    assert call(server, tmp_path, f"{SERVICE}/ModelInfer", infer_request("affine"), **metadata) == 0
    spans = taken.trace(trace, 4)
    check_prediction(spans, f"{SERVICE}/ModelInfer", 2)
    served = spans[f"{SERVICE}/ModelInfer"]
    assert served.trace_state == "vendor=1"
    about = attributes_of(served)
    assert (about["rpc.system"], about["rpc.service"], about["rpc.method"]) == ("grpc", SERVICE, "ModelInfer")
    assert about["rpc.grpc.status_code"] == 0 and not any(
        name.startswith("http.r") for name in about if "size" not in name
    )


@needs_http2
def test_calls_that_fail_and_those_of_health_are_traces_too(server: Server, taken: Collector, tmp_path: Path) -> None:
    trace = os.urandom(16).hex()
    parent = traceparent(trace)
    assert call(server, tmp_path, f"{SERVICE}/ModelInfer", infer_request("absent"), traceparent=parent) == 5
    assert call(server, tmp_path, f"{SERVICE}/ServerLive", b"", traceparent=parent) == 0
    assert call(server, tmp_path, f"{SERVICE}/ServerMetadata", b"", traceparent=parent) == 0
    assert call(server, tmp_path, f"{SERVICE}/OfTheirInvention", b"", traceparent=parent) == 12
    spans = taken.trace(trace, 4)
    refused = attributes_of(spans[f"{SERVICE}/ModelInfer"])
    assert refused["rpc.grpc.status_code"] == 5 and refused["error.type"] == "model_not_found"
    assert f"{SERVICE}/ServerLive" in spans and f"{SERVICE}/ServerMetadata" in spans
    assert "OfTheirInvention" not in " ".join(spans)  # names of spans are few
    # What asks for no trace has none.
    assert call(server, tmp_path, f"{SERVICE}/ServerReady", b"", traceparent=f"00-{trace}-{PARENT}-00") == 0
    marker = os.urandom(16).hex()
    assert call(server, tmp_path, f"{SERVICE}/ServerLive", b"", traceparent=traceparent(marker)) == 0
    taken.trace(marker, 1)
    assert all(each.span.name != f"{SERVICE}/ServerReady" for each in taken.spans)
