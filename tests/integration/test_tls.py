"""Encrypted connections: HTTP/1.1 and HTTP/2 by curl and by Python, and certificates that are replaced meanwhile."""

import http.client
import json
import os
import signal
import socket
import ssl
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from penstock.native._dataplane import has_http2, has_tls
from tests.models import affine
from tests.serving import READY_SECONDS, STOP_SECONDS

pytestmark = pytest.mark.skipif(not has_tls(), reason="Penstock was built without TLS")

DEADLINE_SECONDS = 300.0


def write_certificate(folder: Path, name: str) -> None:
    """Make a key and a certificate of its own; the files replace those before."""
    subprocess.run(
        [
            *("openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"),
            *("-days", "1", "-subj", f"/CN={name}", "-addext", f"subjectAltName=DNS:{name},IP:127.0.0.1"),
            *("-keyout", "key.new", "-out", "cert.new"),
        ],
        cwd=folder,
        check=True,
        capture_output=True,
    )
    for kind in ("key", "cert"):
        (folder / f"{kind}.new").rename(folder / f"{kind}.pem")


class TlsServer:
    """`penstock serve` with a certificate."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        write_certificate(folder, "first.test")
        ready, announce = os.pipe()
        self.log = folder / "server.log"
        model = affine(folder)
        command = ["penstock", "serve", str(model), "--port", "0", "--data-dir", str(folder / "data")]
        command += ["--tls-cert", str(folder / "cert.pem"), "--tls-key", str(folder / "key.pem")]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "penstock", *command[1:]],
                stdout=log,
                stderr=log,
                pass_fds=[announce],
                env=os.environ | {"PENSTOCK_READY_FD": str(announce)},
            )
        os.close(announce)
        with os.fdopen(ready) as lines:
            line = lines.readline()
        assert line, self.log.read_text()
        self.port = int(json.loads(line)["port"])

    def stop(self) -> None:
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(STOP_SECONDS) == 0, self.log.read_text()

    def context(self) -> ssl.SSLContext:
        return ssl.create_default_context(cafile=str(self.folder / "cert.pem"))

    def certificate(self) -> bytes:
        """Return what the server shows to a new connection."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
        with (
            socket.create_connection(("127.0.0.1", self.port), READY_SECONDS) as plain,
            context.wrap_socket(plain) as wrapped,
        ):
            shown = wrapped.getpeercert(binary_form=True)
        assert shown is not None
        return shown


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[TlsServer]:
    running = TlsServer(tmp_path_factory.mktemp("tls"))
    yield running
    running.stop()


def predict(connection: http.client.HTTPSConnection, first: float) -> None:
    body = json.dumps({"inputs": [first, 0, 0, 0]})
    connection.request("POST", "/predict", body, {"Content-Type": "application/json"})
    reply = connection.getresponse()
    assert reply.status == 200
    assert json.loads(reply.read())["outputs"]["y"] == [2 * first + 1, 1, 1, 1]


def test_requests_on_one_connection(server: TlsServer) -> None:
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=300, context=server.context())
    for first in range(50):
        predict(connection, float(first))
    connection.close()


def test_large_body_both_ways(server: TlsServer) -> None:
    connection = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=300, context=server.context())
    rows = 20_000
    connection.request(
        "POST",
        "/predict?model=affine",
        bytes(16 * rows),
        {"Content-Type": "application/octet-stream", "Accept": "application/octet-stream"},
    )
    reply = connection.getresponse()
    body = reply.read()
    assert reply.status == 200, body[:300]
    assert body == b"\0\0\x80\x3f" * 4 * rows
    connection.close()


def curl(server: TlsServer, *arguments: str) -> str:
    done = subprocess.run(
        [
            *("curl", "-sS", "--cacert", "cert.pem", "-w", "%{http_version} %{http_code}", "-o", "/dev/null"),
            *arguments,
            f"https://127.0.0.1:{server.port}/health/ready",
        ],
        cwd=server.folder,
        check=True,
        capture_output=True,
        text=True,
    )
    return done.stdout


def test_curl(server: TlsServer) -> None:
    assert curl(server, "--http1.1") == "1.1 200"
    assert curl(server, "--http2") == ("2 200" if has_http2() else "1.1 200")
    assert curl(server, "--tlsv1.3").endswith("200")
    with pytest.raises(subprocess.CalledProcessError):
        curl(server, "--tls-max", "1.1")


def test_bytes_that_are_no_handshake(server: TlsServer) -> None:
    with socket.create_connection(("127.0.0.1", server.port), READY_SECONDS) as plain:
        plain.sendall(b"GET /health/live HTTP/1.1\r\nHost: a\r\n\r\n")
        plain.settimeout(READY_SECONDS)
        received = b""
        with suppress(ConnectionResetError):
            while piece := plain.recv(4096):
                received += piece
        assert b"HTTP" not in received  # an alert at most


def await_certificate(server: TlsServer, before: bytes) -> bytes:
    deadline = time.monotonic() + DEADLINE_SECONDS
    while (shown := server.certificate()) == before:
        assert time.monotonic() < deadline, server.log.read_text()
    return shown


def test_certificate_is_replaced(server: TlsServer) -> None:
    first = server.certificate()
    kept = http.client.HTTPSConnection("127.0.0.1", server.port, timeout=300, context=server.context())
    predict(kept, 1.0)
    write_certificate(server.folder, "second.test")
    server.process.send_signal(signal.SIGHUP)
    second = await_certificate(server, first)
    predict(kept, 2.0)  # on the certificate it began with
    kept.close()
    # Without a signal the files are looked at now and then; a wrong one changes nothing.
    (server.folder / "cert.pem").write_text("no certificate")
    server.process.send_signal(signal.SIGHUP)
    deadline = time.monotonic() + DEADLINE_SECONDS
    while "the new certificate is not taken" not in server.log.read_text():
        assert time.monotonic() < deadline
    assert server.certificate() == second
    write_certificate(server.folder, "third.test")
    await_certificate(server, second)


def test_certificate_of_another_key(tmp_path: Path) -> None:
    write_certificate(tmp_path, "one.test")
    (tmp_path / "cert.pem").rename(tmp_path / "one.pem")
    write_certificate(tmp_path, "two.test")
    command = [sys.executable, "-m", "penstock", "serve", str(affine(tmp_path)), "--port", "0"]
    command += ["--tls-cert", str(tmp_path / "one.pem"), "--tls-key", str(tmp_path / "key.pem")]
    done = subprocess.run(command, capture_output=True, text=True, timeout=READY_SECONDS, check=False)
    assert done.returncode == 1
    assert "key.pem is no private key in PEM without a passphrase, or not that of the certificate" in done.stderr
