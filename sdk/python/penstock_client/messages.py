"""HTTP/1.1 as bytes: reads the reply to one request at a time (RFC 9112). No sockets here.

Heads are looked at only as far as framing needs it: a small reply costs two searches. Fields are parsed when they are
asked for.
"""

from __future__ import annotations

import mmap
import re

__all__ = ["BadReply", "Reply", "ReplyReader"]

# Also the largest head that is taken. Bodies that do not fit get a buffer of their own size, and are read into it.
_BUFFER_BYTES = 32 * 1024
_REPLY_BYTES_MAX = 4 * 1024**3
# Larger bodies get pages that exist once they are written to: a length that is a lie costs no memory.
_PAGED_BYTES = 64 * 1024**2
_FRAMING = re.compile(
    rb"\r\n(content-length|transfer-encoding|connection|inference-header-content-length):([^\r\n]*)", re.IGNORECASE
)
_STATUS_LINE = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [^\r\n]*)?\r\n")
# Tensors begin at addresses like these, where their head's length is said, so that arrays can be views of large bodies.
_ALIGNMENT = 16
_DIGITS = re.compile(rb"[0-9]{1,18}")
_HEX = re.compile(rb"[0-9A-Fa-f]{1,15}")


class BadReply(Exception):  # noqa: N818 - it never leaves the package
    """What came is no reply of HTTP/1.1."""


class Reply:
    """A whole reply. The body is the caller's own and may be written to: arrays are views of it.

    It is a memoryview where it has been laid out for that, else a bytearray.
    """

    __slots__ = ("_fields", "body", "head", "status")

    def __init__(self, status: int, head: bytes, body: bytearray | memoryview) -> None:
        self.status = status
        self.head = head
        self.body = body
        self._fields: dict[str, str] | None = None

    def text(self) -> str:
        """Return the body as text; a ValueError when it is not UTF-8."""
        return str(self.body, "utf-8")

    def field(self, name: str) -> str | None:
        """Return the value of a field by its name in lower case; of several the first."""
        if self._fields is None:
            self._fields = {}
            for line in self.head.decode("latin-1").split("\r\n")[1:]:
                key, _, value = line.partition(":")
                self._fields.setdefault(key.lower(), value.strip(" \t"))
        return self._fields.get(name)


