"""Figures over time in one line of characters."""

from __future__ import annotations

from collections.abc import Iterable

__all__ = ["sparkline"]

_BLOCKS = "▁▂▃▄▅▆▇█"
_PLAIN = "_.-~=+*#"


def sparkline(values: Iterable[float | None], width: int, *, plain: bool = False) -> str:
    """Return the last `width` values, each as high as its share of the largest; a blank for what is not known.

    Nothing at all is the lowest line, so that it can be told from what is not known. `plain`: in ASCII.
    """
    marks = _PLAIN if plain else _BLOCKS
    shown = list(values)[-width:] if width > 0 else []
    top = max((value for value in shown if value is not None), default=0.0)
    line = "".join(" " if value is None else marks[_height(value, top, len(marks))] for value in shown)
    return line.rjust(width)


def _height(value: float, top: float, heights: int) -> int:
    if top <= 0 or value <= 0:
        return 0
    # What is not nothing is never shown as nothing.
    return max(1, min(heights - 1, round(value / top * (heights - 1))))
