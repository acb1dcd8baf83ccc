"""One quiet look for all plots: no frames, no legends where a label does, colours that colour-blind people can tell."""

from __future__ import annotations

import io
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, LogLocator, NullFormatter
from PIL import Image

__all__ = [
    "BLUE",
    "BLUE_LIGHT",
    "GREY",
    "INK",
    "LIGHT",
    "MUTED",
    "ORANGE",
    "ORANGE_LIGHT",
    "PALE",
    "PURPLE",
    "WIDTH_INCHES",
    "EndLabel",
    "Part",
    "duration",
    "explain",
    "grid_of_panels",
    "label_ends",
    "latency_axis",
    "name_parts",
    "save",
    "styled",
]

# Okabe and Ito's palette for people who see colours differently: https://jfly.uni-koeln.de/color/
BLUE, ORANGE, PURPLE = "#0072b2", "#d55e00", "#9a4f80"
BLUE_LIGHT, ORANGE_LIGHT = "#8cc0e0", "#f0b48a"
INK, MUTED, GREY, LIGHT, PALE = "#1b1f24", "#59636e", "#8c959f", "#d0d7de", "#eaeef2"

STYLE: Any = {
    "text.parse_math": False,  # names come from files: a $ in one is a $
    "font.family": ["DejaVu Sans"],  # ships with matplotlib: plots look alike on every machine
    "font.size": 10.5,
    "text.color": INK,
    "axes.facecolor": "white",
    "figure.facecolor": "white",
    "axes.edgecolor": GREY,
    "axes.labelcolor": MUTED,
    "axes.labelsize": 10,
    "axes.linewidth": 0.8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 11.5,
    "axes.titleweight": "bold",
    "axes.titlelocation": "left",
    "axes.titlepad": 10,
    "axes.grid": True,
    "axes.axisbelow": True,
    "grid.color": PALE,
    "grid.linewidth": 0.8,
    "xtick.color": GREY,
    "ytick.color": GREY,
    "xtick.labelcolor": MUTED,
    "ytick.labelcolor": MUTED,
    "xtick.labelsize": 9.5,
    "ytick.labelsize": 9.5,
    "lines.linewidth": 1.8,
    "lines.markersize": 5.5,
    "figure.dpi": 100,
    "figure.constrained_layout.use": True,
    "figure.constrained_layout.h_pad": 0.08,
    "figure.constrained_layout.w_pad": 0.08,
    "figure.constrained_layout.wspace": 0.04,
    "figure.constrained_layout.hspace": 0.06,
}
WIDTH_INCHES = 10.0  # 1000 px, at twice the density
WIDTH_OF_ONE = 7.5
DENSITY = 200
COLOURS_OF_FILES = 64  # of a palette: a third of the bytes, and no difference to see
LABEL_GAP_POINTS = 13.0


@dataclass(frozen=True, slots=True)
class EndLabel:
    """A label at the end of a line, in the data's units."""

    x: float
    y: float
    text: str
    colour: str


@dataclass(frozen=True, slots=True)
class Part:
    """A part of stacked bars."""

    name: str
    colour: str


@contextmanager
def styled() -> Iterator[None]:
    """Draw in this style, without a display, until the block ends."""
    with mpl.rc_context(STYLE):
        yield


