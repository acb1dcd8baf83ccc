"""HTTP/1.1 by hand, over plain sockets: the soak and the tests decide over every byte and when it is sent."""

import json
import re
import socket
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Self

__all__ = ["ClosedError", "Reply", "ReplyReader", "Wire", "request_bytes"]

TIMEOUT_SECONDS = 300.0
RECEIVE_BYTES = 1 << 18
STATUS_LINE = re.compile(rb"HTTP/1\.1 ([1-5][0-9]{2}) [^\r\n]*")


class ClosedError(Exception):
    """The server closed the connection before a reply was complete."""


@dataclass(frozen=True, slots=True)
class Reply:
    """An HTTP answer; header names are lower-case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """Parse the body."""
        return json.loads(self.body)


def request_bytes(
    method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
) -> bytes:
    """Write one request. Host and, with a body, Content-Length are added unless given."""
    fields = {"Host": "penstock", **(headers or {})}
    if body is not None and not {"content-length", "transfer-encoding"} & {name.lower() for name in fields}:
        fields["Content-Length"] = str(len(body))
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in fields.items()), "", ""]
    return "\r\n".join(lines).encode("latin-1") + (body or b"")


class ReplyReader:
    """Takes bytes as they come and gives replies as they become complete. Lengths must be by Content-Length."""

    def __init__(self) -> None:
        self._received = bytearray()

    def feed(self, data: bytes) -> None:
        """Add bytes."""
        self._received += data

    @property
    def pending(self) -> bytes:
        """What was fed and not yet given out."""
        return bytes(self._received)

    def next(self, *, head_only: bool = False) -> Reply | None:
        """Take the next reply, 1xx included; None when it is not complete. ValueError when it is not HTTP."""
        end = self._received.find(b"\r\n\r\n")
        if end < 0:
            return None
        status_line, *lines = bytes(self._received[:end]).split(b"\r\n")
        matched = STATUS_LINE.fullmatch(status_line)
        if matched is None:
            raise ValueError(f"not a status line: {status_line[:100]!r}")
        status = int(matched[1])
        headers = {
            name.decode().lower(): value.decode().strip() for name, _, value in (line.partition(b":") for line in lines)
        }
        bodiless = head_only or status < 200 or status == 204
        if not bodiless and "content-length" not in headers:
            raise ValueError(f"a reply without Content-Length: {headers}")
        length = 0 if bodiless else int(headers["content-length"])
        if len(self._received) < end + 4 + length:
            return None
        body = bytes(self._received[end + 4 : end + 4 + length])
        del self._received[: end + 4 + length]
        return Reply(status, headers, body)


class Wire:
    """A client connection. Not for several threads at once."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected
        self._reader = ReplyReader()

    @classmethod
    def connect(cls, host: str, port: int, *, receive_buffer: int | None = None) -> Self:
        """Connect over TCP; a small `receive_buffer` (bytes) makes a client that takes little."""
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        return cls._connect(socket.socket(family, socket.SOCK_STREAM), (host, port), receive_buffer)

    @classmethod
    def connect_unix(cls, path: str) -> Self:
        """Connect to a Unix socket."""
        return cls._connect(socket.socket(socket.AF_UNIX, socket.SOCK_STREAM), path, None)

    @classmethod
    def _connect(cls, plain: socket.socket, address: tuple[str, int] | str, receive_buffer: int | None) -> Self:
        if receive_buffer is not None:
            plain.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        plain.settimeout(TIMEOUT_SECONDS)
        try:
            plain.connect(address)
        except OSError:
            plain.close()
            raise
        if plain.family != socket.AF_UNIX:
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        return cls(plain)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def send(self, data: bytes) -> None:
        """Send all bytes, waiting for the server to take them."""
        self.socket.sendall(data)

    def reply(self, *, head_only: bool = False) -> Reply:
        """Wait for the next final reply (1xx are passed over); ClosedError when the connection ends first."""
        while True:
            reply = self.next_reply(head_only=head_only)
            if reply.status >= 200:
                return reply

    def next_reply(self, *, head_only: bool = False) -> Reply:
        """Wait for the next reply, a 1xx included."""
        while (reply := self._reader.next(head_only=head_only)) is None:
            data = self.socket.recv(RECEIVE_BYTES)
            if not data:
                raise ClosedError(f"closed after {self._reader.pending[:200]!r}")
            self._reader.feed(data)
        return reply

    def ask(
        self, method: str, target: str, body: bytes | None = None, headers: Mapping[str, str] | None = None
    ) -> Reply:
        """Send one request and wait for its reply."""
        self.send(request_bytes(method, target, body, headers))
        return self.reply(head_only=method == "HEAD")

    def is_closed_by_server(self) -> bool:
        """Wait for the server's end of the connection; False when it sends something instead, or nothing in time."""
        try:
            return not self._reader.pending and self.socket.recv(1) == b""
        except ConnectionResetError:
            return True
        except TimeoutError:
            return False

    def shut_writing(self) -> None:
        """Say that no more will be sent."""
        self.socket.shutdown(socket.SHUT_WR)

    def abort(self) -> None:
        """Close with a reset, as a client does that crashed."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.socket.close()

    def close(self) -> None:
        """Close."""
        self.socket.close()
