"""Names of versions: semantic versions (semver.org) of one to three numbers, without build metadata."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import TypeAlias

__all__ = ["EXPECTED", "FIRST", "VersionKey", "highest", "is_version", "next_minor", "version_key"]

EXPECTED = "a semantic version such as 1, 1.2, 1.2.3 or 2.0.0-rc.1, of at most 64 characters"
# What a model's first version is called when nobody says.
FIRST = "1.0.0"

_LENGTH_MAX = 64
_NUMBER = r"(?:0|[1-9]\d*)"
_VERSION = re.compile(rf"({_NUMBER}(?:\.{_NUMBER}){{0,2}})(?:-([0-9A-Za-z-]+(?:\.[0-9A-Za-z-]+)*))?", re.ASCII)

# Numbers, whether it is a release, and the identifiers of what comes before one.
VersionKey: TypeAlias = tuple[tuple[int, int, int], bool, tuple[tuple[bool, int, str], ...]]


def version_key(version: str) -> VersionKey:
    """Return what versions are ordered by; ValueError when it is no version.

    Missing numbers are zeros, so 1, 1.0 and 1.0.0 are equal: a model has only one of them.
    """
    match = _VERSION.fullmatch(version) if len(version) <= _LENGTH_MAX else None
    if match is None:
        raise ValueError(version)
    numbers = [int(part) for part in match[1].split(".")]
    major, minor, patch = numbers + [0] * (3 - len(numbers))
    before = match[2].split(".") if match[2] else []
    return (major, minor, patch), not before, tuple(_identifier(part) for part in before)


def is_version(text: str) -> bool:
    """Whether the text is the name of a version."""
    try:
        version_key(text)
    except ValueError:
        return False
    return True


def highest(versions: Iterable[str]) -> str | None:
    """Return the version that comes last, or None."""
    return max(versions, key=version_key, default=None)


def next_minor(versions: Iterable[str]) -> str:
    """Return the minor release after the highest version."""
    last = highest(versions)
    if last is None:
        return FIRST
    (major, minor, _), _, _ = version_key(last)
    return f"{major}.{minor + 1}.0"


def _identifier(text: str) -> tuple[bool, int, str]:
    # Numbers come before words (semver.org, 11.4.3).
    if text.isdigit():
        if len(text) > 1 and text.startswith("0"):
            raise ValueError(text)
        return False, int(text), ""
    return True, 0, text
