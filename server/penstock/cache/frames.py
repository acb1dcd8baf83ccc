"""What the data plane and this process say to each other: dataplane/engine/second_level.cpp writes and reads the same.

A frame is the bytes of what follows (u32), a kind (u8), an id (u64), and more by kind; numbers are little-endian.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from dataclasses import dataclass

__all__ = ["Asked", "Inbox", "Kept", "Ping", "answers", "failed", "kept", "lost", "pong"]

_GET, _SET, _PING, _NONE, _FAILED, _LOST = range(1, 7)
_HEAD = struct.Struct("<IBQ")
_FIXED = _HEAD.size - 4
_COUNT = struct.Struct("<Q")
_SIZE = struct.Struct("<I")
_SET_HEAD = struct.Struct("<QH")


@dataclass(frozen=True, slots=True)
class Asked:
    """A lookup: what has this name, if it is as long as `size`?"""

    id: int
    size: int
    name: bytes


@dataclass(frozen=True, slots=True)
class Kept:
    """A value that is to be kept for so many milliseconds."""

    ttl_ms: int
    name: bytes
    value: bytes


@dataclass(frozen=True, slots=True)
class Ping:
    """Does the store answer?"""

    id: int


class Inbox:
    """Bytes as they come, frames as they are complete."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def feed(self, data: bytes) -> list[Asked | Kept | Ping]:
        """Return the frames that are complete now; ValueError for what is none."""
        self._bytes += data
        frames: list[Asked | Kept | Ping] = []
        at = 0
        while len(self._bytes) - at >= _HEAD.size:
            length, kind, number = _HEAD.unpack_from(self._bytes, at)
            end = at + 4 + length
            if len(self._bytes) < end:
                break
            frames.append(_frame(kind, number, bytes(self._bytes[at + _HEAD.size : end])))
            at = end
        del self._bytes[:at]
        return frames


def _frame(kind: int, number: int, more: bytes) -> Asked | Kept | Ping:
    if kind == _GET:
        (size,) = _SIZE.unpack_from(more)
        return Asked(number, size, more[_SIZE.size :])
    if kind == _SET:
        ttl_ms, length = _SET_HEAD.unpack_from(more)
        begin = _SET_HEAD.size
        return Kept(ttl_ms, more[begin : begin + length], more[begin + length :])
    if kind == _PING:
        return Ping(number)
    raise ValueError(f"a frame of the unknown kind {kind}")


def answers(asked: Iterable[Asked], values: Iterable[bytes | None]) -> bytes:
    """Tell what was found, in the order of the lookups."""
    return b"".join(
        _written(_NONE, each.id) if value is None else _written(_GET, each.id, value)
        for each, value in zip(asked, values, strict=True)
    )


def failed(number: int) -> bytes:
    """Tell that the store did not answer this lookup or probe."""
    return _written(_FAILED, number)


def pong(number: int) -> bytes:
    """Tell that it answered this probe."""
    return _written(_PING, number)


def kept(count: int) -> bytes:
    """Tell how many values are in the store now."""
    return _written(_SET, 0, _COUNT.pack(count))


def lost(count: int) -> bytes:
    """Tell how many are not."""
    return _written(_LOST, 0, _COUNT.pack(count))


def _written(kind: int, number: int, more: bytes = b"") -> bytes:
    return _HEAD.pack(_FIXED + len(more), kind, number) + more
