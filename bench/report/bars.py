"""Plots of what is counted: CPU per request by thread, sizes of batches, stages of the data plane."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import median

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from bench.report.findings import Cell, Findings, scenario_title
from bench.report.style import (
    BLUE,
    BLUE_LIGHT,
    GREY,
    INK,
    LIGHT,
    ORANGE,
    ORANGE_LIGHT,
    WIDTH_INCHES,
    Part,
    explain,
    grid_of_panels,
    name_parts,
)
from penstock.load.measurement import Cost

__all__ = ["draw_batches", "draw_cpu", "draw_stages"]

LOOP, WORKER = "main/penstock-io", "child/python"
OURS = (
    Part("I/O loop, user", BLUE),
    Part("I/O loop, system", BLUE_LIGHT),
    Part("worker, user", ORANGE),
    Part("worker, system", ORANGE_LIGHT),
    Part("other", "#e3d48a"),
)
THEIRS = (Part("user", GREY), Part("system", LIGHT))


def _cpu_parts(cell: Cell) -> dict[Part, float]:
    """Divide a cell's CPU per request (us): by thread for Penstock, by user and system for all others."""
    costs = [sample.measurement.cost for sample in cell.used if sample.measurement.cost is not None]
    if not costs:
        return {}
    split = [_by_thread(cost) if cell.server.is_ours else (cost.user_us, cost.system_us) for cost in costs]
    return dict(zip(OURS if cell.server.is_ours else THEIRS, map(median, zip(*split, strict=True)), strict=True))


def _by_thread(cost: Cost) -> tuple[float, ...]:
    parts = []
    for thread in (LOOP, WORKER):
        found = [clock for name, clock in cost.threads.items() if name.startswith(thread)]
        parts += [sum(user for user, _ in found), sum(system for _, system in found)]
    return (*parts, max(0.0, cost.cpu_us - sum(parts)))


def draw_cpu(findings: Findings) -> Figure | None:
    """Draw CPU per request by load, a stacked bar each; None when nothing was counted."""
    shown = {name: [cell for cell in _by_load(findings, name) if _cpu_parts(cell)] for name in findings.scenarios}
    shown = {name: cells for name, cells in shown.items() if cells}
    if not shown:
        return None
    figure, axes = grid_of_panels(len(shown))
    for axis, (name, cells) in zip(axes, shown.items(), strict=True):
        # The closed loop is no load: it stands apart.
        places = [number + 0.4 * (cell.phase.load is None) for number, cell in enumerate(cells)]
        for place, cell in zip(places, cells, strict=True):
            _stack(axis, place, cell)
        axis.set_title(scenario_title(name))
        axis.set_ylabel("CPU per request, µs")
        axis.set_xlabel("load, % of what a closed loop reaches")
        axis.set_xticks(places, [_load(cell) for cell in cells])
        axis.grid(visible=False, axis="x")
        axis.use_sticky_edges = False
        axis.margins(x=0.02, y=0.12)
        axis.set_ylim(bottom=0)
    everything = [_cpu_parts(cell) for cells in shown.values() for cell in cells]
    name_parts(figure, list(dict.fromkeys(part for parts in everything for part in parts if _is_seen(parts, part))))
    return figure


def _is_seen(parts: Mapping[Part, float], part: Part) -> bool:
    return parts[part] > 0.01 * sum(parts.values())


def _by_load(findings: Findings, name: str) -> list[Cell]:
    """Return the open loops, then the closed one, of one server."""
    server = findings.main_server(name)
    return findings.by_load(name, server) + [cell for cell in findings.closed(name) if cell.server == server]


def _load(cell: Cell) -> str:
    return "closed" if cell.phase.load is None else f"{cell.phase.load * 100:.0f}"


def _stack(axis: Axes, place: float, cell: Cell) -> None:
    bottom = 0.0
    for part, us in _cpu_parts(cell).items():
        face, edge, line = ("white", part.colour, 1.3) if cell.is_doubtful else (part.colour, "white", 0.6)
        axis.bar(place, us, 0.72, bottom, facecolor=face, edgecolor=edge, linewidth=line)
        bottom += us
    axis.annotate(
        f"{bottom:,.0f}" if bottom >= 100 else f"{bottom:.1f}",
        (place, bottom),
        xytext=(0, 3),
        textcoords="offset points",
        ha="center",
        fontsize=8.5,
        color=INK,
    )


