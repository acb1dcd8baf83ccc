"""Many rows: chunks, tables, an error for each row that fails."""

import asyncio
import json
import math
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from penstock_client import ArgumentError, AsyncClient, BatchError, Client, ConnectError, Progress, Retries
from penstock_client.batches import BatchResult, Source, put_together
from penstock_client.lines import LINES_BYTES_MAX
from penstock_client.problems import InvalidInputError, ModelError, ModelNotFoundError
from tests.sdk.asking import Ask
from tests.serving import Server

ROWS = [[float(n), 1.0, 2.0, 3.0] for n in range(250)]


def answers(rows: list[list[float]]) -> list[list[float]]:
    return [[2 * value + 1 for value in row] for row in rows]


@pytest.mark.parametrize("encoding", ["auto", "json", "msgpack"])
@pytest.mark.parametrize(("chunk_rows", "concurrency"), [(1024, 4), (64, 4), (7, 1), (250, 2)])
def test_lists_of_rows(ask: Ask, encoding: str, chunk_rows: int, concurrency: int) -> None:
    result = ask("predict_batch", "affine", ROWS, encoding=encoding, chunk_rows=chunk_rows, concurrency=concurrency)
    assert result.outputs == {"y": answers(ROWS)}
    assert (len(result), result.versions, result.errors) == (250, ("1",), {})
    assert result.raise_for_errors() is result
    assert result[17] == {"y": answers(ROWS)[17]}
    with pytest.raises(IndexError):
        result[250]


@pytest.mark.parametrize("chunk_rows", [1024, 64])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int16"])
def test_arrays(ask: Ask, chunk_rows: int, dtype: str) -> None:
    rows = np.array(ROWS, dtype)
    for given in (rows, {"x": rows}, rows[:, ::-1][:, ::-1]):
        result = ask("predict_batch", "affine", given, chunk_rows=chunk_rows)
        assert result.outputs["y"].dtype == np.float32
        assert result.outputs["y"].tolist() == answers(ROWS)


def test_named_arrays_and_named_rows(ask: Ask) -> None:
    a, b = np.arange(60.0).reshape(10, 2, 3), np.arange(50).reshape(10, 5)
    columns = ask("predict_batch", "pair", {"a": a, "b": b}, chunk_rows=4).outputs
    assert columns["scaled"].tolist() == (3 * a).tolist()
    assert columns["total"].tolist() == b.sum(axis=1).tolist()
    rows = [{"a": a[n].tolist(), "b": b[n].tolist()} for n in range(10)]
    assert ask("predict_batch", "pair", rows, chunk_rows=4).outputs["total"] == b.sum(axis=1).tolist()


@pytest.mark.parametrize("kind", ["list", "array"])
def test_a_row_that_fails_fails_alone(ask: Ask, kind: str) -> None:
    rows = [[-1.0 if n in (3, 40) else 1.0, 0.0, 0.0, 0.0] for n in range(50)]
    result = ask("predict_batch", "echo", rows if kind == "list" else np.array(rows), chunk_rows=16)
    assert sorted(result.errors) == [3, 40]
    assert isinstance(result.errors[40], ModelError)
    assert result.errors[40].request_id
    assert "negative" in str(result.errors[40])
    if kind == "list":
        assert result.outputs["y"][3] is None
    else:
        assert math.isnan(result.outputs["y"][3][0])
    assert [row is None for row in result] == [n in (3, 40) for n in range(50)]
    with pytest.raises(ModelError):
        result[3]
    with pytest.raises(BatchError, match="2 of 50 rows failed; row 3") as caught:
        result.raise_for_errors()
    assert caught.value.result is result


def test_a_row_that_does_not_fit_fails_alone(ask: Ask) -> None:
    result = ask("predict_batch", "affine", [[1, 2, 3, 4], [1, 2], [1, 2, 3, "x"]])
    assert [type(error) for error in result.errors.values()] == [InvalidInputError, InvalidInputError]
    assert result[0] == {"y": [3.0, 5.0, 7.0, 9.0]}


def test_what_every_row_would_meet_is_raised(ask: Ask) -> None:
    with pytest.raises(ModelNotFoundError):
        ask("predict_batch", "nope", ROWS)
    with pytest.raises(InvalidInputError):
        ask("predict_batch", "affine", np.ones((5, 3)))
    with pytest.raises(ArgumentError, match="different numbers"):
        ask("predict_batch", "pair", {"a": np.ones((5, 2, 3)), "b": np.ones((4, 5), int)})
    with pytest.raises(ArgumentError):
        ask("predict_batch", "affine", ROWS, chunk_rows=0)
    with pytest.raises(ArgumentError):
        ask("predict_batch", "affine", ROWS, concurrency=0)
    with pytest.raises(ArgumentError):
        ask("predict_batch", "affine", {"x": [[1, 2, 3, 4]]})


