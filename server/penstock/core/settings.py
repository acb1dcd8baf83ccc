"""What a setting is: a field of a frozen dataclass whose annotation carries the kind of value it takes.

A kind parses a raw value: a TOML value as it came, or text (environment, flags), which it reads more generously. It
raises ValueError when the value does not fit and says in `expected` what would.
"""

from __future__ import annotations

import dataclasses
import re
import typing
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from pathlib import Path
from typing import Protocol

from penstock.core.cpus import parse_cpus
from penstock.core.devices import is_device

__all__ = [
    "CpuSet",
    "Device",
    "Flag",
    "Kind",
    "Location",
    "Name",
    "OneOf",
    "Setting",
    "Share",
    "Size",
    "Text",
    "Texts",
    "Whole",
    "Wholes",
    "settings_of",
]

# A Unix socket's address has 108 bytes, the last of which is a NUL.
SOCKET_PATH_BYTES_MAX = 107

_SIZE = re.compile(r"(\d+)\s*(B|KiB|MiB|GiB|TiB)?")
_SIZE_UNITS = {None: 1, "B": 1, "KiB": 1 << 10, "MiB": 1 << 20, "GiB": 1 << 30, "TiB": 1 << 40}


class Kind(Protocol):
    """How the values of a setting are read and what they may be."""

    @property
    def expected(self) -> str:
        """What the setting takes, to follow the word 'expected'."""

    @property
    def unit(self) -> str:
        """Unit of the value, or an empty string."""

    def parse(self, raw: object, *, text: bool) -> object:
        """Return the value; ValueError when `raw` does not fit. `text`: it could only come as a string."""


@dataclass(frozen=True, slots=True)
class Whole:
    """A whole number between two bounds, both allowed."""

    minimum: int
    maximum: int
    unit: str = ""

    @property
    def expected(self) -> str:
        """What the setting takes."""
        of_unit = f" ({self.unit})" if self.unit else ""
        return f"a whole number from {self.minimum} to {self.maximum}{of_unit}"

    def parse(self, raw: object, *, text: bool) -> int:
        """Read a whole number; in text also '10_000'."""
        if text and isinstance(raw, str):
            value = int(raw)
        elif isinstance(raw, int) and not isinstance(raw, bool):
            value = raw
        else:
            raise ValueError(raw)
        if not self.minimum <= value <= self.maximum:
            raise ValueError(raw)
        return value


@dataclass(frozen=True, slots=True)
class Wholes:
    """Whole numbers between two bounds, each larger than the one before it."""

    minimum: int
    maximum: int
    unit: str = ""
    count_max: int = 16

    @property
    def expected(self) -> str:
        """What the setting takes."""
        of_unit = f" ({self.unit})" if self.unit else ""
        return (
            f"1 to {self.count_max} ascending whole numbers from {self.minimum} to {self.maximum}{of_unit}, "
            "such as [8, 16, 32] in a file and 8,16,32 elsewhere"
        )

    def parse(self, raw: object, *, text: bool) -> tuple[int, ...]:
        """Read a list; in text its items stand between commas."""
        items = raw.split(",") if text and isinstance(raw, str) else raw
        if not isinstance(items, list):
            raise ValueError(raw)
        whole = Whole(self.minimum, self.maximum)
        values = tuple(whole.parse(item, text=text) for item in items)
        if not 0 < len(values) <= self.count_max or any(high <= low for low, high in pairwise(values)):
            raise ValueError(raw)
        return values


@dataclass(frozen=True, slots=True)
class Share:
    """A part of the whole: 0 is nothing of it, 1 all."""

    expected: str = "a number from 0 to 1"
    unit: str = ""

    def parse(self, raw: object, *, text: bool) -> float:
        """Read a number; a whole one will do."""
        if (text and isinstance(raw, str)) or (isinstance(raw, int | float) and not isinstance(raw, bool)):
            value = float(raw)
        else:
            raise ValueError(raw)
        if not 0 <= value <= 1:
            raise ValueError(raw)
        return value


@dataclass(frozen=True, slots=True)
class CpuSet:
    """Some of the machine's CPUs, written as the kernel writes them."""

    expected: str = "numbers and ranges of CPUs, such as '0-3,6'"
    unit: str = ""

    def parse(self, raw: object, *, text: bool) -> tuple[int, ...]:
        """Read the numbers of the CPUs, ascending."""
        if not isinstance(raw, str):
            raise ValueError(raw)
        cpus = parse_cpus(raw)
        if not cpus:
            raise ValueError(raw)
        return cpus


@dataclass(frozen=True, slots=True)
class Device:
    """What a model runs on."""

    expected: str = "'cpu', a GPU such as 'cuda:0', 'cuda:*' for all of them, or 'host'"
    unit: str = ""

    def parse(self, raw: object, *, text: bool) -> str:
        """Read a device; whether it is there is found out by who uses it."""
        if not isinstance(raw, str) or not is_device(raw):
            raise ValueError(raw)
        return raw


