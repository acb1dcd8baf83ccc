"""The report: what must be reached, and a table for each section."""

from __future__ import annotations

from pathlib import Path
from typing import Any

__all__ = ["write_report"]

Rows = list[dict[str, Any]]


def write_report(document: dict[str, Any], file: Path) -> None:
    """Write what was measured as Markdown."""
    has = ", ".join(f"{name} {version}" for name, version in document["packages"].items() if version)
    lines = [f"# {document['device']}", "", f"{document['machine']}; {has}; {document['date']}; `python -m bench.gpu`."]
    for name, what in document["left_out"].items():
        lines += ["", f"Not run, because {name} is not installed: {what}."]
    lines += ["", "## What must be reached", "", *_table(verdicts(document["sections"]))]
    for name, rows in document["sections"].items():
        lines += ["", f"## {name}", "", *_table(rows)]
        if name in document["failed"]:
            lines += ["", f"Not complete: {document['failed'][name]}"]
    for name, error in document["failed"].items():
        if name not in document["sections"]:
            lines += ["", f"## {name}", "", f"Failed: {error}"]
    file.write_text("\n".join(lines) + "\n")


def verdicts(sections: dict[str, Rows]) -> Rows:
    """Return each figure of docs/gpu.md beside what was measured."""
    found: Rows = []

    def add(figure: str, bound: float, measured: float | None, *, least: bool = False) -> None:
        reached = "not measured"
        if measured is not None:
            reached = "yes" if (measured >= bound if least else measured <= bound) else "no"
        found.append({"figure": figure, "bound": bound, "measured": measured, "reached": reached})

    def worst(section: str, column: str, pick: Any, **only: Any) -> float | None:
        rows = [row for row in sections.get(section, []) if all(row.get(key) == value for key, value in only.items())]
        figures = [row[column] for row in rows if column in row]
        return float(pick(figures)) if figures else None

    add("host's time for a batch, us", 15.0, worst("host", "host_us", max))
    for network, bound in (("resnet50", 0.95), ("bert", 0.90)):
        rows = sections.get(f"served {network}", [])
        kept = [row["share"] for row in rows if row.get("within_bound")]
        measured = max(kept, default=0.0) if len(rows) > 1 else None
        add(f"served over offline, {network}", bound, measured, least=True)
    add("copying and computing at once, over the longer", 1.05, worst("overlap", "factor", max))
    for place in ("pinned", "device"):
        share = worst("preprocessing", "share_of_limit", min, rows=place)
        add(f"fused preprocessing of rows in {place} memory, share of its limit", 0.8, share, least=True)
    return found


def _table(rows: Rows) -> list[str]:
    columns = list(dict.fromkeys(key for row in rows for key in row))
    head = ["| " + " | ".join(columns) + " |", "|" + " --- |" * len(columns)]
    return head + ["| " + " | ".join(_shown(row.get(column, "")) for column in columns) + " |" for row in rows]


def _shown(value: Any) -> str:
    if isinstance(value, float):
        return f"{value:,.0f}" if abs(value) >= 1000 else f"{value:.3g}"
    return "" if value is None else str(value)
