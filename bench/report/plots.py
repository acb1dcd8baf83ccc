"""Every plot of a report, each with the sentence that says how to read it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from textwrap import shorten

from matplotlib.figure import Figure

from bench.report.bars import draw_batches, draw_cpu, draw_stages
from bench.report.curves import draw_distribution, draw_latency
from bench.report.findings import Findings, scenario_title
from bench.report.rivals import draw_rivals
from bench.report.style import save, styled

__all__ = ["Plot", "draw_plots"]


@dataclass(frozen=True, slots=True)
class Plot:
    """A picture with its title and how to read it."""

    title: str
    reading: str
    path: Path


@dataclass(frozen=True, slots=True)
class _Drawing:
    name: str
    title: str
    reading: str
    draw: Callable[[Findings], Figure | None]


HOLLOW = "Hollow: the generator fell behind, or other work disturbed the machine."
DRAWINGS = (
    _Drawing(
        "latency",
        "Latency by load",
        "Load arrives at planned times whatever the answers do, so a latency holds the time that a request had to wait "
        "to be sent. Where the lines rise the server is full; shades behind points show the least and most round.",
        draw_latency,
    ),
    _Drawing(
        "distribution",
        "Latency by percentile",
        "One line a load, from light (little) to dark (much). Each step to the right is ten times rarer; a line that "
        "stays flat has no tail.",
        draw_distribution,
    ),
    _Drawing(
        "cpu",
        "CPU per request",
        "What the server's processes take for a request, by thread. Bars shrink to the right because more rows share a "
        "batch, and with it the waking, taking and completing.",
        draw_cpu,
    ),
    _Drawing(
        "batches",
        "Sizes of batches",
        "A row is a load; a cell says how many of 100 batches were of that size. Batches grow with the load by "
        "themselves: ° marks void or noisy loads.",
        draw_batches,
    ),
    _Drawing(
        "stages",
        "Time by stage of the data plane",
        "Fixed requests replayed on one thread over local sockets, with a model that does next to nothing: nanoseconds "
        "per request by stage.",
        draw_stages,
    ),
)


def draw_plots(findings: Findings, folder: Path) -> list[Plot]:
    """Draw what there are figures for, as PNG files into a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    with styled():
        return list(_plots(findings, folder))


def _plots(findings: Findings, folder: Path) -> Iterator[Plot]:
    source = _source(findings)
    for number, scenario in enumerate(findings.beside_rivals(), 1):
        figure = draw_rivals(findings, scenario)
        if figure is not None:
            reading = (
                "Closed loop; every server with the same model and one thread for it. Black lines: least to most "
                f"round. nginx, which computes nothing, is left out where it would dwarf all others. {HOLLOW}"
            )
            path = save(figure, folder / f"rivals-{_file_name(scenario, number)}.png", source)
            yield Plot(f"{scenario_title(scenario)}, beside others", reading, path)
    for drawing in DRAWINGS:
        figure = drawing.draw(findings)
        if figure is not None:
            reading = drawing.reading if drawing.name in ("batches", "stages") else f"{drawing.reading} {HOLLOW}"
            yield Plot(drawing.title, reading, save(figure, folder / f"{drawing.name}.png", source))


def _source(findings: Findings) -> str:
    results = findings.results
    if not results:
        return ""
    machine = results[0].machine
    command = " + ".join(dict.fromkeys(f"python -m bench {each.command}" for each in results))
    hollow = "  ·  hollow: void or noisy" if any(cell.is_doubtful for cell in findings.cells) else ""
    made = f"{results[0].revision[:9]}  ·  {results[0].date[:10]}"
    shown = shorten(command, 80, placeholder=" …")
    return f"{shown}  ·  {machine.cores} x {machine.cpu}  ·  {made}{hollow}"


def _file_name(scenario: str, number: int) -> str:
    """Names of scenarios come from files; one that is no plain word gets a number instead."""
    return scenario if scenario.replace("-", "").isalnum() and scenario.isascii() else str(number)
