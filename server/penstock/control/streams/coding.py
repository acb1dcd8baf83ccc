"""Streams that come compressed, and answers that leave so: piece by piece, in constant memory."""

from __future__ import annotations

from collections.abc import Iterator

import gevent

from penstock.core.errors import RequestError
from penstock.native import _dataplane

__all__ = ["decoded", "encoded"]

_PIECE_BYTES = 64 * 1024
# Data do not shrink to less than this; what does is made to keep a server busy.
_RATIO_MAX = 1000
_RATIO_FROM_BYTES = 16 << 20
# What is longer is compressed by a thread, so that the hub has something else to do.
_INLINE_BYTES = 16 * 1024

_FAULTS = {
    "foreign": ("malformed_body", "something follows the end of the data"),
    "window": ("malformed_body", "it needs a zstd window above 8 MiB, which RFC 9659 rules out"),
    "memory": ("memory_exhausted", "no memory is left to decompress it"),
}


def decoded(pieces: Iterator[bytes], coding: str) -> Iterator[bytes]:
    """Yield what a body of gzip or zstd stands for. RequestError when it is none, or too little for so much."""
    try:
        decoder = _dataplane.BodyDecoder(coding)
    except (ValueError, MemoryError):
        raise RequestError("unsupported_content_encoding", f"Content-Encoding {coding[:80]!r} is not taken") from None
    taken = made = 0
    status = "done"
    for piece in pieces:
        begin, status = 0, "full"
        while status == "full":
            content, count, status = decoder.decode(piece, begin, _PIECE_BYTES)
            begin, taken, made = begin + count, taken + count, made + len(content)
            if content:
                yield content
            if status == "full":
                gevent.sleep(0)  # a little that came may be much
            if made > _RATIO_FROM_BYTES and made > taken * _RATIO_MAX:
                raise RequestError(
                    "body_too_large", f"the body becomes more than {_RATIO_MAX} times as long as it came"
                )
        if status not in ("done", "cut"):
            code, what = _FAULTS.get(status, ("malformed_body", "the data are damaged"))
            raise RequestError(code, f"{coding} byte {taken}: {what}")
    if status != "done":
        raise RequestError(
            "malformed_body", f"the body is not {coding}: it ends after {taken} bytes, before its data do"
        )


def encoded(pieces: Iterator[bytes], coding: str) -> Iterator[bytes]:
    """Yield an answer in gzip or zstd. Each piece can be read when it has come; an answer that is cut has no end."""
    encoder = _dataplane.BodyEncoder(coding)
    for piece in pieces:
        if len(piece) > _INLINE_BYTES:
            yield gevent.get_hub().threadpool.apply(encoder.encode, (piece, False))
        elif piece:
            yield encoder.encode(piece, False)
    yield encoder.encode(b"", True)
