"""Where a setting was said, and what is wrong with it."""

from __future__ import annotations

import tomllib
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Any

from penstock.core.toml_lines import KeyPath, lines_of

__all__ = ["Mistake", "Origin", "Said", "Source", "WrittenLines"]


class Source(StrEnum):
    """The kinds of places where settings are said; later ones win."""

    DEFAULT = "default"
    FILE = "file"
    ARGUMENT = "argument"
    ENVIRONMENT = "environment"
    FLAG = "flag"


@dataclass(slots=True)
class WrittenLines:
    """The lines of a file's keys, looked for once somebody wants to know: a server that starts does not."""

    file: Path
    text: str
    _lines: dict[KeyPath, int] | None = None

    def line(self, key: KeyPath) -> int | None:
        """Return the line of a key, or of the nearest table around it."""
        if self._lines is None:
            try:
                self._lines = lines_of(self.text)
            except tomllib.TOMLDecodeError:
                self._lines = {}
        while key and key not in self._lines:
            key = key[:-1]
        return self._lines.get(key)


@dataclass(frozen=True, slots=True)
class Origin:
    """Where something was said. `name` is a variable, a flag or an argument as it was written."""

    source: Source
    name: str = ""
    written: WrittenLines | None = field(default=None, repr=False)
    key: KeyPath = ()

    @property
    def file(self) -> Path | None:
        """The file, of what stands in one."""
        return None if self.written is None else self.written.file

    @property
    def line(self) -> int | None:
        """The line of the file, counted from 1."""
        return None if self.written is None else self.written.line(self.key)

    def __str__(self) -> str:
        if self.written is not None:
            line = self.line
            return f"{self.written.file}" if line is None else f"{self.written.file}:{line}"
        return f"{self.source} {self.name}".rstrip()


@dataclass(frozen=True, slots=True)
class Said:
    """A value and where it comes from."""

    value: Any
    origin: Origin


@dataclass(frozen=True, slots=True)
class Mistake:
    """Something wrong. `setting` names what, such as "server.port"; `text` says it, and how it is mended."""

    text: str
    setting: str = ""
    file: Path | None = None
    line: int | None = None

    def __str__(self) -> str:
        if self.file is None:
            return self.text
        return f"{self.file}: {self.text}" if self.line is None else f"{self.file}: line {self.line}: {self.text}"
