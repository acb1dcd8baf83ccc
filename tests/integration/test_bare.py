"""A data plane without zlib, libzstd, nghttp2 and OpenSSL: it serves, and says what it was built without."""

import gzip
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from bench.wire import Wire
from penstock.native import _dataplane
from tests.serving import Server

pytestmark = pytest.mark.bare

BODY = b'{"model":"affine","inputs":[1,2,3,4]}'
JSON = {"Content-Type": "application/json"}


def test_nothing_is_built() -> None:
    assert not _dataplane.has_http2()
    assert not _dataplane.has_tls()
    assert _dataplane.codings_taken() == "identity"


def test_it_answers(wire: Wire) -> None:
    reply = wire.ask("POST", "/predict", BODY, {**JSON, "Accept-Encoding": "gzip, zstd"})
    assert (reply.status, reply.json()["outputs"]["y"]) == (200, [3, 5, 7, 9])
    assert "content-encoding" not in reply.headers


@pytest.mark.parametrize("coding", ["gzip", "zstd"])
def test_compressed_body_is_refused(wire: Wire, coding: str) -> None:
    reply = wire.ask("POST", "/predict", gzip.compress(BODY), {**JSON, "Content-Encoding": coding})
    assert (reply.status, reply.json()["code"]) == (415, "unsupported_content_encoding")
    assert reply.headers["accept-encoding"] == "identity"


def test_http_2_is_refused(server: Server) -> None:
    with socket.create_connection((server.host, server.port), timeout=300) as connection:
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        assert connection.makefile("rb").readline() == b"HTTP/1.1 505 HTTP Version Not Supported\r\n"


@pytest.mark.parametrize(
    ("settings", "missing"),
    [
        ({"PENSTOCK_TLS_CERT": "c.pem", "PENSTOCK_TLS_KEY": "k.pem"}, "TLS"),
        ({"PENSTOCK_GRPC_PORT": "0"}, "HTTP/2"),
        ({"PENSTOCK_COMPRESS": "true"}, "zlib and zstd"),
    ],
)
def test_what_is_not_there_is_not_promised(tmp_path: Path, settings: dict[str, str], missing: str) -> None:
    command = [sys.executable, "-m", "penstock", "serve", "--port", "0"]
    environment = {**os.environ, **settings}
    done = subprocess.run(
        command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert done.returncode != 0
    assert f"this Penstock was built without {missing}: install" in done.stderr
    assert "Traceback" not in done.stderr
