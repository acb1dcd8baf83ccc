"""Batches of lines, streamed: what comes back, in which order, and how they end."""

import csv
import http.client
import io
import json
import stat
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest

from tests.integration.streams import CSV, JSON_LINES, lines_of, stream, streaming
from tests.serving import STOP_SECONDS, Server

ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
ROWS = 5000
SECONDS = 120.0


def wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + SECONDS
    while not condition():
        assert time.monotonic() < deadline


def affine_lines(first: int, count: int) -> bytes:
    return b"".join(b"[%d,0,1,2]\n" % row for row in range(first, first + count))


def test_lines_are_answered_in_their_order(server: Server) -> None:
    body = affine_lines(0, ROWS)
    pieces = [body[start : start + 7001] for start in range(0, len(body), 7001)]
    response = stream(server, JSON_LINES, "model=affine", pieces)
    assert response.status == 200
    assert response.headers["Content-Type"] == JSON_LINES
    assert [line["outputs"]["y"] for line in lines_of(response)] == [[2 * row + 1, 1, 3, 5] for row in range(ROWS)]


def test_a_row_may_be_wrapped_and_the_last_line_need_not_end(server: Server) -> None:
    response = stream(
        server, JSON_LINES, "model=affine", b'{"inputs":[1,2,3,4]}\r\n\n {"inputs":{"x":[0,0,0,0]}}\n[5,5,5,5]'
    )
    assert [line["outputs"]["y"] for line in lines_of(response)] == [[3, 5, 7, 9], [1, 1, 1, 1], [11, 11, 11, 11]]


def test_an_error_belongs_to_its_row(server: Server) -> None:
    rows = [
        b"[1,1,1,1]",
        b"[1,1]",
        b"no json",
        b"[1,1,1,1] 2",
        b'{"inputs":[1,1,1,1],"model":"mlp"}',
        b"[1 1]",
        b"[2,2,2,2]",
    ]
    lines = lines_of(stream(server, JSON_LINES, "model=affine", b"\n".join(rows)))
    assert [line["outputs"]["y"][0] if "outputs" in line else None for line in lines] == [3, *[None] * 5, 5]
    errors = [line["error"] for line in lines if "error" in line]
    assert [error["row"] for error in errors] == [1, 2, 3, 4, 5]
    assert [error["status"] for error in errors] == [422, 400, 400, 400, 400]
    assert "expected 4 values, got 2" in errors[0]["detail"]
    assert "model and version are named in the query" in errors[3]["detail"]


def test_a_row_that_makes_the_model_raise_fails_with_those_of_its_run_only(server: Server) -> None:
    lines = lines_of(stream(server, JSON_LINES, "model=echo", b"[1,1,1,1]\n[-1,1,1,1]\n"))
    assert lines[1]["error"]["status"] == 500


def test_csv_columns_are_the_elements_of_the_only_input(server: Server) -> None:
    response = stream(server, CSV, "model=affine", b'\xef\xbb\xbfa,b,c,d\r\n1,2,3,4\r\n"5",6, 7 ,nan\r\n1,2\r\n')
    assert response.headers["Content-Type"].startswith(CSV)
    table = list(csv.reader(io.StringIO(response.content.decode())))  # type: ignore[attr-defined]
    assert table[0] == ["y.0", "y.1", "y.2", "y.3", "error"]
    assert table[1] == ["3.0", "5.0", "7.0", "9.0", ""]
    assert table[2] == ["11.0", "13.0", "15.0", "NaN", ""]
    assert table[3][:4] == [""] * 4
    assert "row 2: malformed_body: the record has 2 fields, the header 4" in table[3][4]


def test_csv_columns_are_the_inputs(server: Server) -> None:
    header = ",".join([f"b.{i}" for i in range(5)] + [f"a.{i}" for i in range(6)])
    response = stream(server, CSV, "model=pair", f"{header}\n1,2,3,4,5,0,1,2,3,4,5\n".encode())
    table = list(csv.DictReader(io.StringIO(response.content.decode())))  # type: ignore[attr-defined]
    assert table == [{"scaled": "[[0.0,3.0,6.0],[9.0,12.0,15.0]]", "total": "15", "error": ""}]


def test_the_answer_may_have_another_format(server: Server) -> None:
    lines = stream(server, CSV, "model=affine", b"a,b,c,d\n1,2,3,4\n", accept=JSON_LINES)
    assert lines_of(lines) == [{"outputs": {"y": [3.0, 5.0, 7.0, 9.0]}}]
    table = stream(server, JSON_LINES, "model=affine", b"[1,2,3,4]\n", accept="text/csv;q=0.9")
    assert table.content == b"y.0,y.1,y.2,y.3,error\n3.0,5.0,7.0,9.0,\n"  # type: ignore[attr-defined]


