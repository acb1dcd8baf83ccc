"""On which line of a TOML file each key stands, which tomllib does not tell."""

from __future__ import annotations

import tomllib
from collections.abc import Iterator, Mapping
from typing import TypeAlias

__all__ = ["KeyPath", "lines_of"]

# Keys from the document down; the entries of an array of tables are counted from 0.
KeyPath: TypeAlias = tuple[str | int, ...]


def lines_of(text: str) -> dict[KeyPath, int]:
    """Return the line, counted from 1, of every table and key of a valid document."""
    found: dict[KeyPath, int] = {}
    counts: dict[KeyPath, int] = {}
    table: KeyPath = ()
    for line, document, is_header in _statements(text):
        for path in _paths(document):
            if is_header:
                table = _resolved(path, counts)
                for end in range(1, len(table) + 1):
                    found.setdefault(table[:end], line)
            else:
                for end in range(1, len(path) + 1):
                    found.setdefault(table + path[:end], line)
    return found


def _statements(text: str) -> Iterator[tuple[int, Mapping[str, object], bool]]:
    """Yield each header and each key with its value: the line it begins on, and what it says alone.

    A statement ends with the first line that makes it valid: what goes on over a line's end, an array or a text, is not
    valid before its end.
    """
    begin, piece = 1, ""
    for number, line in enumerate(text.splitlines(keepends=True), 1):
        begin, piece = (begin, piece + line) if piece else (number, line)
        try:
            document = tomllib.loads(piece)
        except tomllib.TOMLDecodeError:
            continue
        if document:
            yield begin, document, piece.lstrip().startswith("[")
        piece = ""


def _paths(value: object) -> Iterator[KeyPath]:
    """Yield the path of every leaf; a table's, or an array of tables', where nothing is in it."""
    if isinstance(value, dict) and value:
        for key, each in value.items():
            for rest in _paths(each):
                yield (key, *rest)
    elif isinstance(value, list) and value and all(isinstance(each, dict) for each in value):
        for number, each in enumerate(value):
            for rest in _paths(each):
                yield (number, *rest)
    else:
        yield ()


def _resolved(path: KeyPath, counts: dict[KeyPath, int]) -> KeyPath:
    """Return a header's path in the whole document: [[models]] is the next entry, [models.x] below one the last."""
    resolved: KeyPath = ()
    for at, step in enumerate(path):
        if isinstance(step, int):
            # What stands alone is always the first.
            counts[resolved] = counts.get(resolved, -1) + 1
            resolved = (*resolved, counts[resolved])
            continue
        resolved = (*resolved, step)
        if resolved in counts and at + 1 < len(path) and isinstance(path[at + 1], str):
            resolved = (*resolved, counts[resolved])
    return resolved
