"""Request ids: short, unlike any other process's, and made without a system call."""

from __future__ import annotations

import itertools
import os
import re

from penstock_client.errors import ArgumentError

__all__ = ["checked_id", "next_id"]

# What the server takes; anything else would be replaced by an id that we did not know.
_VALID = re.compile(r"[!#-\[\]-~]{1,128}")

_prefix = ""
_count = itertools.count(1)


def _renew() -> None:
    global _prefix, _count
    _prefix = os.urandom(9).hex() + "-"
    _count = itertools.count(1)


def next_id() -> str:
    """Return a new id."""
    return f"{_prefix}{next(_count)}"


def checked_id(text: str) -> str:
    """Return an id that a caller has chosen; ArgumentError when the server would not take it."""
    if _VALID.fullmatch(text) is None:
        raise ArgumentError(f"{text!r} is no request id: 1 to 128 visible ASCII characters, no quotes, no backslash")
    return text


_renew()
# Parent and child would go on with the same numbers.
os.register_at_fork(after_in_child=_renew)