@dataclass(frozen=True, slots=True)
class Size:
    """A number of bytes: an integer, or text with a unit such as '64MiB'."""

    minimum: int
    maximum: int
    unit: str = "bytes"

    @property
    def expected(self) -> str:
        """What the setting takes."""
        bounds = f"from {format_size(self.minimum)} to {format_size(self.maximum)}"
        return f"a number of bytes {bounds}, such as 67108864 or 64MiB"

    def parse(self, raw: object, *, text: bool) -> int:
        """Read bytes; a unit may be written in a file too."""
        if isinstance(raw, str):
            match = _SIZE.fullmatch(raw.strip())
            if match is None:
                raise ValueError(raw)
            value = int(match[1]) * _SIZE_UNITS[match[2]]
        elif isinstance(raw, int) and not isinstance(raw, bool):
            value = raw
        else:
            raise ValueError(raw)
        if not self.minimum <= value <= self.maximum:
            raise ValueError(raw)
        return value


@dataclass(frozen=True, slots=True)
class Text:
    """A string that is not empty."""

    expected: str = "a string"
    unit: str = ""

    def parse(self, raw: object, *, text: bool) -> str:
        """Read a string."""
        if not isinstance(raw, str) or not raw.strip():
            raise ValueError(raw)
        return raw.strip()


@dataclass(frozen=True, slots=True)
class Texts:
    """Some words: a list of strings, in text with commas between them."""

    expected: str = "a list of strings, such as ['a', 'b'], or a,b"
    pattern: str = r".+"
    count_max: int = 256
    unit: str = ""

    def parse(self, raw: object, *, text: bool) -> tuple[str, ...]:
        """Read the words in their order."""
        items = [item.strip() for item in raw.split(",")] if text and isinstance(raw, str) else raw
        if not isinstance(items, list) or not 0 < len(items) <= self.count_max:
            raise ValueError(raw)
        if not all(isinstance(item, str) and re.fullmatch(self.pattern, item) for item in items):
            raise ValueError(raw)
        return tuple(items)


@dataclass(frozen=True, slots=True)
class Flag:
    """Yes or no."""

    expected: str = "true or false"
    unit: str = ""

    def parse(self, raw: object, *, text: bool) -> bool:
        """Read a boolean; in text 'true' and 'false', '1' and '0'."""
        if text and isinstance(raw, str):
            known = {"true": True, "1": True, "false": False, "0": False}
            if raw.lower() not in known:
                raise ValueError(raw)
            return known[raw.lower()]
        if not isinstance(raw, bool):
            raise ValueError(raw)
        return raw


@dataclass(frozen=True, slots=True)
class Name:
    """A name that is safe in a URL, a label and a file name."""

    reserved: tuple[str, ...] = ()
    unit: str = ""

    @property
    def expected(self) -> str:
        """What the setting takes."""
        but = f", but not {' or '.join(repr(word) for word in self.reserved)}" if self.reserved else ""
        return f"1 to 64 letters, digits, '.', '_' or '-', not only dots{but}"

    def parse(self, raw: object, *, text: bool) -> str:
        """Read a name."""
        if not isinstance(raw, str) or not re.fullmatch(r"[A-Za-z0-9._-]{1,64}", raw):
            raise ValueError(raw)
        # '.' and '..' vanish from the path of a URL.
        if not raw.strip(".") or raw in self.reserved:
            raise ValueError(raw)
        return raw


@dataclass(frozen=True, slots=True)
class OneOf:
    """One of the words of an enumeration."""

    choices: type[StrEnum]
    unit: str = ""

    @property
    def expected(self) -> str:
        """What the setting takes."""
        return f"one of {', '.join(repr(choice.value) for choice in self.choices)}"

    def parse(self, raw: object, *, text: bool) -> StrEnum:
        """Read one of the words."""
        if not isinstance(raw, str):
            raise ValueError(raw)
        return self.choices(raw)


@dataclass(frozen=True, slots=True)
class Location:
    """A path of the file system; a socket's is short."""

    socket: bool = False
    unit: str = ""

    @property
    def expected(self) -> str:
        """What the setting takes."""
        return f"a path of at most {SOCKET_PATH_BYTES_MAX} bytes" if self.socket else "a path"

    def parse(self, raw: object, *, text: bool) -> Path:
        """Read a path; '~' is the home folder."""
        if not isinstance(raw, str) or not raw or "\0" in raw:
            raise ValueError(raw)
        path = Path(raw).expanduser()
        if self.socket and len(bytes(path)) > SOCKET_PATH_BYTES_MAX:
            raise ValueError(raw)
        return path


@dataclass(frozen=True, slots=True)
class Setting:
    """One setting: its name, what it takes and what it is when nobody says anything."""

    name: str
    kind: Kind
    default: object

    @property
    def flag(self) -> str:
        """The setting's name on the command line."""
        return "--" + self.name.replace("_", "-")


def settings_of(cls: type) -> dict[str, Setting]:
    """Return the settings of a dataclass by name: its fields that are annotated with a kind."""
    hints = typing.get_type_hints(cls, include_extras=True)
    found: dict[str, Setting] = {}
    for field in dataclasses.fields(cls):
        for extra in getattr(hints[field.name], "__metadata__", ()):
            found[field.name] = Setting(field.name, extra, field.default)
    return found


def format_size(size: int) -> str:
    """Write a number of bytes with the largest unit that divides it."""
    for unit, factor in (("TiB", 1 << 40), ("GiB", 1 << 30), ("MiB", 1 << 20), ("KiB", 1 << 10)):
        if size and size % factor == 0:
            return f"{size // factor}{unit}"
    return str(size)