def test_no_rows(ask: Ask) -> None:
    for nothing in ([], np.empty((0, 4)), pd.DataFrame()):
        result = ask("predict_batch", "affine", nothing)
        assert (len(result), result.outputs, result.errors) == (0, {}, {})


@pytest.mark.parametrize("total", [250, None], ids=["counted", "a generator"])
def test_progress(ask: Ask, total: int | None) -> None:
    seen: list[Progress] = []
    ask("predict_batch", "affine", ROWS if total else (row for row in ROWS), chunk_rows=100, progress=seen.append)
    assert [one.rows for one in seen] == [100, 200, 250]
    assert {one.total for one in seen} == {total}
    assert seen[-1].rate > 0
    assert seen[-1].left_s == (0.0 if total else None)


def test_a_generator_is_read_as_it_is_needed(server: Server) -> None:
    taken = 0

    def rows() -> Iterator[list[float]]:
        nonlocal taken
        while True:
            taken += 1
            yield [float(taken), 0, 0, 0]

    with Client(server.url) as client:
        parts = client.iter_batch("affine", rows(), chunk_rows=10, concurrency=3)
        first = next(parts)
        assert (first.first, len(first)) == (0, 10)
        second = next(parts)
        assert second[10] == {"y": [23.0, 1.0, 1.0, 1.0]}
        assert taken <= 10 * 5


def test_a_generator_in_asyncio(server: Server) -> None:
    async def main() -> list[int]:
        async with AsyncClient(server.url) as client:
            firsts = []
            async for part in client.iter_batch("affine", ([float(n), 0, 0, 0] for n in range(10**9)), chunk_rows=10):
                firsts.append(part.first)
                if len(firsts) == 5:
                    break
            return firsts

    assert asyncio.run(main()) == [0, 10, 20, 30, 40]


def test_data_frames(ask: Ask) -> None:
    frame = pd.DataFrame(ROWS, columns=["a", "b", "c", "d"])
    result = ask("predict_batch", "affine", frame, chunk_rows=100)
    assert result.outputs["y"].tolist() == answers(ROWS)
    assert [list(row) for row in result.to_pandas()["y"]] == answers(ROWS)
    assert ask(
        "predict_batch", "affine", frame.rename(columns=dict(zip("abcd", ["x.3", "x.2", "x.1", "x.0"], strict=True)))
    ).outputs["y"].tolist() == [row[::-1] for row in answers(ROWS)]
    with pytest.raises(ArgumentError, match="no input of affine"):
        ask("predict_batch", "affine", frame.rename(columns={"a": "x.0", "b": "x.1", "c": "x.2"}).assign(**{"x.3": 0}))
    with pytest.raises(ArgumentError, match="two columns of one name"):
        ask("predict_batch", "affine", frame.rename(columns={"a": "b"}))
    with pytest.raises(ArgumentError, match=r"no column 'x\.1'"):
        ask("predict_batch", "affine", frame.rename(columns={"a": "x.0"}))


def test_arrow(ask: Ask) -> None:
    a = pa.array([[1.0] * 6, [2.0] * 6], pa.list_(pa.float64(), 6))
    nested = pa.FixedSizeListArray.from_arrays(pa.FixedSizeListArray.from_arrays(a.flatten(), 3), 2)
    b = pa.FixedSizeListArray.from_arrays(pa.array(range(10)), 5)
    table = pa.table({"a": nested, "b": b})
    for given in (table, table.to_batches()[0], pa.concat_tables([table.slice(0, 1), table.slice(1)])):
        result = ask("predict_batch", "pair", given)
        assert result.outputs["total"].tolist() == [10, 35]
        assert result.outputs["scaled"].tolist() == [[[3.0] * 3] * 2, [[6.0] * 3] * 2]
    answer = result.to_arrow()
    assert answer.column("total").to_pylist() == [10, 35]
    assert answer.column("scaled").to_pylist()[1] == [[6.0] * 3] * 2


def test_errors_in_tables(ask: Ask) -> None:
    result = ask("predict_batch", "echo", np.float32([[1, 0, 0, 0], [-1, 0, 0, 0]]))
    assert list(result.to_pandas()["error"].notna()) == [False, True]
    assert [error is not None for error in result.to_arrow().column("error").to_pylist()] == [False, True]


def test_more_than_the_server_takes_at_a_time(ask: Ask) -> None:
    rows = np.zeros((70_000, 4), np.float32)
    rows[:, 0] = np.arange(70_000)
    result = ask("predict_batch", "affine", rows, chunk_rows=70_000, concurrency=1)
    assert not result.errors
    assert result.outputs["y"][:, 0].tolist() == (2 * rows[:, 0] + 1).tolist()


