"""A table of text, for a terminal, for Markdown and for HTML alike."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Column", "Grid", "digits", "thousandth"]


@dataclass(frozen=True, slots=True)
class Column:
    """A heading; what cannot stand side by side on a narrow terminal is split by `part`, 0 being in every part."""

    heading: str
    part: int = 0
    is_text: bool = False


@dataclass(frozen=True, slots=True)
class Grid:
    """A table. `about` says what it is a table of, `notes` explain its marks; `weak_rows` mean nothing."""

    title: str
    columns: tuple[Column, ...]
    rows: tuple[tuple[str, ...], ...]
    about: str = ""
    notes: tuple[str, ...] = ()
    weak_rows: frozenset[int] = frozenset()


def digits(value: float | None) -> str:
    """Write three digits, or all of those before the point."""
    if value is None:
        return ""
    return f"{value:,.{0 if value >= 100 else 1 if value >= 10 else 2}f}"


def thousandth(us: float | None) -> str:
    """Write microseconds as milliseconds, to the microsecond where they are few."""
    if us is None:
        return ""
    return f"{us / 1e3:.3f}" if us < 1e3 else digits(us / 1e3)
