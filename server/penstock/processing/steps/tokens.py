"""The step for text that a language model takes: its tokens."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from penstock.core.errors import ModelLoadError
from penstock.core.written_file import WrittenFile
from penstock.processing.steps.step import Column, Steps, given

__all__ = ["Tokens"]


@dataclass(frozen=True, slots=True)
class Tokens:
    """The numbers of a text's tokens, cut or padded to `length`: an input of the model by itself.

    `file` is a tokenizer.json beside the plan. `mask` and `types` name the inputs that say which tokens are padding (0)
    and which of two texts they are of; empty where the model has none.
    """

    file: str
    length: int
    mask: str = ""
    types: str = ""

    @classmethod
    def read(cls, reading: WrittenFile, members: Mapping[str, Any], where: str) -> Tokens:
        reading.members(members, where, needed=("tokens", "length"), allowed=("mask", "types"))
        file = reading.text(members["tokens"], f"{where}.tokens")
        path = PurePosixPath(file)
        if path.is_absolute() or ".." in path.parts:
            raise reading.error(f"{where}.tokens", f"is {file!r}: the file must lie in the plan's folder")
        names = {name: reading.text(members[name], f"{where}.{name}") for name in ("mask", "types") if name in members}
        return cls(file, reading.whole(members["length"], f"{where}.length", least=1), **names)

    def members(self) -> dict[str, Any]:
        return given(
            {"tokens": self.file, "length": self.length, "mask": self.mask or None, "types": self.types or None}
        )

    def emit(self, steps: Steps, column: Column) -> list[Column]:
        raise ModelLoadError(f"tokens of {column.name!r} are an input by themselves: nothing else can be done to it")

    def inputs(self, into: str) -> dict[str, str]:
        """Return the inputs that it fills, and what each of them holds: ids, mask or types."""
        return (
            {into: "ids"} | ({self.mask: "mask"} if self.mask else {}) | ({self.types: "types"} if self.types else {})
        )
