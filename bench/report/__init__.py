"""The report: tables on the terminal and in Markdown, plots, and one page that holds it all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from bench.report.table import markdown, print_tables
from bench.results import Results

__all__ = ["markdown", "print_tables", "write_report"]


def write_report(results: Sequence[Results], folder: Path) -> list[Path]:
    """Write report.html and its plots as PNG into a folder; the files' paths, the page first."""
    # matplotlib takes a second to import, which commands that only print tables need not spend.
    from bench.report.page import write_page

    return write_page(results, folder)
