"""The step for text: its words, counted."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

from penstock.core.errors import ModelLoadError
from penstock.core.written_file import WrittenFile
from penstock.processing.steps.step import RESERVED, Column, Steps, UnlearnedError, given, numbers_of

__all__ = ["Words", "words_in"]

# Of words that are learned, unless another number is given.
_MOST = 10_000
# Two or more letters, digits and underscores of any language.
_WORD = re.compile(r"\b\w\w+\b")


def words_in(text: str, *, lower: bool = True) -> list[str]:
    """Split text into words; kernels/words.hpp does it for text that is ASCII."""
    return _WORD.findall(text.lower() if lower else text)


@dataclass(frozen=True, slots=True)
class Words:
    """A column for each word of a vocabulary, or for each bucket of their hashes.

    It has the count of the word ("counts"), the count times the word's weight ("tf-idf": the rarer, the more), or the
    counts of all words of the bucket ("hash"). `ngrams` are the least and the greatest number of neighbouring words
    that are counted as one. `least` rows must have a word that is learned, and of those the `most` frequent ones are.
    """

    KINDS: ClassVar = ("counts", "tf-idf", "hash")
    NORMS: ClassVar = ("none", "l1", "l2")

    kind: str
    vocabulary: tuple[str, ...] = ()
    weights: tuple[float, ...] = ()
    buckets: int = 0
    ngrams: tuple[int, int] = (1, 1)
    lower: bool = True
    binary: bool = False
    sublinear: bool = False
    signs: bool = False
    norm: str = "l2"
    stop_words: tuple[str, ...] = ()
    least: int = 1
    most: int = _MOST

    @classmethod
    def read(cls, reading: WrittenFile, members: Mapping[str, Any], where: str) -> Words:
        kind = reading.choice(members["words"], f"{where}.words", cls.KINDS)
        own = {"hash": ("buckets", "signs"), "counts": ("vocabulary", "least", "most")}
        own["tf-idf"] = (*own["counts"], "weights")
        allowed = (*own[kind], "ngrams", "lower", "binary", "sublinear", "norm", "stop-words")
        reading.members(members, where, needed=("words",), allowed=allowed)
        flags = {
            name: reading.flag(members.get(name, default), f"{where}.{name}")
            for name, default in (("lower", True), ("binary", False), ("sublinear", False), ("signs", False))
        }
        words = cls(
            kind,
            _texts(reading, members.get("vocabulary", []), f"{where}.vocabulary"),
            numbers_of(reading, members.get("weights", []), f"{where}.weights"),
            reading.whole(members.get("buckets", 0), f"{where}.buckets"),
            _ngrams(reading, members.get("ngrams", [1, 1]), f"{where}.ngrams"),
            norm=reading.choice(members.get("norm", "none" if kind == "counts" else "l2"), f"{where}.norm", cls.NORMS),
            stop_words=_texts(reading, members.get("stop-words", []), f"{where}.stop-words"),
            least=reading.whole(members.get("least", 1), f"{where}.least", least=1),
            most=reading.whole(members.get("most", _MOST), f"{where}.most", least=1),
            **flags,
        )
        if kind == "hash" and not words.buckets:
            raise reading.error(where, "has no member 'buckets', their number")
        if len(set(words.vocabulary)) != len(words.vocabulary):
            raise reading.error(f"{where}.vocabulary", "has a word twice")
        if kind == "tf-idf" and len(words.weights) != len(words.vocabulary):
            raise reading.error(f"{where}.weights", "must be as many as the words of the vocabulary")
        return words

    def members(self) -> dict[str, Any]:
        members = {
            "words": self.kind,
            "ngrams": None if self.ngrams == (1, 1) else list(self.ngrams),
            "norm": self.norm,
            "binary": self.binary,
            "sublinear": self.sublinear,
            "signs": self.signs,
            "stop-words": list(self.stop_words),
            "buckets": self.buckets or None,
            "vocabulary": list(self.vocabulary),
            "weights": list(self.weights),
            # What is still to be learned.
            "least": None if self.width or self.least == 1 else self.least,
            "most": None if self.width or self.most == _MOST else self.most,
        }
        return given(members) | ({} if self.lower else {"lower": False})

    @property
    def width(self) -> int:
        """How many columns it makes."""
        return self.buckets or len(self.vocabulary)

    def emit(self, steps: Steps, column: Column) -> list[Column]:
        if not self.width:
            raise UnlearnedError(
                f"words of {column.name!r} has no 'vocabulary': learn it with penstock fit, or give it"
            )
        labels = self.vocabulary or tuple(f"#{place}" for place in range(self.buckets))
        return [
            replace(
                column,
                x=RESERVED,
                width=self.width,
                labels=tuple(f"{column.name}={label}" for label in labels),
                words=self,
            )
        ]

    def learned(self, texts: Sequence[str], name: str) -> Words:
        """Return it with the vocabulary of these texts, in the order of the alphabet, and its weights."""
        if self.width:
            return self
        counts: Counter[str] = Counter()
        rows: Counter[str] = Counter()
        for text in texts:
            terms = list(self._terms(text))
            counts.update(terms)
            rows.update(set(terms))
        if self.binary:
            counts = rows  # once in a row, however often it is there
        frequent = [term for term in sorted(counts) if rows[term] >= self.least]
        frequent = sorted(sorted(frequent, key=lambda term: -counts[term])[: self.most])
        if not frequent:
            raise ModelLoadError(f"words of {name!r}: no word is in {self.least} rows, so none can be learned")
        if self.kind != "tf-idf":
            return replace(self, vocabulary=tuple(frequent))
        weights = tuple(math.log((1 + len(texts)) / (1 + rows[term])) + 1 for term in frequent)
        return replace(self, vocabulary=tuple(frequent), weights=weights)

    def _terms(self, text: str) -> Iterator[str]:
        words = [word for word in words_in(text, lower=self.lower) if word not in self.stop_words]
        for length in range(self.ngrams[0], self.ngrams[1] + 1):
            for first in range(len(words) - length + 1):
                yield " ".join(words[first : first + length])


def _texts(reading: WrittenFile, value: object, where: str) -> tuple[str, ...]:
    items: Iterable[Any] = reading.items(value, where, "words")
    return tuple(reading.text(item, f"{where}[{place}]") for place, item in enumerate(items))


def _ngrams(reading: WrittenFile, value: object, where: str) -> tuple[int, int]:
    items = reading.items(value, where, "two numbers, the least and the greatest")
    if len(items) != 2 or not all(type(item) is int for item in items) or not 1 <= items[0] <= items[1] <= 8:
        raise reading.error(where, "must be two numbers from 1 to 8, the least and the greatest")
    return items[0], items[1]
