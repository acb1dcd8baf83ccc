"""Predictions through the data plane, over its private socket: rows that the control plane has read run like others."""

from __future__ import annotations

import http.client
import json
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import gevent.socket

from penstock.core.errors import RequestError
from penstock.core.problems import PROBLEMS

__all__ = ["FastPath", "Reply"]

_IDLE_MAX = 64


@dataclass(frozen=True, slots=True)
class Reply:
    """What the data plane answered."""

    status: int
    body: bytes
    media_type: str
    fields: tuple[tuple[str, str], ...] = ()  # of the head, those that tell a client something of its request

    def problem(self) -> RequestError:
        """Return what a reply that is no 200 says."""
        try:
            document = json.loads(self.body)
            code, detail = str(document["code"]), str(document["detail"])
        except (ValueError, KeyError, TypeError):
            code, detail = "internal_error", "the data plane's answer cannot be read"
        return RequestError(code if code in PROBLEMS else "internal_error", detail)


class FastPath:
    """Connections to the private socket, one for each request under way. For the greenlets of one hub."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._idle: list[_Connection] = []

    def post(self, route: str, query: Mapping[str, str], body: bytes, headers: Mapping[str, str]) -> Reply:
        """Ask; the greenlet waits. RequestError (`draining`) when the data plane has gone."""
        target = f"{route}?{urlencode(query)}" if query else route
        while True:
            connection = self._idle.pop() if self._idle else None
            used = connection is not None
            connection = connection or _Connection(self._path)
            try:
                connection.request("POST", target, body, dict(headers))
                response = connection.getresponse()
                reply = Reply(
                    response.status,
                    response.read(),
                    response.headers.get_content_type(),
                    tuple((name, value) for name, value in response.headers.items() if _is_told(name)),
                )
            except (OSError, http.client.HTTPException):
                connection.close()
                if used:  # it was closed while it lay idle
                    continue
                raise RequestError("draining", "the server is shutting down and runs no more rows") from None
            except BaseException:
                connection.close()  # the greenlet was killed: the answer that comes is nobody's
                raise
            if response.will_close or len(self._idle) >= _IDLE_MAX:
                connection.close()
            else:
                self._idle.append(connection)
            return reply


def _is_told(name: str) -> bool:
    return name.lower().startswith("x-penstock-") or name.lower() in ("retry-after", "server-timing")


class _Connection(http.client.HTTPConnection):
    """http.client over a Unix socket that waits on the hub."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        """Connect; http.client calls it when there is no socket."""
        # No time-out: the data plane answers within its own, or closes.
        made: Any = gevent.socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        made.connect(str(self._path))
        self.sock = made