class ReplyReader:
    """Reads replies from whatever a transport puts into `buffer()`; one reader belongs to one connection.

    expect() before each request; then fill buffer() and tell filled() how much, until it returns True. take() the
    reply then; `reusable` says whether another request may follow on the connection.
    """

    __slots__ = (
        "_body",
        "_buffer",
        "_chunks",
        "_filled",
        "_got",
        "_head",
        "_shift",
        "_status",
        "_until_close",
        "_view",
        "reply",
        "reusable",
    )

    def __init__(self) -> None:
        self._buffer = bytearray(_BUFFER_BYTES)
        self._view = memoryview(self._buffer)
        self.expect()

    def expect(self) -> None:
        """Forget the last reply and get ready for the next."""
        self._filled = self._got = self._status = self._shift = 0
        self._head = b""
        self._body: bytearray | memoryview | None = None
        self._chunks: _Chunks | None = None
        self._until_close = False
        self.reply: Reply | None = None
        self.reusable = False

    def take(self) -> Reply:
        """Hand the reply over, and forget it: it may be large, and the connection may wait for long."""
        reply = self.reply
        assert reply is not None
        self.reply = self._body = self._chunks = None
        self._filled = 0
        return reply

    def buffer(self) -> memoryview:
        """Where the next bytes go."""
        if self._body is not None and not self._until_close:
            return memoryview(self._body)[self._got :]
        return self._view[self._filled :]

    def filled(self, count: int) -> bool:
        """Take so many bytes of buffer(); True when the reply is complete. BadReply when it cannot become one."""
        if self._status == 0:
            self._filled += count
            return self._read_head()
        if self._chunks is not None:
            return self._take_chunks(self._view[:count])
        assert self._body is not None
        if self._until_close:
            assert isinstance(self._body, bytearray)
            self._body += self._view[:count]
            if len(self._body) > _REPLY_BYTES_MAX:
                raise BadReply("a reply of more than 4 GiB")
            return False
        self._got += count
        if self._got < len(self._body):
            return False
        return self._complete(memoryview(self._body)[self._shift :] if self._shift else self._body)

    def ended(self) -> bool:
        """The connection is at its end; True when that ends the reply, too."""
        return self._until_close and self._body is not None and self._complete(self._body)

    def _read_head(self) -> bool:
        while True:
            end = self._buffer.find(b"\r\n\r\n", 0, self._filled)
            if end < 0:
                if self._filled == len(self._buffer):
                    raise BadReply("a head of more than 32 KiB")
                if self._filled >= 5 and not self._buffer.startswith(b"HTTP/"):
                    raise BadReply("what answers does not speak HTTP")
                return False
            line = _STATUS_LINE.match(self._buffer)
            if line is None:
                raise BadReply("a status line that is none of HTTP/1.1")
            status = int(line[2])
            rest = end + 4
            if status >= 200:
                self._status = status
                self._head = bytes(self._view[:end])
                return self._read_framing(rest, line[1] == b"1")
            if status == 101:
                raise BadReply("a change of protocol that nobody asked for")
            # An interim reply; the one that counts comes behind it.
            left = self._filled - rest
            self._buffer[:left] = self._buffer[rest : self._filled]
            self._filled = left

    def _read_framing(self, rest: int, persistent: bool) -> bool:
        length, chunked, tensors_at = -1, False, 0
        for name, value in _FRAMING.findall(self._buffer, 0, rest):
            name, value = name.lower(), value.strip(b" \t")
            if name == b"content-length":
                if _DIGITS.fullmatch(value) is None or length not in (-1, int(value)):
                    raise BadReply("a length that is none, or two that differ")
                length = int(value)
            elif name == b"transfer-encoding":
                if value.lower() != b"chunked":
                    raise BadReply(f"the transfer coding {value!r}")
                chunked = True
            elif name == b"connection":
                persistent = persistent and b"close" not in value.lower()
            elif _DIGITS.fullmatch(value) is not None:
                tensors_at = int(value)
        self.reusable = persistent
        here = self._view[rest : self._filled]
        if self._status in (204, 304):
            return self._complete(bytearray(), extra=len(here) > 0)
        if chunked:
            if length >= 0:
                raise BadReply("both a length and chunks")
            self._chunks = _Chunks()
            return self._take_chunks(here)
        if length >= 0:
            return self._begin_body(length, here, -tensors_at % _ALIGNMENT if tensors_at else 0)
        self.reusable = False
        self._until_close = True
        self._body = bytearray(here)
        self._filled = 0
        return False

    def _begin_body(self, length: int, here: memoryview, shift: int) -> bool:
        if length > _REPLY_BYTES_MAX:
            raise BadReply("a reply of more than 4 GiB")
        if len(here) >= length:
            return self._complete(bytearray(here[:length]), extra=len(here) > length)
        size = shift + length
        self._body = bytearray(size) if size < _PAGED_BYTES else memoryview(mmap.mmap(-1, size, mmap.MAP_PRIVATE))
        self._shift = shift
        self._got = shift + len(here)
        self._body[shift : self._got] = here
        return False

    def _take_chunks(self, piece: memoryview) -> bool:
        assert self._chunks is not None
        # The head has been copied, so the whole buffer is free for what comes.
        self._filled = 0
        done = self._chunks.take(piece)
        return done and self._complete(self._chunks.body, extra=self._chunks.extra)

    def _complete(self, body: bytearray | memoryview, *, extra: bool = False) -> bool:
        self.reply = Reply(self._status, self._head, body)
        # Bytes behind the reply belong to nothing that was asked.
        self.reusable = self.reusable and not extra
        return True


class _Chunks:
    """The chunked transfer coding, taken piece by piece."""

    __slots__ = ("_left", "_raw", "_trailer", "body", "extra")

    def __init__(self) -> None:
        self.body = bytearray()
        self.extra = False
        self._raw = bytearray()  # of a line, or of a chunk's end, that is not complete
        self._left = 0  # of the chunk that is being read, with the CRLF behind it
        self._trailer = False

    def take(self, piece: memoryview) -> bool:
        """Take a piece; True when the last chunk and its trailer are there."""
        self._raw += piece
        at = 0
        while True:
            if self._left > 0:
                data = min(max(self._left - 2, 0), len(self._raw) - at)
                self.body += self._raw[at : at + data]
                at, self._left = at + data, self._left - data
                if self._left > 2 or len(self._raw) - at < self._left:
                    break
                if self._raw[at : at + 2] != b"\r\n":
                    raise BadReply("a chunk that is longer than it says")
                at, self._left = at + 2, 0
            end = self._raw.find(b"\r\n", at)
            if end < 0:
                if len(self._raw) - at > _BUFFER_BYTES:
                    raise BadReply("a line of a chunk without an end")
                break
            line = bytes(self._raw[at:end])
            at = end + 2
            if self._trailer:
                if not line:
                    self.extra = at < len(self._raw)
                    return True
                continue
            digits = line.split(b";", 1)[0].strip(b" \t")
            if _HEX.fullmatch(digits) is None:
                raise BadReply("a chunk without a length")
            size = int(digits, 16)
            if len(self.body) + size > _REPLY_BYTES_MAX:
                raise BadReply("a reply of more than 4 GiB")
            self._trailer = size == 0
            self._left = size + 2 if size else 0
        del self._raw[:at]
        return False