def draw_batches(findings: Findings) -> Figure | None:
    """Draw how many batches were of which size, a row for each load; None when no server told."""
    shown = {name: [cell for cell in _by_load(findings, name) if _sizes(cell)] for name in findings.scenarios}
    shown = {name: cells for name, cells in shown.items() if cells}
    if not shown:
        return None
    figure, axes = grid_of_panels(len(shown))
    for axis, (name, cells) in zip(axes, shown.items(), strict=True):
        _draw_sizes(axis, cells)
        axis.set_title(scenario_title(name))
    explain(figure, "of 100 batches, so many were of this size")
    return figure


def _sizes(cell: Cell) -> dict[float, float]:
    """Return the share of batches by the upper bound of their size."""
    counts: dict[float, float] = {}
    for sample in cell.used:
        for bound, count in sample.batch_sizes.items():
            counts[float(bound)] = counts.get(float(bound), 0.0) + count
    total = sum(counts.values())
    return {bound: count / total for bound, count in sorted(counts.items())} if total else {}


def _draw_sizes(axis: Axes, cells: Sequence[Cell]) -> None:
    bounds = sorted({bound for cell in cells for bound in _sizes(cell)})
    shares = np.array([[_sizes(cell).get(bound, 0.0) for bound in bounds] for cell in cells])
    colours = LinearSegmentedColormap.from_list("shares", ["white", BLUE])
    axis.imshow(shares, cmap=colours, vmin=0, vmax=1, aspect="auto", interpolation="nearest")
    for row, column in np.ndindex(*shares.shape):
        share = shares[row, column]
        if share >= 0.005:
            colour = "white" if share > 0.55 else INK
            axis.text(column, row, f"{share * 100:.0f}", ha="center", va="center", fontsize=8.5, color=colour)
    axis.set_xticks(range(len(bounds)), _ranges(bounds))
    axis.set_yticks(range(len(cells)), [_load(cell) + (" °" if cell.is_doubtful else "") for cell in cells])
    axis.set_xlabel("rows in a batch")
    axis.set_ylabel("load, %")
    axis.grid(visible=False)
    axis.spines[:].set_visible(False)
    axis.tick_params(length=0)


def _ranges(bounds: Sequence[float]) -> list[str]:
    """Name what lies between each bound and the one below."""
    names = []
    below = 0.0
    for bound in bounds:
        if np.isinf(bound):
            names.append(f">{below:.0f}")
        else:
            names.append(f"{bound:.0f}" if bound - below <= 1 else f"≤{bound:.0f}")
        below = bound
    return names


@dataclass(frozen=True, slots=True)
class _Stage:
    """A stage of the replay, or what is left of a path without the stages that it holds."""

    part: Part
    whole: str
    without: tuple[str, ...] = ()

    def ns(self, case: Mapping[str, float]) -> float:
        return max(0.0, case.get(self.whole, 0.0) - sum(case.get(stage, 0.0) for stage in self.without))


STAGES = (
    _Stage(Part("reading from the socket", LIGHT), "path_in", ("head", "decode", "submit")),
    _Stage(Part("head", "#56b4e9"), "head"),
    _Stage(Part("decode", BLUE), "decode"),
    _Stage(Part("submit", "#009e73"), "submit"),
    _Stage(Part("work", "#e69f00"), "work"),
    _Stage(Part("answer", ORANGE), "answer"),
    _Stage(Part("writing to the socket", GREY), "path_out", ("answer",)),
)


def draw_stages(findings: Findings) -> Figure | None:
    """Draw nanoseconds per request by stage of the data plane, a bar for each case; None without a replay."""
    cases = sorted(findings.stages.items(), reverse=True)
    if not cases:
        return None
    figure = Figure(figsize=(WIDTH_INCHES, 0.9 + 0.42 * len(cases)))
    axis = figure.subplots()
    for number, (_, case) in enumerate(cases):
        left = 0.0
        for stage in STAGES:
            axis.barh(number, stage.ns(case), 0.62, left, color=stage.part.colour, edgecolor="white", linewidth=0.6)
            left += stage.ns(case)
        axis.annotate(
            f"{left:,.0f}", (left, number), xytext=(4, 0), textcoords="offset points", va="center", fontsize=9
        )
    axis.set_yticks(range(len(cases)), [name for name, _ in cases])
    axis.tick_params(axis="y", length=0)
    axis.set_xlabel("ns per request")
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.grid(visible=False, axis="y")
    axis.margins(x=0.06)
    name_parts(figure, [stage.part for stage in STAGES])
    return figure
