"""What a file or standard input holds, as one row or as lines of rows."""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from penstock.cli.predict.pictures import SUFFIXES, check_picture, is_picture
from penstock.cli.predict.words import inputs_of, usage
from penstock.cli.served import Served
from penstock.core.errors import ConfigError

__all__ = ["FORMATS", "Lines", "Row", "read_content", "rows_of"]

FORMATS = ("json", "ndjson", "csv", "image", "text", "bytes")
_SUFFIXES = {
    ".json": "json",
    ".ndjson": "ndjson",
    ".jsonl": "ndjson",
    ".csv": "csv",
    ".txt": "text",
    **dict.fromkeys(SUFFIXES, "image"),
}
# Of the answers, too, much more is held in memory.
_BYTES_MAX = 64 << 20


@dataclass(frozen=True, slots=True)
class Row:
    """One row."""

    inputs: object


@dataclass(frozen=True, slots=True)
class Lines:
    """Rows as lines of NDJSON or CSV."""

    text: bytes
    csv: bool


def read_content(name: str) -> bytes:
    """Read a file, or standard input where it is "-"."""
    try:
        if name == "-":
            content = sys.stdin.buffer.read(_BYTES_MAX + 1)
        else:
            with open(name, "rb") as file:
                content = file.read(_BYTES_MAX + 1)
    except OSError as error:
        raise ConfigError(f"cannot read {name}: {error.strerror}") from error
    if len(content) > _BYTES_MAX:
        raise ConfigError(f"{_called(name)} has more than {_BYTES_MAX >> 20} MiB: penstock batch is made for that")
    if not content.strip():
        raise ConfigError(f"{_called(name)} is empty")
    return content


def rows_of(served: Served, name: str, content: bytes, form: str | None) -> Row | Lines:
    """Tell what was read, by its name, by its first bytes, or as `form` says."""
    if form is None:
        form = _SUFFIXES.get(Path(name).suffix.lower()) or _told_by_bytes(served, content)
    if form in ("ndjson", "csv"):
        return Lines(content, form == "csv")
    if form == "json":
        return _json_rows(served, name, content)
    if len(served.inputs) != 1:
        raise usage(served, f"{_called(name)} is one value, and {served.name} has several inputs: write INPUT=@FILE")
    if form == "image":
        check_picture(_called(name), content)
    if form == "text":
        try:
            return _named(served, content.decode().removesuffix("\n"))
        except UnicodeDecodeError as error:
            raise ConfigError(f"{_called(name)} is no text in UTF-8: byte {error.start}") from None
    return _named(served, content)


def _named(served: Served, value: object) -> Row:
    return Row({served.inputs[0].name: value})


def _called(name: str) -> str:
    return "standard input" if name == "-" else name


def _told_by_bytes(served: Served, content: bytes) -> str:
    if is_picture(content):
        return "image"
    only = served.inputs[0] if len(served.inputs) == 1 and served.record is None else None
    first = content.lstrip()[:1]
    if only is not None and only.is_text and not only.shape and first not in (b"{", b"["):
        return "text"
    try:
        json.loads(content)
        return "json"
    except ValueError:
        lines = content.split(b"\n", 1)
        if first in (b"{", b"["):
            # A document of several lines that is damaged is told so as JSON.
            return "ndjson" if _is_json(lines[0]) else "json"
        return "csv" if len(lines) > 1 and lines[1].strip() else "json"


def _is_json(text: bytes) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _json_rows(served: Served, name: str, content: bytes) -> Row | Lines:
    try:
        document = json.loads(content)
    except ValueError as error:
        raise ConfigError(f"{_called(name)} is no JSON: {error}") from None
    document = inputs_of(served, document)
    if not isinstance(document, list) or not _is_several(served, document):
        return Row(document)
    lines = (json.dumps({"inputs": row}, ensure_ascii=False) for row in document)
    return Lines("".join(f"{line}\n" for line in lines).encode(), csv=False)


def _is_several(served: Served, document: list[Any]) -> bool:
    """Whether a list is one of rows, and not a row: a row has as many levels of lists as its only input."""
    if served.record is not None or len(served.inputs) > 1:
        return True
    depth = 0
    value: Any = document
    while isinstance(value, list) and value:
        depth, value = depth + 1, value[0]
    return depth > len(served.inputs[0].shape) or isinstance(value, dict)