def test_rows_are_answered_while_others_are_still_to_come(server: Server) -> None:
    with streaming(server, JSON_LINES, "model=affine") as request:
        for row in range(3):
            request.send(b"[%d,0,0,0]\n" % row)
            assert json.loads(request.response.readline())["outputs"]["y"][0] == 2 * row + 1
        request.end()
        assert request.response.read() == b""


def test_a_stream_without_rows_has_an_answer_without_rows(server: Server) -> None:
    assert stream(server, JSON_LINES, "model=affine", b"\n").content == b""  # type: ignore[attr-defined]
    assert stream(server, CSV, "model=affine", b"a,b,c,d\n").content == b"y.0,y.1,y.2,y.3,error\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("media_type", "query", "body", "accept", "status", "detail"),
    [
        (JSON_LINES, "model=nobody", b"[1]\n", None, 404, "nobody"),
        (JSON_LINES, "", b"[1]\n", None, 422, "name one in the query"),
        (JSON_LINES, "model=affine&modle=x", b"[1]\n", None, 422, "modle"),
        (JSON_LINES, "model=affine", b"[1]\n", "image/png", 406, "text/csv"),
        (CSV, "model=affine", b"a,b\n1,2\n", None, 422, "2 columns"),
        (CSV, "model=pair", b"a,b\n1,2\n", None, 422, "a.0"),
    ],
)
def test_what_is_wrong_with_all_of_it_is_a_refusal(
    server: Server, media_type: str, query: str, body: bytes, accept: str | None, status: int, detail: str
) -> None:
    response = stream(server, media_type, query, body, accept)
    assert response.status == status
    assert response.headers["Content-Type"] == "application/problem+json"
    assert detail in json.loads(response.content)["detail"]  # type: ignore[attr-defined]


def test_a_refusal_does_not_wait_for_the_body(server: Server) -> None:
    with streaming(server, JSON_LINES, "model=nobody") as request:
        request.send(b"[1]\n")
        assert request.response.status == 404


def test_a_client_that_leaves_is_no_event(serve: Callable[..., Server], model_folder: Path) -> None:
    running = serve(models={"affine": model_folder / "affine.onnx"})
    for answered in (False, True):
        with streaming(running, JSON_LINES, "model=affine") as request:
            request.send(affine_lines(0, 100))
            if answered:
                request.response.readline()
    assert len(lines_of(stream(running, JSON_LINES, "model=affine", affine_lines(0, 3)))) == 3
    assert "Traceback" not in running.log.read_text()


def test_keys_are_asked_for_and_the_private_socket_is_private(serve: Callable[..., Server], model_folder: Path) -> None:
    running = serve("--require-key", models={"affine": model_folder / "affine.onnx"})
    assert stream(running, JSON_LINES, "model=affine", b"[1,1,1,1]\n").status == 401
    sockets = [Path(each.laddr) for each in psutil.Process(running.process.pid).net_connections("unix") if each.laddr]
    private = {path.name: path for path in sockets if path.name in ("predict.sock", "control.sock")}
    assert set(private) == {"predict.sock", "control.sock"}
    assert all(stat.S_IMODE(path.parent.stat().st_mode) == 0o700 for path in private.values())


def test_what_was_accepted_is_answered_when_the_server_stops(tmp_path: Path, model_folder: Path) -> None:
    running = Server.start([f"affine={model_folder / 'affine.onnx'}"], tmp_path)
    with streaming(running, JSON_LINES, "model=affine") as request:
        request.send(affine_lines(0, 1))
        request.response.readline()
        running.process.terminate()
        wait_until(lambda: "draining" in running.log.read_text())
        request.send(affine_lines(1, 1))
        assert json.loads(request.response.readline())["outputs"]["y"][0] == 3
        request.end()
        assert request.response.read() == b""
    assert running.process.wait(STOP_SECONDS) == 0


def test_a_million_rows_take_constant_memory(serve: Callable[..., Server], model_folder: Path) -> None:
    running = serve(models={"affine": model_folder / "affine.onnx"})
    block, blocks = 10_000, 100
    lines = affine_lines(0, block)

    def rss() -> int:
        return int(psutil.Process(running.process.pid).memory_info().rss)

    def send() -> None:
        for _ in range(blocks):
            request.send(lines)
        request.end()

    def answers() -> Iterator[bytes]:
        while line := request.response.readline():
            yield line

    stream(running, JSON_LINES, "model=affine", lines)  # what the first batches make grow is not the stream's
    with streaming(running, JSON_LINES, "model=affine") as request:
        sender = threading.Thread(target=send)
        sender.start()
        before = most = rss()
        rows = 0
        for line in answers():
            assert line.startswith(b'{"outputs":{"y":[%d.0,' % (rows % block * 2 + 1))
            rows += 1
            if rows % block == 0:
                most = max(most, rss())
        sender.join()
    assert rows == block * blocks
    assert most - before < 32 << 20


