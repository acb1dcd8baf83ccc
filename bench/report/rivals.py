"""The plot of rivals side by side: requests per second and CPU per request."""

from __future__ import annotations

from operator import attrgetter

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from bench.report.findings import Cell, Findings, Server
from bench.report.style import BLUE, BLUE_LIGHT, GREY, INK, LIGHT, MUTED, WIDTH_INCHES

__all__ = ["draw_rivals"]

NAMES = {
    "penstock": "Penstock",
    "nginx": "nginx (computes nothing)",
    "bentoml": "BentoML",
    "fastapi": "FastAPI",
    "flask": "Flask",
    "litserve": "LitServe",
    "mlserver": "MLServer",
    "mosec": "Mosec",
    "mosec-msgpack": "Mosec, msgpack",
    "ray": "Ray Serve",
    "torchserve": "TorchServe",
    "triton-native": "Triton, ONNX Runtime",
    "triton-py": "Triton, Python",
}


YARDSTICK = "nginx"
# Where the model is heavy, a server that computes nothing would make all others look alike.
DWARFS = 2.5


def draw_rivals(findings: Findings, scenario: str) -> Figure | None:
    """Draw every server's closed loop, the quickest on top; None when there is only one server."""
    cells = sorted((cell for cell in findings.closed(scenario) if _rate(cell) > 0), key=_rate)
    highest = max((_rate(cell) for cell in cells if cell.server.target != YARDSTICK), default=0.0)
    cells = [cell for cell in cells if cell.server.target != YARDSTICK or _rate(cell) < DWARFS * highest]
    if len({cell.server.target for cell in cells}) < 2:
        return None
    figure = Figure(figsize=(WIDTH_INCHES, 0.95 + 0.36 * len(cells)))
    rates, costs = figure.subplots(1, 2, sharey=True, width_ratios=[1.15, 1])
    for number, cell in enumerate(cells):
        _draw_rate(rates, number, cell)
        _draw_cost(costs, number, cell)
    rates.set_yticks(range(len(cells)), [_name(cell.server) for cell in cells])
    for label, cell in zip(rates.get_yticklabels(), cells, strict=True):
        label.set_color(INK if cell.server.is_ours else MUTED)
        label.set_fontweight("bold" if cell.server.is_ours else "normal")
    connections = cells[0].phase.connections
    _finish(rates, f"Requests per second, {connections} connections", "requests/s")
    _finish(costs, "Server CPU per request", "µs, of them in the kernel: light")
    return figure


def _rate(cell: Cell) -> float:
    return cell.median(attrgetter("answered_rate")) or 0.0


def _name(server: Server) -> str:
    if server.is_ours:
        return f"Penstock, {server.dialect if server.dialect != 'json' else 'JSON'}"
    return NAMES.get(server.target, server.target)


def _draw_rate(axis: Axes, place: int, cell: Cell) -> None:
    found = cell.spread(attrgetter("answered_rate"))
    if found is None:
        return
    colour = BLUE if cell.server.is_ours else LIGHT
    _bar(axis, place, 0.0, found.median, colour, hollow=cell.is_doubtful)
    axis.plot([found.least, found.most], [place, place], color=INK, lw=1.0, solid_capstyle="butt")
    _label(axis, place, max(found.most, found.median), f"{found.median:,.0f}", strong=cell.server.is_ours)


def _draw_cost(axis: Axes, place: int, cell: Cell) -> None:
    shades = (BLUE, BLUE_LIGHT) if cell.server.is_ours else (GREY, LIGHT)
    left = 0.0
    user = cell.median(lambda run: run.cost.user_us if run.cost else None) or 0.0
    system = cell.median(lambda run: run.cost.system_us if run.cost else None) or 0.0
    for us, shade in zip((user, system), shades, strict=True):
        _bar(axis, place, left, us, shade, hollow=cell.is_doubtful)
        left += us
    if left:
        _label(axis, place, left, f"{left:,.0f}" if left >= 100 else f"{left:.1f}", strong=cell.server.is_ours)


def _bar(axis: Axes, place: int, left: float, width: float, colour: str, *, hollow: bool) -> None:
    if hollow:
        axis.barh(place, width, 0.62, left, facecolor="white", edgecolor=colour if colour != LIGHT else GREY, lw=1.2)
    else:
        axis.barh(place, width, 0.62, left, facecolor=colour, edgecolor="white", lw=0.6)


def _label(axis: Axes, place: int, end: float, text: str, *, strong: bool) -> None:
    axis.annotate(
        text,
        (end, place),
        xytext=(5, 0),
        textcoords="offset points",
        va="center",
        fontsize=9.5,
        color=INK if strong else MUTED,
        fontweight="bold" if strong else "normal",
    )


def _finish(axis: Axes, title: str, unit: str) -> None:
    axis.set_title(title)
    axis.set_xlabel(unit)
    axis.set_xlim(0, axis.dataLim.x1 * 1.2)
    axis.xaxis.set_major_locator(MaxNLocator(5))
    axis.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:,.0f}"))
    axis.grid(visible=False, axis="y")
    axis.spines["left"].set_visible(False)
    axis.tick_params(axis="y", length=0)