def test_a_server_that_goes_away_leaves_what_was_answered(model_folder: Path, tmp_path: Path) -> None:
    server = Server.start([f"affine={model_folder / 'affine.onnx'}"], tmp_path)
    stopped = False

    def stop(progress: Progress) -> None:
        nonlocal stopped
        if not stopped:
            stopped = True
            server.stop()

    with Client(server.url, retries=Retries(attempts_max=2, backoff_s=0.01)) as client:
        result = client.predict_batch("affine", ROWS, chunk_rows=100, concurrency=1, progress=stop)
        assert result.outputs["y"][:100] == answers(ROWS)[:100]
        assert sorted(result.errors) == list(range(100, 250))
        assert all(isinstance(error, ConnectError) for error in result.errors.values())
        assert {error.code for error in result.errors.values()} == {"connect_failed"}
        with pytest.raises(BatchError) as caught:
            result.raise_for_errors()
        assert caught.value.code == "rows_failed"
        with pytest.raises(ConnectError):
            client.predict_batch("affine", ROWS)


def test_large_rows_make_small_chunks() -> None:
    source = Source(np.zeros((100, 1000, 1000), np.uint8), "auto", 1024)
    assert [chunk.rows for chunk in source.chunks()] == [4] * 25
    assert [chunk.rows for chunk in Source(np.zeros((3, 5_000_000), np.uint8), "auto", 1024).chunks()] == [1, 1, 1]


def test_lines(ask: Ask) -> None:
    lines = b"[1,2,3,4]\n[1,2]\n" + b"[5,6,7,8]\n" * 3
    found = [json.loads(line) for line in ask("predict_lines", "affine", lines).splitlines()]
    assert found[0] == {"outputs": {"y": [3.0, 5.0, 7.0, 9.0]}}
    assert (found[1]["error"]["row"], found[1]["error"]["code"]) == (1, "invalid_input")
    header = b"a,b,c,d\n"
    assert ask("predict_lines", "affine", header + b"1,2,3,4\n", form="csv") == (
        b"y.0,y.1,y.2,y.3,error\n3.0,5.0,7.0,9.0,\n"
    )
    assert json.loads(ask("predict_lines", "affine", header + b"1,2,3,4", form="csv", answer="ndjson")) == found[0]


def test_as_many_lines_as_the_server_reads_ahead(ask: Ask) -> None:
    # The answers are longer than what the sockets hold, and nobody reads them before all lines are sent.
    line = b"[0.123456,0.123456,0.123456,0.123456]\n"
    lines = line * (LINES_BYTES_MAX // len(line))
    assert ask("predict_lines", "affine", lines).count(b'{"outputs":') == len(lines) // len(line)
    assert ask("predict_lines", "affine", b"[" + b" " * LINES_BYTES_MAX + b"1,2,3,4]\n").startswith(b'{"outputs":')


def test_lines_that_are_not_sent(ask: Ask) -> None:
    with pytest.raises(ArgumentError, match="or a single line"):
        ask("predict_lines", "affine", b"[1,2,3,4]\n" * 60_000)
    with pytest.raises(ArgumentError, match="lines are ndjson or csv"):
        ask("predict_lines", "affine", b"[1,2,3,4]\n", form="parquet")
    with pytest.raises(ModelNotFoundError):
        ask("predict_lines", "nope", b"[1,2,3,4]\n")


def test_chunks_whose_outputs_do_not_fit_together_are_no_result() -> None:
    outputs = [np.zeros((2, width), np.float32) for width in (3, 4)]
    parts = [BatchResult("m", ("1",), 2 * at, 2, {"y": array}, {}) for at, array in enumerate(outputs)]
    with pytest.raises(ArgumentError, match=r"outputs\.y has not the same shape and dtype in all chunks"):
        put_together("m", parts)


SILENT = """
import sys
from penstock_client import Client

rows = ([float(number)] for number in range(100))
Client(sys.argv[1], timeout_s=None).predict_batch("m", rows, chunk_rows=1, concurrency=3)
"""


def test_nobody_waits_for_what_ctrl_c_left_behind() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}"
        program = subprocess.Popen([sys.executable, "-c", SILENT, url], stderr=subprocess.PIPE)
        try:
            asked = [silent.accept()[0] for _ in range(3)]
            assert all(one.recv(1) for one in asked)
            program.send_signal(signal.SIGINT)
            _, said = program.communicate(timeout=300)
        finally:
            program.kill()
            for one in asked:
                one.close()
    assert program.returncode == -signal.SIGINT
    assert said.rstrip().endswith(b"KeyboardInterrupt")
