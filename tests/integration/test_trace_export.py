"""How traces are sent: what a collector is asked, and asked again."""

import gzip
import logging
import socket
import ssl
import subprocess
import threading
import zlib
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from penstock.telemetry.environment import destination_of
from penstock.telemetry.export import Collector

BODY = b"spans" * 1000
Answer = tuple[int, dict[str, str]]


class Asked:
    """What a server was asked; it answers as it is told, and then 200."""

    def __init__(self, *answers: Answer) -> None:
        self.answers = list(answers)
        self.bodies: list[bytes] = []
        self.headers: list[dict[str, str]] = []
        self.paths: list[str] = []
        self.connections: set[object] = set()
        self.closes_after_each = False
        self.url = ""

    def collector(self, **variables: str) -> closing[Collector]:
        return collector(self.url, **variables)


def collector(url: str, **variables: str) -> closing[Collector]:
    environment = {f"OTEL_EXPORTER_OTLP_{name}": value for name, value in variables.items()}
    return closing(Collector(destination_of(url, environment)))


@contextmanager
def asked(*answers: Answer, tls: ssl.SSLContext | None = None) -> Iterator[Asked]:
    state = Asked(*answers)

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            state.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
            state.headers.append({name.lower(): value for name, value in self.headers.items()})
            state.paths.append(self.path)
            state.connections.add(self.client_address)
            status, fields = state.answers.pop(0) if state.answers else (200, {})
            self.send_response(status)
            for name, value in fields.items():
                self.send_header(name, value)
            self.send_header("Content-Length", "2")
            self.end_headers()
            self.wfile.write(b"ok")
            if state.closes_after_each:  # without a word before, as one does that was idle for too long
                self.close_connection = True

        def log_message(self, format: str, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls is not None:
        server.socket = tls.wrap_socket(server.socket, server_side=True)
    state.url = f"{'http' if tls is None else 'https'}://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield state
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    """A certificate for this machine, and its key."""
    folder = tmp_path_factory.mktemp("identity")
    certificate, key = str(folder / "certificate.pem"), str(folder / "key.pem")
    made = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
    made += ["-subj", "/CN=collector", "-addext", "subjectAltName=IP:127.0.0.1", "-days", "2"]
    subprocess.run([*made, "-out", certificate, "-keyout", key], check=True, capture_output=True)
    return certificate, key


def test_certificates_are_checked_and_shown(identity: tuple[str, str]) -> None:
    certificate, key = identity
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH, cafile=certificate)
    tls.verify_mode = ssl.CERT_REQUIRED
    tls.load_cert_chain(*identity)
    ours = {"CERTIFICATE": certificate, "CLIENT_CERTIFICATE": certificate, "CLIENT_KEY": key}
    with asked(tls=tls) as server:
        with server.collector(**ours) as sender:
            assert sender.send(BODY)
        with server.collector(TIMEOUT="0.1") as stranger:  # to us
            assert not stranger.send(BODY)
    assert server.bodies == [BODY]
    with pytest.raises(OSError):
        collector("https://127.0.0.1:1", CERTIFICATE=key + ".not.there")


def test_one_connection_serves_all() -> None:
    with asked() as server, server.collector(HEADERS="api-key=secret") as sender:
        assert all(sender.send(BODY) for _ in range(3))
    assert server.bodies == [BODY] * 3 and len(server.connections) == 1
    assert server.paths[0] == "/v1/traces"
    first = server.headers[0]
    assert first["content-type"] == "application/x-protobuf" and first["api-key"] == "secret"
    assert first["user-agent"].startswith("penstock/") and "content-encoding" not in first


@pytest.mark.parametrize(("name", "read"), [("gzip", gzip.decompress), ("deflate", zlib.decompress)])
def test_bodies_are_compressed_when_they_shall_be(name: str, read: object) -> None:
    with asked() as server, server.collector(COMPRESSION=name) as sender:
        assert sender.send(BODY)
    assert server.headers[0]["content-encoding"] == name and callable(read)
    assert read(server.bodies[0]) == BODY and len(server.bodies[0]) < len(BODY) / 10


@pytest.mark.parametrize("status", [429, 502, 503, 504])
def test_what_will_pass_is_tried_again(status: int) -> None:
    busy = (status, {"Retry-After": "0"})
    with asked(busy, busy) as server, server.collector() as sender:
        assert sender.send(BODY)
    assert server.bodies == [BODY] * 3


@pytest.mark.parametrize("status", [400, 401, 404, 413, 500, 501])
def test_what_will_not_is_given_up(status: int, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    with asked((status, {}), (status, {})) as server, server.collector() as sender:
        assert not sender.send(BODY) and not sender.send(BODY)
        assert len(server.bodies) == 2
        assert [str(status) in record.getMessage() for record in caplog.records] == [True]  # said once
        assert sender.send(BODY)
        assert "takes them again" in caplog.records[-1].getMessage()


@pytest.mark.parametrize("retry_after", ["3600", "Sat, 21 Nov 2099 00:00:00 GMT"])
def test_nobody_waits_beyond_the_time_out(retry_after: str) -> None:
    with asked((503, {"Retry-After": retry_after})) as server, server.collector(TIMEOUT="300") as sender:
        assert not sender.send(BODY)
    assert len(server.bodies) == 1


def test_a_connection_that_was_closed_meanwhile_is_made_anew() -> None:
    with asked() as server, server.collector() as sender:
        server.closes_after_each = True
        assert all(sender.send(BODY) for _ in range(5))
    assert len(server.bodies) >= 5 and len(server.connections) == 5


def test_a_collector_that_is_away_is_no_exception() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
    with collector(url, TIMEOUT="0.1") as sender:
        assert not sender.send(BODY)


def test_proxies_are_used_as_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    with asked() as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("//", "//user:word@"))
        monkeypatch.setenv("no_proxy", "")
        with collector("http://collector.invalid:4318") as sender:
            assert sender.send(BODY)
        assert proxy.paths == ["http://collector.invalid:4318/v1/traces"]
        assert proxy.headers[0]["host"] == "collector.invalid:4318"
        assert proxy.headers[0]["proxy-authorization"] == "Basic dXNlcjp3b3Jk"
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        with proxy.collector() as sender:
            assert sender.send(BODY)
        assert proxy.paths[-1] == "/v1/traces"


@pytest.mark.parametrize("url", ["localhost:4318", "ftp://collector", "http://"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(ValueError):
        Collector(destination_of(url, {}))
