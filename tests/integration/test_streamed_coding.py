"""Streams that come compressed, answers that leave so, and what of a request's head its rows carry."""

import gzip
import http.client
import io
import json
import os
import re
import time
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow as pa
import pyarrow.ipc
import pytest
import zstandard

from tests.collector import attributes_of, collector
from tests.integration.streams import CSV, JSON_LINES, lines_of, stream, streaming
from tests.serving import Server

ARROW = "application/vnd.apache.arrow.stream"
COMPRESS: dict[str, Callable[[bytes], bytes]] = {"gzip": gzip.compress, "zstd": zstandard.ZstdCompressor().compress}
ROWS = 3000
SECONDS = 300.0


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory, model_folder: Path) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("coding")
    running = Server.start([f"affine={model_folder / 'affine.onnx'}"], folder, {"PENSTOCK_COMPRESS": "true"})
    yield running
    running.stop()


def rows_of(count: int = ROWS) -> bytes:
    return b"".join(b"[%d,0,1,2]\n" % row for row in range(count))


def pieces_of(body: bytes, size: int = 997) -> list[bytes]:
    return [body[start : start + size] for start in range(0, len(body), size)]


def plain(response: Any, coding: str) -> bytes:
    assert response.status == 200, response.content
    assert response.headers["Content-Encoding"] == coding
    if coding == "gzip":
        return gzip.decompress(response.content)
    with zstandard.ZstdDecompressor().stream_reader(io.BytesIO(response.content)) as reader:
        return reader.read()


@pytest.mark.parametrize("coding", COMPRESS)
def test_a_stream_may_come_compressed(server: Server, coding: str) -> None:
    packed = COMPRESS[coding](rows_of())
    response = stream(server, JSON_LINES, "model=affine", pieces_of(packed), Content_Encoding=coding)
    assert [line["outputs"]["y"][0] for line in lines_of(response)] == [2 * row + 1 for row in range(ROWS)]
    assert "Content-Encoding" not in response.headers
    halves = COMPRESS[coding](rows_of(2)) + COMPRESS[coding](rows_of(3))
    response = stream(server, JSON_LINES, "model=affine", pieces_of(halves, 1), Content_Encoding=coding)
    assert len(lines_of(response)) == 5


@pytest.mark.parametrize("coding", COMPRESS)
@pytest.mark.parametrize("media_type", [JSON_LINES, CSV, ARROW])
def test_an_answer_leaves_compressed_when_it_is_asked_for(server: Server, media_type: str, coding: str) -> None:
    body = {JSON_LINES: rows_of(), CSV: b"a,b,c,d\n" + rows_of().replace(b"[", b"").replace(b"]", b"")}
    table = pa.table({name: pa.array(range(ROWS), pa.float32()) for name in "abcd"})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    sent = body.get(media_type, sink.getvalue())
    wanted = stream(server, media_type, "model=affine", sent).content  # type: ignore[attr-defined]
    response = stream(server, media_type, "model=affine", pieces_of(sent), Accept_Encoding=f"br, {coding}")
    if media_type == ARROW:
        tables = [pa.ipc.open_stream(each).read_all() for each in (plain(response, coding), wanted)]
        assert tables[0].equals(tables[1])
    else:
        assert plain(response, coding) == wanted
    packed = COMPRESS[coding](sent)
    both = stream(
        server, media_type, "model=affine", packed, None, Content_Encoding=coding, Accept_Encoding="gzip;q=0, zstd"
    )
    assert len(plain(both, "zstd")) == len(wanted)


