"""Tables for a terminal, and the same as Markdown for documents."""

from __future__ import annotations

from collections.abc import Sequence

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table
from rich.text import Text

from bench.report.findings import Findings
from bench.report.grid import Column, Grid
from bench.report.grids import grids
from bench.report.marks import doubts
from bench.results import Results

__all__ = ["markdown", "print_tables"]

# A file or a pipe has no width that a table would have to keep to.
WIDTH_OF_FILES = 400
PARTS = (1, 2)


def print_tables(results: Results, console: Console | None = None) -> None:
    """Print the machine, what is wrong with the data, and every table; in parts where the terminal is narrow."""
    console = console or Console(highlight=False)
    if not console.is_terminal:
        console.width = WIDTH_OF_FILES
    findings = Findings.of([results])
    console.print(Text(provenance(results)), style="dim")
    for grid in grids(findings):
        _print(console, grid)
    for what, reason in findings.not_run.items():
        console.print(Text(f"not run: {what}: {reason}"), style="yellow")


def markdown(results: Sequence[Results]) -> str:
    """Write every table as Markdown, with the machines, the doubts and what was not run."""
    findings = Findings.of(results)
    blocks = [*(plain(provenance(each)) for each in results)]
    blocks += ["\n".join(f"- {plain(doubt)}" for doubt in doubts(findings))] if doubts(findings) else []
    for grid in grids(findings):
        blocks += [f"### {plain(grid.title)}", *([plain(grid.about)] if grid.about else []), _markdown_rows(grid)]
        blocks += [plain(note) for note in grid.notes]
    return "\n\n".join(blocks) + "\n"


def provenance(results: Results) -> str:
    """Say on one line where figures come from."""
    return f"python -m bench {results.command}: {results.machine}, revision {results.revision[:9]}, {results.date}"


def plain(text: str) -> str:
    """Take from a text what Markdown or HTML inside of it would make of it."""
    text = "".join("\\" + character if character in "\\`*_|#[]" else character for character in text)
    return " ".join(text.replace("&", "&amp;").replace("<", "&lt;").replace(">", "&gt;").split())


def _markdown_rows(grid: Grid) -> str:
    shown = _filled(grid, range(len(grid.columns)))
    lines = ["| " + " | ".join(plain(grid.columns[number].heading) for number in shown) + " |"]
    lines.append("|" + "|".join(" --- " if grid.columns[number].is_text else " ---: " for number in shown) + "|")
    lines += ["| " + " | ".join(plain(row[number]) for number in shown) + " |" for row in grid.rows]
    return "\n".join(lines)


def _print(console: Console, grid: Grid) -> None:
    console.print()
    console.print(Text(grid.title, style="bold"))
    console.print(Text(grid.about, style="dim"))
    everything = _filled(grid, range(len(grid.columns)))
    whole = _table(grid, everything)
    if console.measure(whole).minimum <= console.width and _natural_width(console, whole) <= console.width:
        console.print(whole)
    else:
        last = len(grid.columns) - 1  # the marks, which every part needs
        for part in PARTS:
            shown = [number for number in everything if grid.columns[number].part in (0, part) or number == last]
            if any(grid.columns[number].part == part for number in shown) or part == PARTS[0]:
                console.print(_table(grid, shown))
    for note in grid.notes:
        console.print(Text(note, style="dim"))


def _natural_width(console: Console, table: Table) -> int:
    options = console.options.update(width=WIDTH_OF_FILES, max_width=WIDTH_OF_FILES)
    return console.measure(table, options=options).maximum


def _table(grid: Grid, shown: Sequence[int]) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False, show_edge=False, header_style="bold")
    for number in shown:
        column: Column = grid.columns[number]
        table.add_column(escape(column.heading), justify="left" if column.is_text else "right", overflow="fold")
    for number, row in enumerate(grid.rows):
        table.add_row(*(_cell(row[each]) for each in shown), style="dim" if number in grid.weak_rows else "")
    return table


def _cell(text: str) -> Text:
    """Colour what makes figures doubtful."""
    style = "red" if text.startswith("VOID") else "yellow" if text.startswith("NOISY") else ""
    return Text(text, style=style)


def _filled(grid: Grid, columns: Sequence[int]) -> list[int]:
    """Leave out columns without any entry."""
    return [number for number in columns if any(row[number] for row in grid.rows)]
