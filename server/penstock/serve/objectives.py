"""Objectives that no schedule can keep, seen as soon as it is known what batches cost."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from penstock.core.config import ModelConfig

__all__ = ["Priced", "unkeepable_objectives"]

# A block of a ring in a group, the smallest thing that runs, has this share of max_batch_size.
_BLOCKS_OF_A_GROUP = 64
_BLOCK_ROWS_MAX = 16


@dataclass(frozen=True, slots=True)
class Priced:
    """A model, and the seconds that its batches take at the 99th percentile: `curve` by rows, ascending.

    Where rows vary in length, the curve is that of the longest.
    """

    config: ModelConfig
    max_batch_size: int
    curve: tuple[tuple[int, float], ...]

    @property
    def block_rows(self) -> int:
        """How many rows the smallest thing has that runs in a group."""
        lengths, tokens = self.config.lengths, self.config.max_batch_tokens
        most = min(self.max_batch_size, tokens // lengths[-1]) if lengths and tokens else self.max_batch_size
        return min(max(1, most // _BLOCKS_OF_A_GROUP), _BLOCK_ROWS_MAX)

    def milliseconds(self, rows: int) -> float:
        """Return what a batch of `rows` takes, filled up to the smallest size that may run."""
        rows = max((rows, *self.config.batch_sizes[:1]))
        for (below, shorter), (above, longer) in pairwise(self.curve):
            if below <= rows <= above:
                return 1e3 * (shorter + (longer - shorter) * (rows - below) / (above - below))
        return 1e3 * self.curve[-1][1]

    def rows_said(self, rows: int) -> str:
        """Return what a warning calls a batch of `rows`."""
        said = "1 row" if rows == 1 else f"{rows} rows"
        return f"{said} of length {self.config.lengths[-1]}" if self.config.lengths else said


def unkeepable_objectives(models: Sequence[Priced]) -> Iterator[tuple[ModelConfig, str]]:
    """Say which objectives cannot be kept, and what to do. `models` share workers."""
    for model in models:
        slo_ms, row_ms = model.config.slo_ms, model.milliseconds(1)
        if 0 < slo_ms < row_ms:
            yield (
                model.config,
                f"{model.rows_said(1)} takes {row_ms:.3g} ms at the 99th percentile and slo_ms is {slo_ms}: such "
                "requests are refused (deadline_unreachable), but for a few that probe. Set slo_ms to at least twice "
                "what a row takes, or 0 for none, or make the model faster",
            )
        for other in models:
            block_ms = other.milliseconds(other.block_rows)
            if other is not model and 0 < slo_ms < block_ms:
                yield model.config, _in_the_way(model.config, other, block_ms)


def _in_the_way(config: ModelConfig, other: Priced, block_ms: float) -> str:
    rows = other.rows_said(other.block_rows)
    smaller = f"lower max_batch_size of {other.config.name!r}, " if other.block_rows > 1 else ""
    return (
        f"the smallest batch of model {other.config.name!r} of the same group, {rows}, takes "
        f"{block_ms:.3g} ms at the 99th percentile and slo_ms of {config.name!r} is {config.slo_ms}: its rows that "
        f"come meanwhile are late. Give the two models different groups, {smaller}or raise slo_ms of {config.name!r}"
    )
