"""A request's body as it comes, which WSGI's own reader would only give once so many bytes are there."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

from penstock.core.errors import RequestError

__all__ = ["ClientGoneError", "pieces_of"]

# The data plane's chunks are no larger.
_CHUNK_BYTES_MAX = 1 << 20


class ClientGoneError(BrokenPipeError):
    """The client has left, or the data plane has cut it off. The server ends such a response without a word."""

    def __init__(self) -> None:
        super().__init__(errno.EPIPE, "the request ended before its body did")


def pieces_of(environ: dict[str, Any]) -> Iterator[bytes]:
    """Yield the pieces of a body in chunks, each when it is there. ClientGoneError when it ends before it should."""
    body = environ["wsgi.input"]
    if not body.chunked_input:
        raise RequestError("length_required", "this route is reached through the server's public port only")
    # The rest of a body that is not wanted is the data plane's to drop; pywsgi would wait for all of it.
    body.chunked_input = False
    return _chunks(body.rfile)


def _chunks(file: Any) -> Iterator[bytes]:
    while True:
        line = file.readline(20)
        try:
            size = int(line, 16)
        except ValueError:
            raise ClientGoneError from None
        if not 0 <= size <= _CHUNK_BYTES_MAX:
            raise ClientGoneError
        piece = file.read(size)
        if len(piece) != size or file.read(2) != b"\r\n":
            raise ClientGoneError
        if not size:
            return
        yield piece
