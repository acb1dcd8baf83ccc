"""Replies are read the same however they are cut into pieces, and what is no reply is refused."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from penstock_client.messages import BadReply, Reply, ReplyReader

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Type: a/b\r\nContent-Length: 5\r\nX-Request-Id: r1\r\n\r\nhello"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhell\r\n0001;x=y\r\no\r\n0\r\nTrailer: t\r\n\r\n"
INTERIM = b"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + PLAIN


def feed(reader: ReplyReader, data: bytes, cuts: list[int]) -> int:
    """Put data into the reader in pieces; how much of it is left when the reply is complete, -1 when it never is."""
    ends = sorted({min(cut, len(data)) for cut in cuts} | {len(data)})
    at = 0
    for end in ends:
        while at < end:
            view = reader.buffer()
            count = min(len(view), end - at)
            view[:count] = data[at : at + count]
            at += count
            if reader.filled(count):
                return len(data) - at
    return -1


def read(data: bytes, cuts: list[int]) -> Reply:
    reader = ReplyReader()
    reader.expect()
    assert feed(reader, data, cuts) == 0
    assert reader.reply is not None
    return reader.reply


@pytest.mark.parametrize("data", [PLAIN, CHUNKED, INTERIM], ids=["length", "chunks", "interim"])
@settings(deadline=None)
@given(cuts=st.lists(st.integers(0, 200), max_size=12))
def test_pieces_do_not_matter(data: bytes, cuts: list[int]) -> None:
    reply = read(data, cuts)
    assert (reply.status, bytes(reply.body)) == (200, b"hello")


@settings(deadline=None)
@given(size=st.integers(0, 200_000), cuts=st.lists(st.integers(0, 200_000), max_size=6), chunk=st.integers(16, 70_000))
def test_large_bodies(size: int, cuts: list[int], chunk: int) -> None:
    body = bytes(range(256)) * (size // 256 + 1)
    body = body[:size]
    whole = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%b" % (size, body)
    assert read(whole, cuts).body == body
    pieces = b"".join(
        b"%x\r\n%b\r\n" % (len(body[at : at + chunk]), body[at : at + chunk]) for at in range(0, size, chunk)
    )
    assert read(b"HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n" + pieces + b"0\r\n\r\n", cuts).body == body


def test_fields_by_name() -> None:
    reply = read(PLAIN, [])
    assert reply.field("content-type") == "a/b"
    assert reply.field("x-request-id") == "r1"
    assert reply.field("retry-after") is None


def test_one_reader_reads_one_reply_after_the_other() -> None:
    reader = ReplyReader()
    for data in (PLAIN, CHUNKED, INTERIM, PLAIN):
        reader.expect()
        assert feed(reader, data, [10, 60]) == 0
        assert reader.reusable
        assert reader.reply is not None
        assert reader.reply.body == b"hello"


def test_a_reply_without_a_body() -> None:
    assert read(b"HTTP/1.1 204 No Content\r\n\r\n", []).body == b""


@settings(deadline=None)
@given(head=st.integers(1, 100), size=st.integers(0, 100_000), cuts=st.lists(st.integers(0, 100_000), max_size=6))
def test_tensors_of_large_bodies_are_aligned(head: int, size: int, cuts: list[int]) -> None:
    body = bytes(range(256)) * 400
    body = body[: head + size]
    fields = b"HTTP/1.1 200 OK\r\nInference-Header-Content-Length: %d\r\nContent-Length: %d\r\n\r\n"
    reply = read(fields % (head, len(body)) + body, cuts)
    assert bytes(reply.body) == body
    if isinstance(reply.body, memoryview):
        assert np.frombuffer(reply.body, np.uint8)[head:].ctypes.data % 16 == 0 or size == 0


def test_a_body_until_the_end_of_the_connection() -> None:
    reader = ReplyReader()
    assert feed(reader, b"HTTP/1.0 200 OK\r\n\r\nhel", []) == -1
    assert feed(reader, b"lo", []) == -1
    assert reader.ended()
    assert reader.reply is not None
    assert reader.reply.body == b"hello"
    assert not reader.reusable


@pytest.mark.parametrize(
    "data",
    [
        PLAIN.replace(b"X-Request-Id: r1", b"Connection: close"),
        PLAIN.replace(b"HTTP/1.1", b"HTTP/1.0"),
        PLAIN + b"HTTP/1.1 200 OK\r\n",
        CHUNKED + b"x",
    ],
    ids=["close", "old", "more", "more behind chunks"],
)
def test_connections_that_are_not_used_again(data: bytes) -> None:
    reader = ReplyReader()
    assert feed(reader, data, []) == 0
    assert not reader.reusable


@pytest.mark.parametrize("data", [PLAIN[:-1], CHUNKED[:-1], PLAIN[:20], b""], ids=["body", "chunks", "head", "nothing"])
def test_an_end_too_soon(data: bytes) -> None:
    reader = ReplyReader()
    assert feed(reader, data, []) == -1
    assert not reader.ended()


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/2.0 200 OK\r\n\r\n",
        b"HTTP/1.1 200\rOK\r\n\r\n",
        b"HTTP/1.1 99 OK\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1_0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n+5\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhello\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5" + b" " * 40_000,
        b"HTTP/1.1 200 OK\r\nX: " + b"x" * 40_000,
    ],
)
def test_what_is_no_reply(data: bytes) -> None:
    with pytest.raises(BadReply):
        feed(ReplyReader(), data, [])