def arrow_of(columns: dict[str, Any], *, rows: int = 700) -> bytes:
    table = pyarrow.table(columns)
    sink = io.BytesIO()
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table, max_chunksize=rows)
    return sink.getvalue()


def parquet_of(columns: dict[str, Any]) -> bytes:
    sink = io.BytesIO()
    pyarrow.parquet.write_table(pyarrow.table(columns), sink)
    return sink.getvalue()


def table_of(response: Any) -> list[Any]:
    assert response.status == 200, response.content
    assert response.headers["Content-Type"] == ARROW
    rows: list[Any] = pyarrow.ipc.open_stream(response.content).read_all().to_pylist()
    return rows


@pytest.mark.parametrize("media_type", [ARROW, PARQUET])
def test_columns_are_the_inputs_or_their_elements(server: Server, media_type: str) -> None:
    write = arrow_of if media_type == ARROW else parquet_of
    count = 3000
    by_element = {name: [float(row + index) for row in range(count)] for index, name in enumerate("abcd")}
    expected = [[2.0 * (row + index) + 1 for index in range(4)] for row in range(count)]
    rows = table_of(stream(server, media_type, "model=affine", write(by_element)))
    assert [row["y"] for row in rows] == expected
    assert all(row["error"] is None for row in rows)
    by_name = {"x": [[float(row + index) for index in range(4)] for row in range(count)]}
    lines = lines_of(stream(server, media_type, "model=affine", write(by_name), accept=JSON_LINES))
    assert [line["outputs"]["y"] for line in lines] == expected
    pair = {"b": [[1, 2, 3, 4, 5]], "a": [[[0.0, 1.0, 2.0], [3.0, 4.0, 5.0]]]}
    rows = table_of(stream(server, media_type, "model=pair", write(pair)))
    assert rows == [{"scaled": [[0.0, 3.0, 6.0], [9.0, 12.0, 15.0]], "total": 15, "error": None}]


def test_errors_of_columns_belong_to_their_rows(server: Server) -> None:
    x = [[1.0] * 4, None, [1.0] * 3, [float("nan"), float("inf"), -float("inf"), 0.0]]
    rows = table_of(stream(server, ARROW, "model=affine", arrow_of({"x": x})))
    assert [row["error"] and (row["error"]["row"], row["error"]["status"]) for row in rows] == [
        None,
        (1, 422),
        (2, 422),
        None,
    ]
    assert str(rows[3]["y"]) == "[nan, inf, -inf, 1.0]"


@pytest.mark.parametrize(
    ("media_type", "query", "body", "accept", "status", "detail"),
    [
        (ARROW, "model=nobody", b"", None, 404, "nobody"),
        (ARROW, "model=affine", b"no arrow at all, but some bytes", None, 400, "not arrow"),
        (PARQUET, "model=affine", b"no parquet", None, 400, "not parquet"),
        (ARROW, "model=affine", arrow_of({"a": [1.0]}), None, 422, "expected one for each input"),
        (ARROW, "model=affine", arrow_of({"x": [[1.0] * 4]}), "text/csv", 406, "x-ndjson"),
    ],
)
def test_columns_that_cannot_be_run_are_refused(
    server: Server, media_type: str, query: str, body: bytes, accept: str | None, status: int, detail: str
) -> None:
    response = stream(server, media_type, query, body, accept)
    assert response.status == status, response.content  # type: ignore[attr-defined]
    assert detail in json.loads(response.content)["detail"]  # type: ignore[attr-defined]


def test_half_a_file_of_columns_is_not_answered_as_a_whole_one(server: Server) -> None:
    body = arrow_of({"x": [[float(row)] * 4 for row in range(20_000)]})
    with streaming(server, ARROW, "model=affine") as request:
        request.send(body[: len(body) // 2])
        request.send(b"\xff\xff\xff\xff\x10\x00\x00\x00 no metadata, ")
        request.end()
        with pytest.raises((http.client.IncompleteRead, ConnectionResetError)):
            request.response.read()


def test_the_main_process_loads_neither_arrow_nor_numpy(server: Server) -> None:
    assert stream(server, ARROW, "model=affine", arrow_of({"x": [[1.0] * 4]})).status == 200
    maps = Path(f"/proc/{server.process.pid}/maps").read_text()
    assert "_dataplane" in maps
    assert "libarrow" not in maps and "_multiarray_umath" not in maps
    wait_until(lambda: not any("jobs.columns" in word for word in commands_below(server.process.pid)))


def commands_below(pid: int) -> list[str]:
    words = []
    for child in psutil.Process(pid).children(recursive=True):
        with suppress(psutil.Error):
            words += child.cmdline()
    return words
