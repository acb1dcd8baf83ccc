"""Streamed batches that are answered as server-sent events: the lines of NDJSON, and an event that tells the end."""

import gzip
import http.client
import io
import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest

from penstock.core.events import end_of, events_of
from penstock.native._dataplane import has_http2
from penstock_client import Client
from tests.integration.numbered import ROW, times
from tests.integration.streams import CSV, JSON_LINES, Stream, stream, streaming
from tests.serving import Server

ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
EVENTS = "text/event-stream"
ROWS = 5000
SECONDS = 300.0
LINES = b"".join(b"[%d,0,1,2]\n" % row if row % 7 else b"[%d]\n" % row for row in range(ROWS))


def table_of(rows: list[Any]) -> pyarrow.Table:
    return pyarrow.table({"x": pyarrow.array(rows, pyarrow.list_(pyarrow.float32()))})


def arrow_of(rows: list[Any]) -> bytes:
    sink, table = io.BytesIO(), table_of(rows)
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, 1000)
    return sink.getvalue()


def parquet_of(rows: list[Any]) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(table_of(rows), sink)
    return sink.getvalue()


def event_of(request: Stream) -> bytes:
    """The next event, up to the empty line behind it."""
    event = b""
    while not event.endswith(b"\n\n"):
        line = request.response.readline()
        assert line, event
        event += line
    return event


BODIES = {
    JSON_LINES: LINES,
    CSV: b"a,b,c,d\n" + LINES.replace(b"[", b"").replace(b"]", b""),
    ARROW: arrow_of([[float(row), 0, 1, 2] if row % 7 else None for row in range(ROWS)]),
    PARQUET: parquet_of([[float(row), 0, 1, 2] if row % 7 else [1.0] for row in range(ROWS)]),
}


def test_an_event_is_a_line_and_the_last_one_has_their_number() -> None:
    assert events_of(b"") == b""
    assert events_of(b'{"a":1}\n') == b'data: {"a":1}\n\n'
    assert events_of(b'{"a":1}\n{"b":"\\n"}\n') == b'data: {"a":1}\n\ndata: {"b":"\\n"}\n\n'
    assert end_of(2) == b'event: end\ndata: {"rows":2}\n\n'


@pytest.mark.parametrize("media_type", BODIES)
def test_each_row_is_an_event_with_the_line_that_it_has_elsewhere(server: Server, media_type: str) -> None:
    body = BODIES[media_type]
    lines = stream(server, media_type, "model=affine", body, accept=JSON_LINES).content  # type: ignore[attr-defined]
    assert lines.count(b'{"error":') == len(range(0, ROWS, 7)) and lines.count(b"\n") == ROWS
    pieces = [body[start : start + 7001] for start in range(0, len(body), 7001)]
    response = stream(server, media_type, "model=affine", pieces, accept=EVENTS)
    assert response.status == 200
    assert response.headers["Content-Type"] == EVENTS
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Accel-Buffering"] == "no"
    assert response.content == events_of(lines) + end_of(ROWS)  # type: ignore[attr-defined]


def test_errors_are_data_whose_line_breaks_are_escaped(server: Server) -> None:
    rows = b'[1,1,1,1]\n"a\\r\\n\\nb"\n[-1,1,1,1]\n[2,2,2,2]'
    response = stream(server, JSON_LINES, "model=echo", rows, accept=EVENTS)
    *events, rest = response.content.split(b"\n\n")  # type: ignore[attr-defined]
    assert rest == b"" and b"\r" not in response.content  # type: ignore[attr-defined]
    answers = [json.loads(event.removeprefix(b"data: ")) for event in events[:-1]]
    assert [answer.get("error", {}).get("status") for answer in answers] == [None, 422, 500, None]
    assert events[-1] == b'event: end\ndata: {"rows":4}'


