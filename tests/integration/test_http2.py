"""HTTP/2 beside HTTP/1.1: the same requests with another client, curl, and the same answers."""

import gzip
import json
import subprocess
from pathlib import Path

import pyarrow
import pyarrow.ipc
import pyarrow.parquet
import pytest

from penstock.native._dataplane import has_http2
from tests.integration.streams import CSV, JSON_LINES, stream
from tests.serving import Server

pytestmark = pytest.mark.skipif(not has_http2(), reason="nghttp2 was not found when the data plane was built")

ROWS = 20_000
SECONDS = 300.0


def ask(server: Server, path: str, body: bytes, folder: Path, *headers: str) -> tuple[str, bytes]:
    """The head and the body of an answer over HTTP/2."""
    (folder / "body").write_bytes(body)
    command = ["curl", "-sS", "--http2-prior-knowledge", "--data-binary", f"@{folder / 'body'}"]
    command += ["-D", "head", "-o", "reply"]
    for header in headers:
        command += ["-H", header]
    subprocess.run([*command, f"{server.url}{path}"], cwd=folder, check=True, timeout=SECONDS)
    return (folder / "head").read_text(), (folder / "reply").read_bytes()


def arrow_rows() -> bytes:
    sink = pyarrow.BufferOutputStream()
    table = pyarrow.table({"x": [[float(row)] * 4 for row in range(100)]})
    with pyarrow.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return bytes(sink.getvalue())


def parquet_rows() -> bytes:
    sink = pyarrow.BufferOutputStream()
    pyarrow.parquet.write_table(pyarrow.table({"x": [[float(row)] * 4 for row in range(100)]}), sink)
    return bytes(sink.getvalue())


BODIES = {
    JSON_LINES: b"".join(b"[%d,0,1,2]\n" % row for row in range(ROWS)),
    CSV: b"a,b,c,d\n" + b"".join(b"%d,0,1,2\n" % row for row in range(ROWS)),
    "application/vnd.apache.arrow.stream": arrow_rows(),
    "application/vnd.apache.parquet": parquet_rows(),
}


@pytest.mark.parametrize("media_type", BODIES)
def test_streamed_batches_are_answered_as_over_http_1(server: Server, tmp_path: Path, media_type: str) -> None:
    body = BODIES[media_type]
    expected = stream(server, media_type, "model=affine", body)
    assert expected.status == 200
    head, answer = ask(server, "/predict/batch?model=affine", body, tmp_path, f"Content-Type: {media_type}")
    assert head.startswith("HTTP/2 200")
    assert f"content-type: {expected.headers['Content-Type']}" in head
    assert answer == expected.content  # type: ignore[attr-defined]


def test_refusals_of_streamed_batches(server: Server, tmp_path: Path) -> None:
    lines = f"Content-Type: {JSON_LINES}"
    head, answer = ask(server, "/predict/batch?model=nobody", BODIES[JSON_LINES], tmp_path, lines)
    assert head.startswith("HTTP/2 404")
    assert json.loads(answer)["code"] == "model_not_found"


def test_compressed_bodies_have_the_limits_of_http_1(server: Server, tmp_path: Path) -> None:
    types = ["Content-Type: application/json", "Content-Encoding: gzip"]
    bomb = gzip.compress(b" " * (64 << 20))
    head, answer = ask(server, "/predict?model=affine", bomb, tmp_path, *types)
    assert head.startswith("HTTP/2 413")
    assert json.loads(answer)["code"] == "body_too_large"
    head, answer = ask(server, "/predict?model=affine", b"{}", tmp_path, types[0], "Content-Encoding: br")
    assert head.startswith("HTTP/2 415")
    assert "accept-encoding:" in head
