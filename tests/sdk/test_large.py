"""Large requests and answers, and servers that refuse them before they are there."""

import asyncio
import json
import socket
import struct
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest

from penstock_client import AsyncClient, Client, ConnectionLostError, Retries, TimedOutError
from penstock_client.problems import BodyTooLargeError
from tests.sdk.asking import Ask, async_asker, sync_asker
from tests.serving import Server

ECHO = """
from penstock.worker import Tensor


class Model:
    inputs = {"x": Tensor("float32", (1024, 1024))}
    outputs = {"y": Tensor("float32", (1024, 1024))}

    def load(self):
        pass

    def predict(self, batch):
        return {"y": batch["x"]}
"""
LARGE = {"inputs": "x" * 20_000_000}


@pytest.fixture(scope="module")
def echo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("large")
    (folder / "large.py").write_text(ECHO)
    server = Server.start([f"large={folder / 'large.py'}"], folder)
    yield server
    server.stop()


def test_megabytes_there_and_back(echo: Server) -> None:
    rows = np.random.default_rng(2).random((3, 1024, 1024), np.float32)
    for ask in (sync_asker(echo.url), async_asker(echo.url)):
        for row in rows:
            outputs = ask("predict", "large", row).outputs
            assert (outputs["y"] == row).all()
            # A view of what the socket wrote: no copy was made.
            assert outputs["y"].base is not None
            assert outputs["y"].flags.aligned
            assert outputs["y"].flags.writeable
        assert (ask("predict_batch", "large", rows).outputs["y"] == rows).all()


def test_large_answers_in_json(echo: Server) -> None:
    row = np.arange(1024 * 1024, dtype=np.float32).reshape(1024, 1024)
    assert sync_asker(echo.url)("predict", "large", row, encoding="json").outputs["y"] == row.tolist()


@contextmanager
def refusing(*, read: int, reset: bool, answer: bool) -> Iterator[str]:
    """Give the URL of a server that reads so many bytes of a request, refuses it, or does not, and closes or resets."""
    problem = json.dumps({"code": "body_too_large", "detail": "too much"}).encode()
    fields = b"Content-Type: application/problem+json\r\nConnection: close\r\nContent-Length: %d" % len(problem)
    reply = b"HTTP/1.1 413 X\r\n%b\r\n\r\n%b" % (fields, problem)
    with socket.create_server(("127.0.0.1", 0)) as listening, ThreadPoolExecutor(1) as threads:

        def refuse() -> None:
            connection, _ = listening.accept()
            with connection:
                left = read
                while left > 0:
                    left -= len(connection.recv(min(left, 65536)))
                if answer:
                    connection.sendall(reply)
                    if not reset:
                        connection.shutdown(socket.SHUT_WR)
                        while connection.recv(65536):
                            pass
                if reset:
                    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

        refused = threads.submit(refuse)
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
        refused.result()


def test_a_refusal_before_all_is_sent(ask: Ask) -> None:
    with refusing(read=100_000, reset=False, answer=True) as url, pytest.raises(BodyTooLargeError, match="too much"):
        ask("predict", "m", LARGE, client={"url": url})


def test_a_connection_that_breaks_while_it_is_sent_to() -> None:
    # One attempt: the next would find nobody there.
    once = Retries(attempts_max=1)
    with refusing(read=100_000, reset=True, answer=False) as url, Client(url, retries=once) as client:
        with pytest.raises(ConnectionLostError) as caught:
            client.predict("m", LARGE)
        assert not caught.value.may_have_run  # the length says that it is not whole

    async def main(url: str) -> None:
        async with AsyncClient(url, retries=once) as client:
            await client.predict("m", LARGE)

    with refusing(read=100_000, reset=True, answer=False) as url, pytest.raises(ConnectionLostError):
        asyncio.run(main(url))


def test_a_server_that_does_not_read(ask: Ask) -> None:
    with socket.create_server(("127.0.0.1", 0)) as listening:
        url = f"http://127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(TimedOutError):
            ask("predict", "m", LARGE, timeout_s=0.3, client={"url": url})


def test_an_upload_is_sent_from_its_file(ask: Ask, tmp_path: Path) -> None:
    (tmp_path / "weights.bin").write_bytes(bytes(20_000_000))
    with refusing(read=1_000_000, reset=False, answer=True) as url, pytest.raises(BodyTooLargeError):
        ask("models.register", "m", tmp_path, client={"url": url})