def test_compressed_rows_are_answered_while_others_are_still_to_come(server: Server) -> None:
    deflate = zlib.compressobj(wbits=31)
    inflate = zlib.decompressobj(wbits=31)
    with streaming(server, JSON_LINES, "model=affine", Content_Encoding="gzip", Accept_Encoding="gzip") as request:
        for row in range(3):
            request.send(deflate.compress(b"[%d,0,0,0]\n" % row) + deflate.flush(zlib.Z_SYNC_FLUSH))
            line = b""
            while not line.endswith(b"\n"):
                line += inflate.decompress(request.response.read1(4096))
            assert json.loads(line)["outputs"]["y"][0] == 2 * row + 1
        request.send(deflate.flush())
        request.end()
        assert inflate.decompress(request.response.read()) == b"" and inflate.eof


def test_a_server_that_does_not_compress_answers_plainly(serve: Callable[..., Server], model_folder: Path) -> None:
    running = serve(models={"affine": model_folder / "affine.onnx"})
    packed = gzip.compress(rows_of(5))
    response = stream(
        running, JSON_LINES, "model=affine", packed, None, Content_Encoding="gzip", Accept_Encoding="gzip"
    )
    assert "Content-Encoding" not in response.headers and len(lines_of(response)) == 5


@pytest.mark.parametrize(
    ("coding", "body", "status", "detail"),
    [
        ("br", b"x", 415, "br"),
        ("gzip, gzip", b"x", 415, "gzip, gzip"),
        ("gzip", rows_of(3), 400, "damaged"),
        ("zstd", rows_of(3), 400, "damaged"),
        ("gzip", gzip.compress(b"[1,0,1,2", mtime=0)[:-5], 400, "before its data do"),
        ("zstd", COMPRESS["zstd"](b"[1,0,1,2")[:-2], 400, "before its data do"),
        ("gzip", gzip.compress(b"\n", mtime=0) + b"more", 400, "follows the end"),
        ("zstd", COMPRESS["zstd"](b"\n") + b"more", 400, "follows the end"),
    ],
)
def test_what_is_not_compressed_so_is_refused(
    server: Server, coding: str, body: bytes, status: int, detail: str
) -> None:
    response = stream(server, JSON_LINES, "model=affine", body, Content_Encoding=coding)
    content = response.content  # type: ignore[attr-defined]
    assert response.status == status, content
    assert detail in json.loads(content)["detail"]


@pytest.mark.parametrize("coding", COMPRESS)
def test_damage_behind_rows_that_were_answered_cuts_the_answer(server: Server, coding: str) -> None:
    packed = COMPRESS[coding](rows_of(100_000))
    with streaming(server, JSON_LINES, "model=affine", Content_Encoding=coding) as request:
        for piece in pieces_of(packed[:-1000], 4096):
            request.send(piece)
        assert json.loads(request.response.readline())["outputs"]["y"][0] == 1
        request.send(b"\xff" * 1000)
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            request.response.read()


def bomb(coding: str, byte: bytes, megabytes: int) -> bytes:
    content = byte * (1 << 20)
    if coding == "gzip":
        return gzip.compress(content) * megabytes
    return COMPRESS["zstd"](content) * megabytes


@pytest.mark.parametrize(("coding", "byte"), [("gzip", b" "), ("zstd", b" "), ("zstd", b"\n")])
def test_a_bomb_ends_early_and_takes_no_memory(server: Server, coding: str, byte: bytes) -> None:
    process = psutil.Process(server.process.pid)
    stream(server, JSON_LINES, "model=affine", COMPRESS[coding](rows_of()), Content_Encoding=coding)
    before = process.memory_info().rss
    response = stream(server, JSON_LINES, "model=affine", bomb(coding, byte, 2048), Content_Encoding=coding)
    content = response.content  # type: ignore[attr-defined]
    assert response.status == 413, content
    assert json.loads(content)["code"] == "body_too_large"
    assert process.memory_info().rss - before < 64 << 20