@pytest.mark.parametrize(
    ("media_type", "body"),
    [(JSON_LINES, b""), (JSON_LINES, b"\n"), (CSV, b"a,b,c,d\n"), (ARROW, arrow_of([])), (PARQUET, parquet_of([]))],
)
def test_a_stream_without_rows_has_the_last_event_alone(server: Server, media_type: str, body: bytes) -> None:
    response = stream(server, media_type, "model=affine", body, EVENTS)
    assert response.content == b'event: end\ndata: {"rows":0}\n\n'  # type: ignore[attr-defined]


def test_rows_are_answered_while_others_are_still_to_come(server: Server) -> None:
    with streaming(server, JSON_LINES, "model=affine", EVENTS) as request:
        for row in range(3):
            request.send(b"[%d,0,0,0]\n" % row)
            assert event_of(request) == b'data: {"outputs":{"y":[%d.0,1.0,1.0,1.0]}}\n\n' % (2 * row + 1)
        request.end()
        assert request.response.read() == end_of(3)


def test_a_body_within_what_is_read_ahead_is_taken_before_its_answer_is_read(server: Server) -> None:
    """Pages send a whole body before they look at the answer; the TypeScript SDK keeps its chunks within this."""
    rows = (384 << 10) // 4
    with streaming(server, JSON_LINES, "model=affine", EVENTS) as request:
        request.send(b"[0]\n" * rows)  # whose errors are 30 times as long, more than sockets hold
        request.end()
        answer = request.response.read()
        assert len(answer) > 10 << 20 and answer.endswith(end_of(rows))


def test_what_is_wrong_with_all_of_it_is_a_refusal_and_no_event(server: Server) -> None:
    for query, body, status in (("model=nobody", b"[1]\n", 404), ("", b"[1]\n", 422)):
        response = stream(server, JSON_LINES, query, body, accept=EVENTS)
        assert (response.status, response.headers["Content-Type"]) == (status, "application/problem+json")
        assert "X-Accel-Buffering" not in response.headers


@pytest.mark.parametrize(
    ("media_type", "accept", "answer"),
    [
        (JSON_LINES, None, JSON_LINES),
        (JSON_LINES, "*/*", JSON_LINES),
        (JSON_LINES, "text/*", CSV),
        (JSON_LINES, "application/x-ndjson, text/event-stream", JSON_LINES),
        (JSON_LINES, "text/event-stream, */*", EVENTS),
        (JSON_LINES, "application/x-ndjson;q=0.5, text/event-stream", EVENTS),
        (CSV, "text/*", CSV),
        (CSV, "text/event-stream", EVENTS),
        (JSON_LINES, "text/event-stream; charset=utf-8", EVENTS),
        (JSON_LINES, "application/x-ndjson;charset=utf-8;q=0.2, text/csv; header=present ;q=0.3", CSV),
        (ARROW, "*/*", ARROW),
        (ARROW, "text/*", EVENTS),
        (ARROW, "application/x-ndjson, text/event-stream;q=0.9", JSON_LINES),
    ],
)
def test_events_come_where_they_are_asked_for(server: Server, media_type: str, accept: str | None, answer: str) -> None:
    response = stream(server, media_type, "model=affine", BODIES[media_type][: 1 << 20], accept)
    assert response.headers["Content-Type"].split(";")[0] == answer
    assert ("Cache-Control" in response.headers) == (answer == EVENTS)


@pytest.mark.parametrize("media_type", [JSON_LINES, ARROW])
def test_a_refusal_of_accept_names_them(server: Server, media_type: str) -> None:
    response = stream(server, media_type, "model=affine", BODIES[media_type], "image/png")
    assert response.status == 406
    there = json.loads(response.content)["detail"]  # type: ignore[attr-defined]
    assert EVENTS in there and JSON_LINES in there and (ARROW if media_type == ARROW else CSV) in there


