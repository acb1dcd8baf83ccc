"""What edges of tensors and of records have in common."""

from __future__ import annotations

from enum import Enum
from typing import Final

__all__ = ["ABSENT", "UNUSUAL_TEXTS", "WORD"]


class _Absent(Enum):
    """In place of a value: there is none."""

    ABSENT = "absent"


ABSENT: Final = _Absent.ABSENT

WORD = "word"
# What programs stumble over that take text for letters.
UNUSUAL_TEXTS = (
    ("blanks", "  \t\n "),
    ("letters with marks", "Ça naïve Größe"),
    ("an emoji of several parts", "\U0001f469\U0001f3fd‍\U0001f680"),
    ("right to left", "שלום"),
    ("quotes", "'\"\\`;--"),
    ("a number", "007"),
    ("the word null", "null"),
)