def test_a_large_compressed_stream_takes_constant_memory(server: Server) -> None:
    blocks = 40
    process = psutil.Process(server.process.pid)
    deflate = zlib.compressobj(wbits=31)
    block = b"".join(b"[%d,0,1,2]\n" % row for row in range(10_000))
    pieces = [deflate.compress(block) for _ in range(blocks)] + [deflate.flush()]
    stream(server, JSON_LINES, "model=affine", gzip.compress(block), Content_Encoding="gzip")
    before = process.memory_info().rss
    with streaming(server, JSON_LINES, "model=affine", Content_Encoding="gzip", Accept_Encoding="zstd") as request:
        for piece in pieces:
            if piece:
                request.send(piece)
        request.end()
        rows, most = 0, 0
        with zstandard.ZstdDecompressor().stream_reader(request.response) as reader:
            while piece := reader.read(1 << 20):
                rows += piece.count(b"\n")
                most = max(most, process.memory_info().rss)
    assert rows == blocks * 10_000
    assert most - before < 32 << 20


# --- the head of a request --------------------------------------------------------------------------------------------


def counted(server: Server, row_class: str) -> float:
    text = server.request("GET", "/metrics").body.decode()
    found = re.findall(rf'^penstock_rows_by_class_total{{[^}}]*class="{row_class}"[^}}]*}} (\S+)$', text, re.MULTILINE)
    return sum(map(float, found))


@pytest.mark.parametrize("media_type", [JSON_LINES, ARROW])
def test_rows_of_a_stream_are_of_its_trace(media_type: str, tmp_path: Path, model_folder: Path) -> None:
    table = pa.table({name: pa.array(range(50), pa.float32()) for name in "abcd"})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    body = rows_of(50) if media_type == JSON_LINES else sink.getvalue()
    with collector() as taken:
        running = Server.start(
            [f"affine={model_folder / 'affine.onnx'}", "--trace-endpoint", taken.url, "--trace-sample", "1"], tmp_path
        )
        try:
            trace, parent = os.urandom(16).hex(), "00f067aa0ba902b7"
            fields = {"traceparent": f"00-{trace}-{parent}-01", "X_Request_Id": "streamed"}
            assert stream(running, media_type, "model=affine", body, **fields).status == 200
            spans = taken.trace(trace, 5)
            of_requests = [
                each.span for each in taken.wait_for(lambda spans: len(spans) >= 5) if each.span.name.startswith("POST")
            ]
            outer = [span for span in of_requests if span.parent_span_id.hex() == parent]
            inner = [span for span in of_requests if span.parent_span_id.hex() != parent]
            assert len(outer) == 1 and inner
            assert all(span.parent_span_id == outer[0].span_id for span in inner)
            assert all(attributes_of(span)["penstock.request_id"] == "streamed" for span in of_requests)
            assert "run" in spans
            # A trace that is not wanted is not begun for a part of the request, either.
            fields = {"traceparent": f"00-{os.urandom(16).hex()}-{parent}-00"}
            assert stream(running, media_type, "model=affine", body, **fields).status == 200
            # Nor is one for a part alone where the server begins it for all.
            assert stream(running, media_type, "model=affine", body).status == 200
            marker = os.urandom(16).hex()
            fields = {"traceparent": f"00-{marker}-{parent}-01"}
            assert stream(running, media_type, "model=affine", body, **fields).status == 200
            taken.trace(marker, 5)
            assert len({each.span.trace_id for each in taken.spans}) == 3
        finally:
            running.stop()


def test_a_stream_says_how_urgent_its_rows_are(server: Server) -> None:
    for media_type in (JSON_LINES,):
        before = {name: counted(server, name) for name in ("batch", "interactive")}
        assert stream(server, media_type, "model=affine", rows_of(30)).status == 200
        assert stream(server, media_type, "model=affine", rows_of(20), X_Request_Priority="interactive").status == 200
        after = {name: counted(server, name) for name in before}
        assert (after["batch"] - before["batch"], after["interactive"] - before["interactive"]) == (30, 20)
    refused = stream(server, JSON_LINES, "model=affine", rows_of(1), X_Request_Priority="soon")
    assert refused.status == 400


