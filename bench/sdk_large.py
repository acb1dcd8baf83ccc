"""What the Python SDK adds to a large tensor, there and back: beside a bare socket that sends and receives the same."""

from __future__ import annotations

import socket
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np

from bench.sdk import ClientTime, time_call
from penstock_client import Client
from penstock_client.tensors import BinaryBody

__all__ = ["LARGE_MODEL", "time_large", "write_large"]

LARGE_MODEL = "large"
SIDE = 1024
SOURCE = f'''\
"""Gives back its matrix of {SIDE * SIDE * 4 >> 20} MiB."""

from penstock.worker import Tensor


class Model:
    inputs = {{"x": Tensor("float32", ({SIDE}, {SIDE}))}}
    outputs = {{"y": Tensor("float32", ({SIDE}, {SIDE}))}}

    def load(self):
        pass

    def predict(self, batch):
        return {{"y": batch["x"]}}
'''


def write_large(folder: Path) -> Path:
    """Write the model."""
    path = folder / f"{LARGE_MODEL}.py"
    path.write_text(SOURCE)
    return path


def time_large(port: int, rounds: int, calls: int) -> list[list[ClientTime]]:
    """Call in turn, one after the other."""
    matrix: Any = np.random.default_rng(3).random((SIDE, SIDE), np.float32)
    with Client(f"http://127.0.0.1:{port}") as client, closing(_Bare(port, matrix)) as bare:
        clients = {"bare socket": bare.call, "penstock_client": lambda: client.predict(LARGE_MODEL, matrix)}
        return [[time_call(name, call, calls, warm_up=2) for name, call in clients.items()] for _ in range(rounds)]


class _Bare:
    """Sends a request that is ready, and reads its answer into a buffer of its size."""

    def __init__(self, port: int, matrix: Any) -> None:
        body = BinaryBody({"x": matrix[None]}, row_errors=False)
        length = len(body.head) + body.bytes_after_head
        fields = f"{body.field}Content-Type: application/octet-stream\r\nContent-Length: {length}\r\n"
        head = f"POST /v2/models/{LARGE_MODEL}/infer HTTP/1.1\r\nHost: 127.0.0.1\r\n{fields}\r\n"
        self._pieces = [head.encode() + body.head, *body]
        self._socket = socket.create_connection(("127.0.0.1", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._buffer = bytearray(64 * 1024)

    def call(self) -> bytearray:
        for piece in self._pieces:
            self._socket.sendall(piece)
        count = self._socket.recv_into(self._buffer)
        end = self._buffer.index(b"\r\n\r\n", 0, count)
        fields = bytes(self._buffer[:end]).split(b"\r\n")
        length = next(int(field[15:]) for field in fields if field.startswith(b"Content-Length:"))
        body = bytearray(length)
        view, got = memoryview(body), count - end - 4
        view[:got] = self._buffer[end + 4 : count]
        while got < length:
            got += self._socket.recv_into(view[got:])
        return body

    def close(self) -> None:
        self._socket.close()
