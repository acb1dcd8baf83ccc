"""Servers and moments that mean no good: no answer of another call, nothing lost, no memory for a lie."""

import asyncio
import gc
import json
import os
import random
import signal
import socket
import ssl
import warnings
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import FrameType

import psutil
import pytest

from penstock_client import (
    ArgumentError,
    AsyncClient,
    Client,
    ConnectError,
    ConnectionLostError,
    Retries,
    TimedOutError,
)
from penstock_client.messages import BadReply, Reply, ReplyReader
from tests.integration.test_tls import write_certificate
from tests.sdk.asking import Ask
from tests.serving import Server

ROW = [1.0, 2.0, 3.0, 4.0]
ONCE = Retries(attempts_max=1)


def reply(output: object) -> bytes:
    body = json.dumps({"model": "m", "version": "1", "outputs": {"y": output}}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (len(body), body)


def read(data: bytes) -> Reply | None:
    reader, at = ReplyReader(), 0
    while at < len(data):
        view = reader.buffer()
        count = min(len(view), len(data) - at)
        view[:count] = data[at : at + count]
        at += count
        if reader.filled(count):
            return reader.reply
    return None


@contextmanager
def scripted(script: Callable[[socket.socket], None], tls: ssl.SSLContext | None = None) -> Iterator[int]:
    """Give the port of a server that does this with each connection, one after the other."""
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as threads:

        def run() -> None:
            while True:
                try:
                    connection, _ = listening.accept()
                except OSError:
                    return
                try:
                    with tls.wrap_socket(connection, server_side=True) if tls is not None else connection as spoken:
                        script(spoken)
                except OSError:
                    pass

        running = threads.submit(run)
        try:
            yield listening.getsockname()[1]
        finally:
            listening.shutdown(socket.SHUT_RDWR)
            running.result()


def test_what_lies_behind_a_reply_over_tls_is_no_answer(tmp_path: Path) -> None:
    write_certificate(tmp_path, "first.test")
    serving = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    serving.load_cert_chain(tmp_path / "cert.pem", tmp_path / "key.pem")
    first = reply("x" * 40_000)

    def speak(connection: socket.socket) -> None:
        while connection.recv(65536):
            # The end of a reply, and what nobody has asked for, in one record.
            connection.sendall(first[:36_000])
            connection.sendall(first[36_000:] + reply("nobody's"))

    trusting = ssl.create_default_context(cafile=tmp_path / "cert.pem")
    trusting.check_hostname = False
    with (
        scripted(speak, serving) as port,
        Client(f"https://127.0.0.1:{port}", tls=trusting, connections_max=1) as client,
    ):
        assert len(client.predict("m", ROW).output) == 40_000
        # Either from a new connection, or the connection is at its end; never what lay there.
        assert client.predict("m", ROW).output == "x" * 40_000


def test_a_yes_to_half_a_request_is_not_sent_again() -> None:
    acted = 0

    def speak(connection: socket.socket) -> None:
        nonlocal acted
        acted += 1
        connection.recv(1000)
        connection.sendall(reply(1))
        connection.shutdown(socket.SHUT_WR)
        connection.recv(100_000)

    with scripted(speak) as port, Client(f"http://127.0.0.1:{port}") as client:
        with pytest.raises(ConnectionLostError) as caught:
            client.predict("m", "x" * 20_000_000)
        assert caught.value.may_have_run
    assert acted == 1


def test_any_number_of_interim_replies() -> None:
    found = read(b"HTTP/1.1 100 \r\n\r\n" * 5_000 + reply(1))
    assert found is not None
    assert found.status == 200


def test_a_length_that_is_a_lie_takes_no_memory() -> None:
    before = psutil.Process().memory_info().rss
    reader = ReplyReader()
    said = b"HTTP/1.1 200 OK\r\nContent-Length: 4000000000\r\n\r\n"
    reader.buffer()[: len(said)] = said
    assert not reader.filled(len(said))
    assert len(reader.buffer()) == 4_000_000_000
    assert psutil.Process().memory_info().rss - before < 100_000_000


def test_a_large_body_is_the_callers_own() -> None:
    body = bytes(range(256)) * 300_000
    found = read(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    assert found is not None
    assert bytes(found.body) == body
    found.body[0] = 1


def test_a_chunk_larger_than_any_reply_is_refused_before_it_comes() -> None:
    with pytest.raises(BadReply, match="4 GiB"):
        read(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nfffffffffff\r\n")


def test_close_among_other_words() -> None:
    reader = ReplyReader()
    data = b"HTTP/1.1 200 OK\r\nConnection: x, Close\r\nContent-Length: 0\r\n\r\n"
    reader.buffer()[: len(data)] = data
    assert reader.filled(len(data))
    assert not reader.reusable


def test_loops_that_ended_leave_no_sockets(server: Server) -> None:
    client = AsyncClient(server.url)
    asyncio.run(client.predict("affine", ROW))
    before = len(os.listdir("/proc/self/fd"))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)  # asyncio's: nobody has closed the client within its loop
        for _ in range(20):
            asyncio.run(client.predict("affine", ROW))
        gc.collect()
        assert len(os.listdir("/proc/self/fd")) <= before + 4
        asyncio.run(client.close())
        gc.collect()


# A socket that nobody knows any more closes itself, and Python says so.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")
def test_a_permit_survives_what_a_signals_handler_raises(server: Server) -> None:
    class AlarmError(BaseException):
        pass

    def raise_alarm(number: int, frame: FrameType | None) -> None:
        raise AlarmError

    old = signal.signal(signal.SIGALRM, raise_alarm)
    chance = random.Random(5)
    interrupted = 0
    try:
        with Client(server.url, connections_max=1, timeout_s=300) as client:
            for number in range(3_000):
                try:
                    try:
                        if number % 3 == 0:
                            signal.setitimer(signal.ITIMER_REAL, chance.uniform(2e-5, 3e-4))
                        assert client.predict("affine", [number, 0, 0, 0]).output[0] == 2 * number + 1
                    finally:
                        signal.setitimer(signal.ITIMER_REAL, 0)
                except AlarmError:
                    interrupted += 1
            assert client.predict("affine", ROW).output[0] == 3.0
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, old)
        gc.collect()
    assert interrupted > 100


@pytest.mark.parametrize(
    "url",
    [
        "http://" + "a" * 70,
        "http://a..b",
        "http://h/a b",
        "http://h/\u00e9",
        "http://h h:80",
        "http://h/a\x01",
        "http://h#x",
        "unix:/a\0b",
    ],
)
def test_addresses_that_would_break_a_request(url: str) -> None:
    with pytest.raises(ArgumentError):
        Client(url)


@pytest.mark.parametrize("connections_max", [0, -1])
def test_no_connections_are_none(connections_max: int) -> None:
    for kind in (Client, AsyncClient):
        with pytest.raises(ArgumentError, match="connections_max"):
            kind("http://127.0.0.1:1", connections_max=connections_max)


@pytest.mark.parametrize("timeout_s", [1e10, 1e300, 4_294_967.8])
def test_a_time_without_end(ask: Ask, timeout_s: float) -> None:
    assert ask("predict", "affine", ROW, timeout_s=timeout_s).output[0] == 3.0
    assert ask("predict", "affine", ROW, client={"timeout_s": timeout_s}).output[0] == 3.0


def test_tls_to_a_port_without(ask: Ask, server: Server) -> None:
    url = server.url.replace("http:", "https:")
    with pytest.raises(ConnectError, match="http://"):
        ask("predict", "affine", ROW, client={"url": url, "retries": ONCE})


def test_a_cancelled_task_ends_while_it_connects() -> None:
    async def main(port: int) -> None:
        async with AsyncClient(f"http://127.0.0.1:{port}") as client:
            for turns in range(12):
                task = asyncio.ensure_future(client.predict("m", ROW))
                for _ in range(turns):
                    await asyncio.sleep(0)
                task.cancel()
                with pytest.raises(asyncio.CancelledError):
                    await task

    with socket.create_server(("127.0.0.1", 0), backlog=64) as listening:
        asyncio.run(main(listening.getsockname()[1]))


def test_silence_while_connecting_over_tls(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"https://127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(TimedOutError) as caught:
            ask("predict", "m", ROW, timeout_s=0.3, client={"url": url})
    assert not caught.value.may_have_run