def test_events_leave_compressed_when_it_is_asked_for(serve: Callable[..., Server], model_folder: Path) -> None:
    running = serve(models={"affine": model_folder / "affine.onnx"}, env={"PENSTOCK_COMPRESS": "true"})
    for media_type in (JSON_LINES, ARROW):
        plain = stream(running, media_type, "model=affine", BODIES[media_type], EVENTS)
        packed = stream(running, media_type, "model=affine", BODIES[media_type], EVENTS, Accept_Encoding="gzip")
        assert packed.headers["Content-Encoding"] == "gzip" and "Content-Encoding" not in plain.headers
        assert gzip.decompress(packed.content) == plain.content  # type: ignore[attr-defined]


def rest_of_cut(request: Stream) -> bytes:
    """What still comes of an answer that ends without its end."""
    pieces: list[bytes] = []
    with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
        pieces.extend(iter(request.response.read1, b""))
    return b"".join(pieces)


def test_an_answer_to_a_body_that_is_damaged_has_no_last_event(server: Server) -> None:
    packed = gzip.compress(LINES * 20)
    with streaming(server, JSON_LINES, "model=affine", EVENTS, Content_Encoding="gzip") as request:
        request.send(packed[:-1000])
        assert event_of(request).startswith(b'data: {"error"')
        request.send(b"\xff" * 1000)
        assert b"event: end" not in rest_of_cut(request)


def test_an_answer_whose_reader_is_killed_has_no_last_event(server: Server) -> None:
    with streaming(server, ARROW, "model=affine", EVENTS) as request:
        request.send(arrow_of([ROW] * 8000)[:-8])  # all but the end; more batches than are under way at a time
        assert event_of(request).startswith(b'data: {"outputs"')
        for child in psutil.Process(server.process.pid).children(recursive=True):
            if "penstock.jobs.columns" in child.cmdline():
                child.kill()
        assert b"event: end" not in rest_of_cut(request)


@pytest.fixture
def registered(serve: Callable[..., Server], tmp_path: Path) -> Iterator[tuple[Server, Client]]:
    running = serve("--development")
    with Client(running.url) as client:
        for version, factor in (("1", 1), ("2", 2)):
            client.models.register("times", times(tmp_path, factor), version=f"{version}.0.0")
            client.models.load("times", f"{version}.0.0")
        yield running, client


def test_a_version_that_is_replaced_answers_what_came_before(registered: tuple[Server, Client]) -> None:
    running, client = registered
    with streaming(running, JSON_LINES, "model=times", EVENTS) as request:
        for factor in (1, 2):
            client.models.promote("times", f"{factor}.0.0")
            request.send(json.dumps(ROW).encode() + b"\n")
            answer = json.loads(event_of(request).removeprefix(b"data: "))
            assert answer["outputs"]["y"] == [factor * value for value in ROW]
        request.end()
        assert request.response.read() == end_of(2)


@pytest.mark.skipif(not has_http2(), reason="nghttp2 was not found when the data plane was built")
@pytest.mark.parametrize("media_type", BODIES)
def test_events_over_http2_are_those_of_http_1(server: Server, tmp_path: Path, media_type: str) -> None:
    (tmp_path / "body").write_bytes(BODIES[media_type])
    command = ["curl", "-sS", "-N", "--http2-prior-knowledge", "--data-binary", f"@{tmp_path / 'body'}", "-D", "head"]
    command += ["-o", "reply", "-H", f"Content-Type: {media_type}", "-H", f"Accept: {EVENTS}"]
    subprocess.run([*command, f"{server.url}/predict/batch?model=affine"], cwd=tmp_path, check=True, timeout=SECONDS)
    head = (tmp_path / "head").read_text()
    assert head.startswith("HTTP/2 200") and f"content-type: {EVENTS}" in head and "x-accel-buffering: no" in head
    expected = stream(server, media_type, "model=affine", BODIES[media_type], EVENTS)
    assert (tmp_path / "reply").read_bytes() == expected.content  # type: ignore[attr-defined]
