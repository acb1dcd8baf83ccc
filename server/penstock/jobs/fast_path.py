"""The data plane's private socket, as a job asks it: blocking, one connection for each thread."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import time
from collections.abc import Mapping
from typing import Any, NamedTuple

from penstock.core.errors import RequestError

__all__ = ["FastPath", "Reply"]

# There is no room at the moment; a stream can wait.
_PASSING = ("queue_full", "memory_exhausted")
_WAITS_S = (0.01, 0.05, 0.2, 0.5, *[1.0] * 30)


class Reply(NamedTuple):
    """A reply of 200; `header_bytes` of it are JSON in front of tensors, when it says so."""

    body: bytes
    header_bytes: int | None


class FastPath:
    """POSTs with the head of one request. Any thread may call it."""

    def __init__(self, path: str, headers: Mapping[str, str]) -> None:
        self._path = path
        self._headers = {**headers, "Accept": "application/json"}
        self._connections = threading.local()

    def post_rows(self, target: str, body: bytes) -> Reply:
        """Send rows as JSON. RequestError for what is wrong with the body as a whole."""
        return self._ask(target, body, {"Content-Type": "application/json"})

    def post_tensors(self, target: str, head: Mapping[str, object], contents: list[bytes]) -> Reply:
        """Send binary tensors as the Open Inference Protocol has them. RequestError likewise."""
        text = json.dumps(head).encode()
        fields = {"Content-Type": "application/octet-stream", "Inference-Header-Content-Length": str(len(text))}
        return self._ask(target, b"".join([text, *contents]), fields)

    def _ask(self, target: str, body: bytes, fields: Mapping[str, str]) -> Reply:
        for wait_s in (*_WAITS_S, 0.0):
            status, reply = self._post(target, body, {**self._headers, **fields})
            if status == 200:
                return reply
            problem: dict[str, Any] = json.loads(reply.body)
            code, detail = str(problem.get("code")), str(problem.get("detail"))
            if code not in _PASSING or not wait_s:
                break
            time.sleep(wait_s)
        raise RequestError(code, detail)

    def _post(self, target: str, body: bytes, headers: Mapping[str, str]) -> tuple[int, Reply]:
        while True:
            connection = getattr(self._connections, "one", None)
            used = connection is not None
            if connection is None:
                connection = self._connections.one = _Connection(self._path)
            try:
                connection.request("POST", target, body, headers)
                response = connection.getresponse()
                header_bytes = response.headers["Inference-Header-Content-Length"]
                reply = Reply(response.read(), None if header_bytes is None else int(header_bytes))
                return response.status, reply
            except (OSError, http.client.HTTPException):
                connection.close()
                self._connections.one = None
                if not used:
                    raise RequestError("draining", "the server is shutting down and runs no more rows") from None


class _Connection(http.client.HTTPConnection):
    def __init__(self, path: str) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(self._path)
