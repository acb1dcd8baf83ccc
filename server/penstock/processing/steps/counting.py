"""Words of texts into matrices, natively."""

from __future__ import annotations

from functools import partial
from typing import Any

from numpy.typing import NDArray

from penstock.native import _kernels
from penstock.processing.steps.texts import Words, words_in

__all__ = ["WordCounter"]


class WordCounter:
    """Counts words as a step says. Used by one thread."""

    def __init__(self, words: Words) -> None:
        self._native = _kernels.Words(
            words.buckets or list(words.vocabulary),
            weights=list(words.weights),
            stop_words=list(words.stop_words),
            ngram_min=words.ngrams[0],
            ngram_max=words.ngrams[1],
            lower=words.lower,
            binary=words.binary,
            sublinear=words.sublinear,
            signs=words.signs,
            norm=words.norm,
        )
        self._split = partial(words_in, lower=words.lower)

    def write(self, texts: list[str], matrix: NDArray[Any], at: int) -> None:
        """Write the columns of each text into `matrix`, shape (texts, columns), from column `at` on."""
        self._native.run(texts, matrix, at, self._split)
