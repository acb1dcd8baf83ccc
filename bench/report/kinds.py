"""The table of what became of each kind of traffic: in time, late, refused, and how soon it was refused."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from bench.report.findings import Cell, Findings, scenario_title
from bench.report.grid import Column, Grid, thousandth
from penstock.load.kinds import KindResult, Latency

__all__ = ["kinds_grid"]

HEADINGS = ("limit ms", "requests", "in time", "late", "refused", "timed out", "failed", "p50 ms", "p99 ms")
REFUSAL_HEADINGS = ("refused p50 ms", "refused p99 ms", "refused max ms", "Retry-After")
# A percentage to a hundredth: a limit speaks of 1 in 100.
DIGITS = 2


def kinds_grid(findings: Findings, name: str) -> Grid | None:
    """Make the table; None where there is but one kind of traffic and all of it was answered in time."""
    cells = [cell for cell in findings.of_scenario(name) if cell.phase.load is not None]
    rows = [_row(cell, number) for cell in cells for number in range(len(cell.kinds))]
    is_plain = all(len(cell.kinds) == 1 for cell in cells) and not any(_has_refusals(cell) for cell in cells)
    if not rows or is_plain:
        return None
    key = tuple(Column(heading, is_text=True) for heading in ("server", "load", "kind"))
    columns = (*key, *(Column(heading, 1) for heading in HEADINGS), *(Column(each, 2) for each in REFUSAL_HEADINGS))
    about = "Shares of a kind's requests. A refusal (503) counts from when its request was sent; all else as above."
    return Grid(f"{scenario_title(name)}, by kind of traffic", columns, tuple(rows), about)


def _row(cell: Cell, number: int) -> tuple[str, ...]:
    kinds = [sample.measurement.kinds[number] for sample in cell.used]
    first = kinds[0]
    counts = ("in_time", "late", "refused", "timed_out", "failed")
    return (
        cell.server.target,
        str(cell.phase),
        first.label,
        "" if first.slo_ms is None else f"{first.slo_ms:g}",
        f"{statistics.median(kind.requests for kind in kinds):,.0f}",
        *(_share(kinds, count) for count in counts),
        *(_median(kinds, lambda kind: kind.latency, which) for which in ("p50", "p99")),
        *(_median(kinds, lambda kind: kind.refusal, which) for which in ("p50", "p99", "max")),
        _retry_after(kinds),
    )


def _share(kinds: list[KindResult], count: str) -> str:
    shares = [getattr(kind, count) / kind.requests for kind in kinds if kind.requests]
    found = statistics.median(shares) if shares else 0.0
    return f"{found * 100:.{DIGITS}f} %" if found or count == "in_time" else ""


def _median(kinds: list[KindResult], of: Callable[[KindResult], Latency | None], which: str) -> str:
    values = [getattr(latency, which) for kind in kinds if (latency := of(kind)) is not None]
    return thousandth(statistics.median(values) if values else None)


def _retry_after(kinds: list[KindResult]) -> str:
    refused = [kind.retry_after_share for kind in kinds if kind.refused]
    return f"{statistics.median(refused):.0%}" if refused else ""


def _has_refusals(cell: Cell) -> bool:
    return any(kind.late or kind.refused or kind.timed_out for kind in cell.kinds)
