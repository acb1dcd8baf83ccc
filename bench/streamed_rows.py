"""Streams of rows to /predict/batch: rows a second, the server's CPU time for each, and its memory meanwhile."""

from __future__ import annotations

import io
import socket
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from bench.scenario import load_scenario, prepare
from bench.server import Penstock, PenstockTarget, Settings
from penstock.load.accounting import memory_of, snapshot, usage

__all__ = ["STREAMS", "StreamedRowsResult", "run_streamed_rows"]

WIDTH = 32
BLOCK_ROWS = 10_000
CHUNK_BYTES = 256 * 1024
RECEIVE_BYTES = 1 << 20
TIMEOUT_S = 600.0
NDJSON = "application/x-ndjson"
CSV = "text/csv"
ARROW = "application/vnd.apache.arrow.stream"
PARQUET = "application/vnd.apache.parquet"
# Name: what is sent, and what the answer is.
STREAMS = {
    "ndjson": (NDJSON, NDJSON),
    "csv": (CSV, CSV),
    "arrow": (ARROW, ARROW),
    "arrow-ndjson": (ARROW, NDJSON),
    "parquet": (PARQUET, ARROW),
}


@dataclass(frozen=True, slots=True)
class StreamedRowsResult:
    """One format. CPU time is of the whole server, jobs and workers included; memory is that of the main process."""

    name: str
    rows_per_second: float
    server_ns: float
    grown_bytes: int

    @property
    def rows_per_core_second(self) -> float:
        """Rows for each second of CPU time of the server."""
        return 1e9 / self.server_ns


def run_streamed_rows(folder: Path, names: list[str], rows: int, batch_size: int) -> Iterator[StreamedRowsResult]:
    """Send streams of so many W1 rows, one after the other; RuntimeError unless every row has its outputs."""
    prepared = prepare(load_scenario("w1"), folder / "models")
    (name, path), *_ = prepared.models.items()
    settings = Settings(models={name: {"max_batch_size": batch_size}})
    values = np.random.default_rng(1).standard_normal((BLOCK_ROWS, WIDTH), dtype=np.float32)
    with PenstockTarget(settings=settings).serve({name: path}, folder / "server") as server:
        for stream in names:
            _stream(server, name, stream, values, 2 * BLOCK_ROWS)
            yield _stream(server, name, stream, values, rows)


def _stream(server: Penstock, model: str, name: str, values: np.ndarray, rows: int) -> StreamedRowsResult:
    sent, accepted = STREAMS[name]
    body = _body(sent, values, rows)
    # What a format costs its sender is the sender's: all of it is made before.
    pieces = list(body)
    before, memory = snapshot(server.pid), memory_of(server.pid).rss
    with socket.create_connection(("127.0.0.1", server.port), TIMEOUT_S) as connection:
        head = (
            f"POST /predict/batch?model={model} HTTP/1.1\r\nHost: bench\r\nContent-Type: {sent}\r\n"
            f"Accept: {accepted}\r\nConnection: close\r\nTransfer-Encoding: chunked\r\n\r\n"
        )
        connection.sendall(head.encode())
        sender = threading.Thread(target=_send, args=(connection, pieces))
        sender.start()
        answer = io.BufferedReader(socket.SocketIO(connection, "rb"), RECEIVE_BYTES)
        status = answer.readline()
        while answer.readline() not in (b"\r\n", b""):
            pass
        answered = _rows_of(accepted, _Chunks(answer)) if b" 200 " in status else 0
        grown = memory_of(server.pid).rss - memory
        sender.join()
    if answered != rows:
        raise RuntimeError(f"{name}: {status!r}, {answered} of {rows} rows have outputs")
    # A job that has ended is in the clocks of its parent, once that has waited for it.
    total = usage(before, snapshot(server.pid))
    return StreamedRowsResult(name, rows / total.seconds, total.tree.total / rows * 1e9, grown)


def _body(media_type: str, values: np.ndarray, rows: int) -> Iterator[bytes]:
    repeats = max(rows // BLOCK_ROWS, 1)
    if media_type == NDJSON:
        lines = b"".join(orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY) + b"\n" for row in values)
        yield from [lines] * repeats
    elif media_type == CSV:
        # The shortest text of each float32, as in NDJSON.
        lines = b"".join(orjson.dumps(row, option=orjson.OPT_SERIALIZE_NUMPY)[1:-1] + b"\n" for row in values)
        yield ",".join(f"x{index}" for index in range(WIDTH)).encode() + b"\n"
        yield from [lines] * repeats
    else:
        yield from _columns(media_type, values, repeats)


def _columns(media_type: str, values: np.ndarray, repeats: int) -> Iterator[bytes]:
    import pyarrow
    import pyarrow.ipc
    import pyarrow.parquet

    names = [f"x{index}" for index in range(WIDTH)]
    batch = pyarrow.record_batch([pyarrow.array(column) for column in values.T.copy()], names)
    sink = io.BytesIO()
    if media_type == PARQUET:
        pyarrow.parquet.write_table(pyarrow.Table.from_batches([batch] * repeats), sink, row_group_size=65_536)
        yield sink.getvalue()
        return
    with pyarrow.ipc.new_stream(sink, batch.schema) as writer:
        for _ in range(repeats):
            writer.write_batch(batch)
            yield sink.getvalue()
            sink.seek(0)
            sink.truncate()
    yield sink.getvalue()


def _send(connection: socket.socket, pieces: list[bytes]) -> None:
    try:
        for piece in pieces:
            for start in range(0, len(piece), CHUNK_BYTES):
                part = piece[start : start + CHUNK_BYTES]
                connection.sendall(b"%x\r\n%s\r\n" % (len(part), part))
        connection.sendall(b"0\r\n\r\n")
    except OSError:
        pass  # the answer says why


class _Chunks(io.RawIOBase):
    """The body of a reply in chunks."""

    def __init__(self, file: io.BufferedIOBase) -> None:
        self._file = file
        self._left = 0
        self._ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        if not self._left and not self._ended:
            self._left = int(self._file.readline(), 16)
            if not self._left:
                self._ended = True
                self._file.readline()
        data = self._file.read(min(len(buffer), self._left))
        buffer[: len(data)] = data
        self._left -= len(data)
        if not self._left and not self._ended:
            self._file.readline()
        return len(data)


def _rows_of(media_type: str, chunks: _Chunks) -> int:
    """Count the rows that have outputs."""
    if media_type == ARROW:
        import pyarrow.ipc

        with pyarrow.ipc.open_stream(io.BufferedReader(chunks, RECEIVE_BYTES)) as reader:
            return sum(batch.column("error").null_count for batch in reader)
    answered = -1 if media_type == CSV else 0
    reading = io.BufferedReader(chunks, RECEIVE_BYTES)
    while piece := reading.read(RECEIVE_BYTES):
        answered += piece.count(b"\n") - piece.count(b"error") + (piece.count(b",error\n") if media_type == CSV else 0)
    return answered
