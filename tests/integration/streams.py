"""A client of streamed batches: sends pieces when it is told to, reads what has come."""

import http.client
import json
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from tests.serving import Server

__all__ = ["CSV", "JSON_LINES", "Stream", "lines_of", "stream", "streaming"]

JSON_LINES = "application/x-ndjson"
CSV = "text/csv"
SECONDS = 300.0


class Stream:
    """One request, whose body may be sent while its answer is read."""

    def __init__(self, connection: http.client.HTTPConnection) -> None:
        self._connection = connection
        self._response: http.client.HTTPResponse | None = None

    def send(self, piece: bytes) -> None:
        self._connection.send(b"%x\r\n%s\r\n" % (len(piece), piece))

    def end(self) -> None:
        self._connection.send(b"0\r\n\r\n")

    @property
    def response(self) -> http.client.HTTPResponse:
        if self._response is None:
            self._response = self._connection.getresponse()
        return self._response


@contextmanager
def streaming(
    server: Server, media_type: str, query: str, accept: str | None = None, **headers: str
) -> Iterator[Stream]:
    """Open a request to /predict/batch; it is cut off at the end unless it was ended."""
    connection = http.client.HTTPConnection(server.host, server.port, timeout=SECONDS)
    try:
        connection.putrequest("POST", f"/predict/batch?{query}")
        connection.putheader("Content-Type", media_type)
        connection.putheader("Transfer-Encoding", "chunked")
        if accept is not None:
            connection.putheader("Accept", accept)
        for name, value in headers.items():
            connection.putheader(name.replace("_", "-"), value)
        connection.endheaders()
        yield Stream(connection)
    finally:
        connection.close()


def stream(
    server: Server,
    media_type: str,
    query: str,
    body: bytes | Iterable[bytes],
    accept: str | None = None,
    **headers: str,
) -> http.client.HTTPResponse:
    """Send a whole body; the answer, which can still be read."""
    with streaming(server, media_type, query, accept, **headers) as request:
        try:
            for piece in [body] if isinstance(body, bytes) else body:
                if piece:
                    request.send(piece)
            request.end()
        except (BrokenPipeError, ConnectionResetError):
            pass  # it was answered before
        response = request.response
        response.content = response.read()  # type: ignore[attr-defined]
        return response


def lines_of(response: http.client.HTTPResponse) -> list[Any]:
    return [json.loads(line) for line in response.content.splitlines()]  # type: ignore[attr-defined]
