"""Answers as text for people: aligned columns, and names with their values."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

__all__ = ["facts", "size", "table"]


def table(columns: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return rows below the names of their columns; nothing stands as '-'."""
    lines = [list(columns), *([_text(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(columns))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip() for line in lines
    )


def facts(named: Mapping[str, object]) -> str:
    """Return names and what they are, one on a line, without those that are nothing."""
    known = {name: _text(value) for name, value in named.items() if value not in (None, "", [], {})}
    width = max(map(len, known), default=0)
    return "\n".join(f"{name.ljust(width)}  {text}" for name, text in known.items())


def size(count: int | None) -> str | None:
    """Return a number of bytes as people read it."""
    if count is None:
        return None
    amount, unit = float(count), "B"
    for unit in ("B", "KiB", "MiB", "GiB", "TiB"):
        if amount < 1024 or unit == "TiB":
            break
        amount /= 1024
    return f"{count} B" if unit == "B" else f"{amount:.1f} {unit}"


def _text(value: object) -> str:
    if value is None or value in ("", [], {}):
        return "-"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {_text(each)}" for name, each in value.items())
    if isinstance(value, list | tuple):
        return ", ".join(_text(each) for each in value)
    # One line each, whatever somebody wrote into a description.
    return " ".join(str(value).split())
