"""Msgpack, as far as bodies of predictions need it: to the JSON that says the same, and from what JSON holds."""

from __future__ import annotations

import json
import struct
from base64 import b64encode
from collections.abc import Iterator
from typing import Any

from penstock.core.errors import RequestError

__all__ = ["json_of", "packed"]

_DEPTH_MAX = 64
_CONSTANTS = {0xC0: "null", 0xC2: "false", 0xC3: "true"}
# By their first byte: numbers, then how the length of what has one is written.
_NUMBERS = {
    0xCA: ">f",
    0xCB: ">d",
    0xCC: ">B",
    0xCD: ">H",
    0xCE: ">I",
    0xCF: ">Q",
    0xD0: ">b",
    0xD1: ">h",
    0xD2: ">i",
    0xD3: ">q",
}
_BINARIES = {0xC4: ">B", 0xC5: ">H", 0xC6: ">I"}
_STRINGS = {0xD9: ">B", 0xDA: ">H", 0xDB: ">I"}
_LISTS = {0xDC: ">H", 0xDD: ">I"}
_MAPS = {0xDE: ">H", 0xDF: ">I"}


def json_of(content: bytes) -> str:
    """Return a body of msgpack as JSON, where binary data are {"base64": "..."}. RequestError for what is none."""
    reader = _Reader(content)
    try:
        text = "".join(reader.value(0))
    except (struct.error, IndexError, UnicodeDecodeError):
        raise _refusal("it ends within a value, or has a string that is no UTF-8") from None
    if not reader.at_end:
        raise _refusal("there is something behind its value")
    return text


def packed(value: Any) -> bytes:
    """Return what JSON holds as msgpack."""
    return b"".join(_pieces(value))


def _refusal(why: str) -> RequestError:
    return RequestError("malformed_body", f"msgpack: {why}")


class _Reader:
    def __init__(self, content: bytes) -> None:
        self._content = content
        self._at = 0

    @property
    def at_end(self) -> bool:
        return self._at == len(self._content)

    def value(self, depth: int) -> Iterator[str]:
        """Yield the next value, piece by piece."""
        head = self._content[self._at]
        self._at += 1
        if depth > _DEPTH_MAX:
            raise _refusal(f"it is nested more than {_DEPTH_MAX} deep")
        if head in _CONSTANTS:
            yield _CONSTANTS[head]
        elif head < 0x80 or head >= 0xE0:
            yield str(head if head < 0x80 else head - 256)
        elif head in _NUMBERS:
            # As JSON has numbers: of NaN whoever reads it says that it is none.
            yield json.dumps(self._number(_NUMBERS[head]))
        elif head < 0x90 or head in _MAPS:
            yield from self._map(head & 0xF if head < 0x90 else int(self._number(_MAPS[head])), depth)
        elif head < 0xA0 or head in _LISTS:
            yield from self._list(head & 0xF if head < 0xA0 else int(self._number(_LISTS[head])), depth)
        elif head < 0xC0 or head in _STRINGS:
            size = head & 0x1F if head < 0xC0 else int(self._number(_STRINGS[head]))
            yield json.dumps(self._bytes(size).decode(), ensure_ascii=False)
        elif head in _BINARIES:
            yield f'{{"base64":"{b64encode(self._bytes(int(self._number(_BINARIES[head])))).decode()}"}}'
        else:
            raise _refusal("it has a value of an extension type")

    def _number(self, form: str) -> float:
        (number,) = struct.unpack_from(form, self._content, self._at)
        self._at += struct.calcsize(form)
        return float(number) if form in (">f", ">d") else int(number)

    def _bytes(self, size: int) -> bytes:
        self._at += size
        if self._at > len(self._content):
            raise _refusal("it ends within a value")
        return self._content[self._at - size : self._at]

    def _map(self, pairs: int, depth: int) -> Iterator[str]:
        before = "{"
        for _ in range(pairs):
            yield before
            name = "".join(self.value(depth + 1))
            if not name.startswith('"'):
                raise _refusal("a key is no string")
            yield f"{name}:"
            yield from self.value(depth + 1)
            before = ","
        yield "}" if pairs else "{}"

    def _list(self, items: int, depth: int) -> Iterator[str]:
        before = "["
        for _ in range(items):
            yield before
            yield from self.value(depth + 1)
            before = ","
        yield "]" if items else "[]"


def _pieces(value: Any) -> Iterator[bytes]:
    if value is None or isinstance(value, bool):
        yield b"\xc0" if value is None else b"\xc3" if value else b"\xc2"
    elif isinstance(value, int):
        yield struct.pack(">Bq", 0xD3, value) if value < 0 else struct.pack(">BQ", 0xCF, value)
    elif isinstance(value, float):
        yield struct.pack(">Bd", 0xCB, value)
    elif isinstance(value, str):
        text = value.encode()
        yield struct.pack(">BI", 0xDB, len(text)) + text
    elif isinstance(value, dict):
        yield struct.pack(">BI", 0xDF, len(value))
        for name, member in value.items():
            yield from _pieces(name)
            yield from _pieces(member)
    else:
        yield struct.pack(">BI", 0xDD, len(value))
        for item in value:
            yield from _pieces(item)
