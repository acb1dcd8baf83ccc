"""The report as one page that needs nothing but itself: pictures inside, no scripts."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from bench.report.findings import Findings
from bench.report.grids import grids
from bench.report.marks import doubts
from bench.report.plots import Plot, draw_plots
from bench.results import Results

__all__ = ["write_page"]

TEMPLATE = "page.html.j2"
PAGE = "report.html"


def write_page(results: Sequence[Results], folder: Path) -> list[Path]:
    """Draw the plots and write the page into a folder; the files' paths, the page first."""
    findings = Findings.of(results)
    plots = draw_plots(findings, folder)
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["data_uri"] = _data_uri
    page = folder / PAGE
    page.write_text(
        environment.get_template(TEMPLATE).render(
            results=results, plots=plots, grids=grids(findings), doubts=doubts(findings), versions=findings.versions
        )
    )
    return [page, *(plot.path for plot in plots)]


def _data_uri(plot: Plot) -> str:
    return "data:image/png;base64," + base64.b64encode(plot.path.read_bytes()).decode()