def grid_of_panels(count: int, most: int = 3, height: float = 3.3) -> tuple[Figure, list[Axes]]:
    """Make a figure as wide as a README with panels of one size, at most so many beside each other."""
    columns = 2 if count == 4 else min(count, most)
    rows = -(-count // columns)
    figure = Figure(figsize=(WIDTH_OF_ONE if count == 1 else WIDTH_INCHES, height * rows + 0.3))
    axes = figure.subplots(rows, columns, squeeze=False).flatten().tolist()
    for spare in axes[count:]:
        spare.set_visible(False)
    return figure, axes[:count]


def latency_axis(axis: Axes) -> None:
    """Make y a logarithmic axis of latencies in us, written with their units."""
    axis.set_yscale("log")
    axis.yaxis.set_major_locator(LogLocator(numticks=8))
    axis.yaxis.set_major_formatter(FuncFormatter(lambda value, _: duration(value)))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.tick_params(axis="y", which="minor", length=0)


def duration(us: float) -> str:
    """Write microseconds in the unit that fits."""
    for unit, size in (("s", 1e6), ("ms", 1e3)):
        if us >= size * 0.9995:
            return f"{us / size:.3g} {unit}" if us < size * 1000 else f"{us / size:,.0f} {unit}"
    return f"{us:.3g} µs"


def label_ends(axis: Axes, labels: Sequence[EndLabel]) -> None:
    """Write labels at the right edge, each led to from its point, moved apart where they would cover each other.

    The figure must be laid out already (`draw_without_rendering`): only then is it known where a point lies.
    """
    figure = axis.get_figure(root=True)
    if figure is None or not labels:
        return
    height = axis.get_window_extent().height * 72 / figure.dpi
    placed = sorted(labels, key=lambda label: label.y)
    to_axes = axis.transData + axis.transAxes.inverted()
    heights = [float(to_axes.transform((label.x, label.y))[1]) * height for label in placed]
    for label, moved in zip(placed, _apart(heights, LABEL_GAP_POINTS, height), strict=True):
        # The text is placed in the axes' own measure, which holds when making room for labels narrows them.
        axis.annotate(
            label.text,
            (label.x, label.y),
            xytext=(1.04, moved / height),
            textcoords="axes fraction",
            color=INK,
            fontsize=9.5,
            va="center",
            annotation_clip=False,
            arrowprops={"arrowstyle": "-", "color": label.colour, "lw": 0.9, "shrinkA": 1, "shrinkB": 4},
        )


def explain(figure: Figure, text: str) -> None:
    """Say above all panels what is drawn."""
    figure.suptitle(text, x=0.008, ha="left", fontsize=9.5, color=MUTED)


def name_parts(figure: Figure, parts: Sequence[Part]) -> None:
    """Say on one line above all panels which colour is what."""
    handles = [Patch(facecolor=part.colour, label=part.name) for part in parts]
    figure.legend(
        handles=handles,
        loc="outside upper left",
        ncols=len(parts),
        frameon=False,
        fontsize=9.5,
        labelcolor=INK,
        handlelength=0.9,
        handleheight=0.9,
        columnspacing=1.4,
        handletextpad=0.5,
    )


def save(figure: Figure, path: Path, source: str) -> Path:
    """Write a small PNG; `source` says at its foot where the figures come from."""
    figure.supxlabel(source, x=0.008, ha="left", fontsize=7.5, color=GREY)
    drawn = io.BytesIO()
    figure.savefig(drawn, format="png", dpi=DENSITY)
    with Image.open(drawn) as image:
        # The default method spends its palette on what covers much, and thin coloured lines turn grey.
        method = Image.Quantize.MAXCOVERAGE
        image.convert("RGB").quantize(COLOURS_OF_FILES, method, 3, dither=Image.Dither.NONE).save(path, optimize=True)
    return path


def _apart(heights: Sequence[float], gap: float, most: float) -> list[float]:
    """Move sorted heights until they are `gap` apart, each group around where it was, none above `most`."""
    groups: list[list[float]] = []
    for height in heights:
        groups.append([height])
        while len(groups) > 1 and _collide(groups[-2], groups[-1], gap):
            last = groups.pop()
            groups[-1] += last
    moved = [_middle(group) + gap * (number - (len(group) - 1) / 2) for group in groups for number in range(len(group))]
    return [min(height, most - gap * (len(moved) - 1 - number)) for number, height in enumerate(moved)]


def _collide(lower: Sequence[float], upper: Sequence[float], gap: float) -> bool:
    return _middle(upper) - _middle(lower) < gap * (len(lower) + len(upper)) / 2


def _middle(group: Sequence[float]) -> float:
    return sum(group) / len(group)
