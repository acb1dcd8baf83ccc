"""Plots of latency: by load, and by percentile."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from hdrh.histogram import HdrHistogram  # type: ignore[import-untyped]
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.colors import to_hex
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, NullLocator
from numpy.typing import NDArray

from bench.report.findings import Cell, Findings, scenario_title
from bench.report.style import (
    BLUE,
    GREY,
    ORANGE,
    PURPLE,
    EndLabel,
    duration,
    grid_of_panels,
    label_ends,
    latency_axis,
)
from bench.spread import Spread, spread
from penstock.load.measurement import Latency

__all__ = ["draw_distribution", "draw_latency"]


@dataclass(frozen=True, slots=True)
class _Percentile:
    label: str
    figure: Callable[[Latency], float]
    colour: str
    style: str


PERCENTILES = (
    _Percentile("p50", lambda latency: latency.p50, BLUE, "-"),
    _Percentile("p99", lambda latency: latency.p99, ORANGE, "--"),
    _Percentile("p99.9", lambda latency: latency.p999, PURPLE, ":"),
)


@dataclass(frozen=True, slots=True)
class _Panel:
    """A scenario, or one kind of its traffic where kinds have limits of their own."""

    title: str
    cells: tuple[Cell, ...]
    kind: int | None
    slo_ms: float | None

    def latency(self, cell: Cell, figure: Callable[[Latency], float]) -> Spread | None:
        """Summarise a latency of the panel's traffic."""
        if self.kind is None:
            return cell.latency(figure)
        kinds = [sample.measurement.kinds[self.kind].latency for sample in cell.used]
        known = [figure(latency) for latency in kinds if latency is not None]
        return spread(known) if known else None


def draw_latency(findings: Findings) -> Figure | None:
    """Draw percentiles against the load; None when no scenario has two loads."""
    panels = [panel for name in findings.scenarios for panel in _panels(findings, name)]
    if not panels:
        return None
    figure, axes = grid_of_panels(len(panels))
    for axis, panel in zip(axes, panels, strict=True):
        _draw_panel(axis, panel)
    figure.draw_without_rendering()
    for axis, panel in zip(axes, panels, strict=True):
        _label_panel(axis, panel)
    return figure


def _panels(findings: Findings, name: str) -> list[_Panel]:
    cells = tuple(findings.by_load(name, findings.main_server(name)))
    if sum(cell.latency(PERCENTILES[0].figure) is not None for cell in cells) < 2:
        return []
    kinds = cells[0].kinds
    title = scenario_title(name)
    if len({kind.slo_ms for kind in kinds}) < 2:
        return [_Panel(title, cells, None, kinds[0].slo_ms if kinds else None)]
    return [_Panel(f"{title}: {kind.model}", cells, number, kind.slo_ms) for number, kind in enumerate(kinds)]


def _draw_panel(axis: Axes, panel: _Panel) -> None:
    latency_axis(axis)
    for percentile in PERCENTILES:
        known = [(cell, found) for cell in panel.cells if (found := panel.latency(cell, percentile.figure))]
        loads = [(cell.phase.load or 0.0) * 100 for cell, _ in known]
        medians = [found.median for _, found in known]
        axis.plot(loads, medians, percentile.style, color=percentile.colour)
        for (cell, found), load, median in zip(known, loads, medians, strict=True):
            axis.plot([load] * 2, [found.least, found.most], color=percentile.colour, lw=3.5, alpha=0.22)
            face = "white" if cell.is_doubtful else percentile.colour
            axis.plot(load, median, "o", color=percentile.colour, mfc=face, mew=1.4, zorder=3)
    if panel.slo_ms is not None:
        axis.axhline(panel.slo_ms * 1e3, color=GREY, lw=1.0)
    axis.set_title(panel.title)
    axis.set_xlabel("load, % of what a closed loop reaches")
    axis.set_ylabel("latency")
    axis.margins(x=0.04, y=0.12)
    axis.set_xticks([(cell.phase.load or 0.0) * 100 for cell in panel.cells])
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:.0f}"))


def _label_panel(axis: Axes, panel: _Panel) -> None:
    labels = []
    for percentile in PERCENTILES:
        known = [(cell, found) for cell in panel.cells if (found := panel.latency(cell, percentile.figure))]
        cell, last = known[-1]
        labels.append(EndLabel((cell.phase.load or 0.0) * 100, last.median, percentile.label, percentile.colour))
    if panel.slo_ms is not None:
        right = axis.get_xlim()[1]
        labels.append(EndLabel(right, panel.slo_ms * 1e3, f"limit {duration(panel.slo_ms * 1e3)}", GREY))
    label_ends(axis, labels)


def draw_distribution(findings: Findings) -> Figure | None:
    """Draw the whole distribution by percentile, one line a load; None when there is no histogram."""
    names = [name for name in findings.scenarios if any(map(_has_histogram, _shown(findings, name)))]
    if not names:
        return None
    figure, axes = grid_of_panels(len(names), most=2)
    labels = []
    for axis, name in zip(axes, names, strict=True):
        labels.append(_draw_lines(axis, _shown(findings, name)))
        axis.set_title(scenario_title(name))
    figure.draw_without_rendering()
    for axis, ends in zip(axes, labels, strict=True):
        label_ends(axis, ends)
    return figure


def _shown(findings: Findings, name: str) -> list[Cell]:
    return findings.by_load(name, findings.main_server(name))


def _has_histogram(cell: Cell) -> bool:
    return any(sample.measurement.histogram for sample in cell.used if sample.measurement.latency is not None)


def _draw_lines(axis: Axes, cells: Sequence[Cell]) -> list[EndLabel]:
    latency_axis(axis)
    known = [cell for cell in cells if _has_histogram(cell)]
    shades = colormaps["viridis"](np.linspace(0.78, 0.05, len(known)))
    labels = []
    for cell, shade in zip(known, map(to_hex, shades), strict=True):
        rarity, us = _by_rarity(cell)
        axis.plot(rarity, us, color=shade, drawstyle="steps-post", lw=1.5)
        face = "white" if cell.is_doubtful else shade
        axis.plot(rarity[-1], us[-1], "o", color=shade, mfc=face, ms=4.5, zorder=3)
        labels.append(EndLabel(float(rarity[-1]), float(us[-1]), f"{(cell.phase.load or 0) * 100:.0f} %", shade))
    axis.set_xscale("log")
    decades = range(1, int(np.ceil(np.log10(axis.get_xlim()[1]))) + 1)
    axis.xaxis.set_major_locator(FixedLocator([2.0, *(10.0**power for power in decades)]))
    axis.xaxis.set_minor_locator(NullLocator())
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{100 - 100 / value:.10g}"))
    axis.set_xlim(left=1)
    axis.set_xlabel("percentile")
    axis.set_ylabel("latency")
    return labels


def _by_rarity(cell: Cell) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Return the latency (us) that one in so many requests reaches, over all rounds that count."""
    values, counts = [], []
    for sample in cell.used:
        if sample.measurement.histogram:
            histogram = HdrHistogram.decode(sample.measurement.histogram)
            # Its own iterators take a second for each histogram, most of it for slots that hold nothing.
            slots = np.ctypeslib.as_array(histogram.counts)
            filled = np.flatnonzero(slots)
            values += [histogram.get_value_from_index(slot) for slot in filled.tolist()]
            counts += slots[filled].tolist()
    latencies, weights = np.array(values, dtype=float), np.array(counts, dtype=float)
    order = np.argsort(latencies)
    below = np.cumsum(weights[order])
    rarity = below[-1] / np.maximum(below[-1] - below + weights[order], 1.0)
    return rarity, latencies[order]
