"""The requests of a run, written beforehand: many different rows, of one or several kinds of traffic."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from penstock.load.dialects import Dialect, request_bytes
from penstock.load.rows import Row, TensorSpec

__all__ = ["Corpus", "Traffic"]


@dataclass(frozen=True, slots=True)
class Traffic:
    """One kind of request: rows for one model, in one dialect, with a share of all requests and a latency to keep.

    `expected` are the answers to the rows, where they are known.
    """

    model: str
    dialect: Dialect
    rows: Sequence[Row]
    outputs: Sequence[TensorSpec]
    share: float = 1.0
    slo_ms: float | None = None
    expected: Sequence[Row] | None = None
    headers: tuple[tuple[str, str], ...] = ()
    name: str = ""  # where one model has several kinds
    arrivals: str = ""  # where it does not arrive as the others do


@dataclass(frozen=True, slots=True)
class Corpus:
    """Every distinct request as bytes: request i is requests[offsets[i]:offsets[i + 1]] and of traffics[kinds[i]]."""

    traffics: tuple[Traffic, ...]
    requests: NDArray[np.int8]
    offsets: NDArray[np.uint64]
    kinds: NDArray[np.uint32]
    firsts: tuple[int, ...]

    @classmethod
    def of(cls, traffics: Sequence[Traffic], host: str = "penstock") -> Corpus:
        """Write all requests."""
        pieces: list[bytes] = []
        kinds: list[int] = []
        firsts: list[int] = []
        for kind, traffic in enumerate(traffics):
            firsts.append(len(pieces))
            for row in traffic.rows:
                pieces.append(request_bytes(host, traffic.dialect.request(traffic.model, row), traffic.headers))
                kinds.append(kind)
        offsets = np.cumsum([0, *map(len, pieces)], dtype=np.uint64)
        requests = np.frombuffer(b"".join(pieces), np.int8)
        return cls(tuple(traffics), requests, offsets, np.array(kinds, np.uint32), tuple(firsts))

    def picks(self, count: int, seed: int = 1, kinds: NDArray[np.uint32] | None = None) -> NDArray[np.uint32]:
        """Choose the request of each of `count` arrivals: the kind that is given, or one by its share; then any row."""
        # Not the stream of numbers that the schedule of the same seed is made from: kinds and gaps would go together.
        generator = np.random.default_rng([seed, 1])
        if kinds is None:
            shares = np.array([traffic.share for traffic in self.traffics])
            kinds = generator.choice(len(self.traffics), size=count, p=shares / shares.sum()).astype(np.uint32)
        sizes = np.array([len(traffic.rows) for traffic in self.traffics])
        chosen = np.array(self.firsts)[kinds] + (generator.random(count) * sizes[kinds]).astype(np.int64)
        return np.asarray(chosen, np.uint32)

    def request(self, pick: int) -> tuple[Traffic, int]:
        """Return the traffic of a request and which of its rows it carries."""
        kind = int(self.kinds[pick])
        return self.traffics[kind], pick - self.firsts[kind]

    @property
    def mean_bytes(self) -> float:
        """Mean size of a request, head included."""
        return len(self.requests) / max(1, len(self.kinds))
