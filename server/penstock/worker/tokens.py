"""Texts into tokens. The one door to the tokenizers library."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from penstock.core.errors import ModelLoadError
from penstock.processing.steps.tokens import Tokens
from penstock.worker.arrays import Array

__all__ = ["Tokenizer"]


class Tokenizer:
    """Cuts texts into the tokens of a tokenizer.json. Used by one thread."""

    def __init__(self, folder: Path, step: Tokens) -> None:
        """Raises ModelLoadError when the file cannot be read, or the library is not installed."""
        try:
            from tokenizers import Tokenizer as Library
        except ImportError as error:
            raise ModelLoadError("tokens need a library: run pip install 'penstock[tokens]'") from error
        file = folder / step.file
        try:
            self._library = Library.from_file(str(file))
        except Exception as error:  # the library raises Exception itself
            raise ModelLoadError(f"{file}: is no tokenizer that can be read: {error}") from error
        self._library.enable_truncation(step.length)
        padding = self._library.padding or {}
        self._library.enable_padding(
            **{name: padding[name] for name in ("direction", "pad_id", "pad_type_id", "pad_token") if name in padding},
            length=step.length,
        )

    def arrays(self, texts: list[str], parts: list[str]) -> list[Array]:
        """Return "ids", "mask" or "types" as asked, int64 of shape (texts, length) each."""
        encodings = self._library.encode_batch_fast(texts)
        read = {
            "ids": lambda of: of.ids,
            "mask": lambda of: of.attention_mask,
            "types": lambda of: of.type_ids,
        }
        return [np.array([read[part](of) for of in encodings], np.int64) for part in parts]
