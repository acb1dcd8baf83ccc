"""Values as texts: JSON, and fields of CSV."""

from __future__ import annotations

import csv
import io
import json
import math
from collections.abc import Sequence
from typing import Any

__all__ = ["json_text", "named", "quoted", "record", "records_of"]

# An encoder of its own: json.dumps makes one for each call with such options.
json_text = json.JSONEncoder(ensure_ascii=False, separators=(",", ":")).encode


def named(value: Any) -> Any:
    """Return a value of JSON, with a string in the place of each float that has no number there."""
    if isinstance(value, list):
        return [named(each) for each in value]
    if not isinstance(value, float) or math.isfinite(value):
        return value
    return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"


def quoted(field: str) -> str:
    """Return a field as it stands in a record of CSV."""
    return '"' + field.replace('"', '""') + '"' if any(mark in field for mark in ',"\r\n') else field


def record(fields: Sequence[str]) -> bytes:
    """Return a record of CSV."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerow(fields)
    return text.getvalue().encode()


def records_of(text: bytes) -> list[bytes]:
    """Return the records of well-formed CSV as they are, without their ends."""
    lines = text.split(b"\n")
    if not lines[-1]:
        lines.pop()
    if b'"' not in text:
        return lines
    found: list[bytes] = []
    inside = False
    for line in lines:
        if inside:
            found[-1] += b"\n" + line
        else:
            found.append(line)
        inside ^= line.count(b'"') % 2 == 1
    return found