def test_rows_of_a_stream_have_its_time_out(serve: Callable[..., Server], tmp_path: Path) -> None:
    (tmp_path / "slow.py").write_text(
        "import time\nfrom penstock.worker import Tensor\n\n\nclass Model:\n"
        '    inputs = {"x": Tensor("float32")}\n    outputs = {"y": Tensor("float32")}\n\n'
        "    def predict(self, batch):\n        time.sleep(float(batch['x'].max()))\n        return {'y': batch['x']}\n"
    )
    running = serve(models={"slow": tmp_path / "slow.py"})
    late = stream(running, JSON_LINES, "model=slow", b"2\n", X_Request_Timeout_Ms="200")
    assert late.status == 504, late.content  # type: ignore[attr-defined]
    assert stream(running, JSON_LINES, "model=slow", b"0\n", X_Request_Timeout_Ms="never").status == 400


def test_a_stream_may_be_reproducible(server: Server) -> None:
    before = counted(server, "reproducible")
    assert stream(server, JSON_LINES, "model=affine", rows_of(7), X_Penstock_Reproducible="true").status == 200
    assert counted(server, "reproducible") - before == 7


def test_a_stream_is_logged_once_with_who_asked(tmp_path: Path, model_folder: Path) -> None:
    log = tmp_path / "access.log"
    running = Server.start([f"affine={model_folder / 'affine.onnx'}", "--access-log", str(log)], tmp_path)
    try:
        assert stream(running, JSON_LINES, "model=affine", rows_of(10), X_Request_Id="logged").status == 200
        deadline = time.monotonic() + SECONDS
        while not log.exists() or "logged" not in log.read_text():
            assert time.monotonic() < deadline
    finally:
        running.stop()
    written = [json.loads(line) for line in log.read_text().splitlines()]
    assert [line["path"] for line in written if line["request_id"] == "logged"] == ["/predict/batch"]
    assert len(written) == 1


# --- formats ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("sent", "accept", "status", "media_type"),
    [
        (JSON_LINES, "*/*", 200, JSON_LINES),
        (JSON_LINES, "application/*", 200, JSON_LINES),
        (JSON_LINES, "application/jsonl", 200, JSON_LINES),
        (JSON_LINES, "text/*", 200, CSV),
        (JSON_LINES, "text/csv;q=0.5, application/x-ndjson;q=0.9", 200, JSON_LINES),
        (JSON_LINES, "application/x-ndjson;q=0, text/csv", 200, CSV),
        (JSON_LINES, ARROW, 406, ""),
        (JSON_LINES, "application/json", 406, ""),
        (ARROW, "*/*", 200, ARROW),
        (ARROW, "application/*", 200, ARROW),
        (ARROW, "application/x-ndjson", 200, JSON_LINES),
        (ARROW, "application/jsonl", 200, JSON_LINES),
        (ARROW, "text/csv", 406, ""),
    ],
)
def test_accept_chooses_what_there_is(server: Server, sent: str, accept: str, status: int, media_type: str) -> None:
    table = pa.table({name: pa.array([1.0], pa.float32()) for name in "abcd"})
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    response = stream(server, sent, "model=affine", sink.getvalue() if sent == ARROW else rows_of(1), accept=accept)
    assert response.status == status, response.content  # type: ignore[attr-defined]
    if status == 200:
        assert response.headers["Content-Type"].split(";")[0] == media_type
    else:
        assert JSON_LINES in json.loads(response.content)["detail"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("sent", ["application/avro", "application/vnd.apache.arrow.file", "text/tab-separated-values"])
def test_a_format_that_is_no_stream_is_refused(server: Server, sent: str) -> None:
    reply = server.request("POST", "/predict/batch?model=affine", b"x", {"Content-Type": sent})
    assert reply.status == 415
    assert "application/x-ndjson" in reply.json()["detail"]
