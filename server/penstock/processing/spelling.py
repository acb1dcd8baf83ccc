"""Numbers and dates that are text, read as the data plane reads them, and texts in CSV as long as it takes them."""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import date

__all__ = ["BLANKS", "long_fields", "number_in", "seconds_in"]

BLANKS = " \t"
_NUMBER = re.compile(r"-?(?:0|[1-9][0-9]*)(?:\.[0-9]+)?(?:[eE][+-]?[0-9]+)?")
_DATE = re.compile(
    r"(?P<day>[0-9]{4}-[0-9]{2}-[0-9]{2})"
    r"(?:[Tt ](?P<hour>[0-9]{2}):(?P<minute>[0-9]{2}):(?P<second>[0-9]{2})(?:\.(?P<digits>[0-9]+))?"
    r"(?:[Zz]|(?P<sign>[+-])(?P<hours>[0-9]{2}):(?P<minutes>[0-9]{2})))?"
)
# More is below what a float64 of seconds can tell.
_DIGITS_MAX = 15
# Of a value in CSV: a text may be long.
_FIELD_CHARACTERS_MAX = 64 << 20
_FIRST_DAY = date(1970, 1, 1).toordinal()


def number_in(text: str) -> float | None:
    """Return the number that JSON would have in a text, blanks around it aside; None when it is none."""
    trimmed = text.strip(BLANKS)
    number = float(trimmed) if _NUMBER.fullmatch(trimmed) else math.inf
    return number if math.isfinite(number) else None


def seconds_in(text: str) -> float | None:
    """Return the seconds since 1970 of a date of RFC 3339, with a time or without; None when it is none.

    Whole seconds and their fraction are added at the end, as dataplane/codec/codec_date.cpp does: to the same bits.
    """
    found = _DATE.fullmatch(text)
    if found is None:
        return None
    try:
        days = _days_of(found["day"])
    except ValueError:
        return None
    if found["hour"] is None:
        return float(days * 86400)
    hour, minute, second = int(found["hour"]), int(found["minute"]), int(found["second"])
    hours, minutes = int(found["hours"] or 0), int(found["minutes"] or 0)
    if hour > 23 or minute > 59 or second > 60 or hours > 23 or minutes > 59:
        return None
    offset = (hours * 3600 + minutes * 60) * (-1 if found["sign"] == "-" else 1)
    digits = (found["digits"] or "")[:_DIGITS_MAX]
    fraction = int(digits) / 10 ** len(digits) if digits else 0.0
    return float(days * 86400 + hour * 3600 + minute * 60 + second - offset) + fraction


def _days_of(day: str) -> int:
    """Return the days since 1970. Python has no year 0: it is like the year 400, 146097 days before that."""
    before = day.startswith("0000")
    return date.fromisoformat(f"0400{day[4:]}" if before else day).toordinal() - _FIRST_DAY - (146097 if before else 0)


@contextmanager
def long_fields() -> Iterator[None]:
    """Let a value of CSV be long; the limit is that of all readers in the process."""
    before = csv.field_size_limit(_FIELD_CHARACTERS_MAX)
    try:
        yield
    finally:
        csv.field_size_limit(before)
