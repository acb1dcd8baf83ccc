"""The table of models: which columns there is room for, and what stands in them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from rich.text import Text

from penstock.cli.tables import size
from penstock.cli.watch.figures import ModelFigures
from penstock.cli.watch.sparkline import sparkline
from penstock.cli.watch.watching import POINTS, History

__all__ = ["rate", "table"]

Histories = Mapping[tuple[str, str], History]

_GAP = 2
_NAME_WIDTH_MAX = 32
_SPARK_WIDTH_MIN = 12


@dataclass(frozen=True, slots=True)
class _Column:
    """A column; the one with the largest `dropped` is left out first, one with 0 never."""

    title: str
    cell: Callable[[ModelFigures], tuple[str, str]]  # text and style
    dropped: int = 0
    left: bool = False


@dataclass(frozen=True, slots=True)
class _Spark:
    title: str
    values: Callable[[History], Sequence[float | None]]
    dropped: int


_COLUMNS: tuple[_Column | _Spark, ...] = (
    _Column("MODEL", lambda model: (_cut(model.model), "" if model.ready else "yellow"), left=True),
    _Column("VERSION", lambda model: (_cut(model.version), ""), 3, left=True),
    _Column("SHARE", lambda model: (_percent(model.share), ""), 8),
    _Column("ROWS/S", lambda model: (rate(model.rows_per_s), "bold")),
    _Spark("", lambda history: list(history.rows_per_s), 6),
    _Column("P50 MS", lambda model: (_ms(model.latency_ms_p50), ""), 4),
    _Column("P99 MS", lambda model: (_ms(model.latency_ms_p99), "bold")),
    _Spark("", lambda history: list(history.latency_ms_p99), 9),
    _Column("BATCH", lambda model: (_mean(model.batch_rows_mean), ""), 5),
    _Column("QUEUE", lambda model: (f"{model.queue_rows:,}", ""), 2),
    _Column("ERRORS/S", lambda model: _errors(model), 1),
    _Column("CPUS", lambda model: (_cpus(model.cpus_used), ""), 10),
    _Column("MEMORY", lambda model: (size(model.memory_bytes) or "-", ""), 11),
    _Column("WORKERS", lambda model: _workers(model), 7, left=True),
)


def table(models: Sequence[ModelFigures], histories: Histories, width: int, *, plain: bool) -> list[Text]:
    """Return a line of titles and one for each model, none wider than `width` if that can be."""
    columns = list(_COLUMNS)
    several = Counter(model.model for model in models)
    if all(count == 1 for count in several.values()):
        columns = [column for column in columns if column.title != "SHARE"]
    if all(len(history.rows_per_s) < 3 for history in histories.values()):
        columns = [column for column in columns if isinstance(column, _Column)]  # nothing to draw yet
    while _width(columns, models) > width and any(column.dropped for column in columns):
        columns.remove(max(columns, key=lambda column: column.dropped))
    sparks = sum(isinstance(column, _Spark) for column in columns)
    room = (width - _width(columns, models)) // sparks if sparks else 0
    spark_width = min(_SPARK_WIDTH_MIN + max(room, 0), POINTS)
    cells = [_titles(columns, spark_width)]
    cells += [_cells(columns, model, histories, spark_width, plain) for model in models]
    return _joined(columns, cells)


def _width(columns: Sequence[_Column | _Spark], models: Sequence[ModelFigures]) -> int:
    widths = (
        _SPARK_WIDTH_MIN
        if isinstance(column, _Spark)
        else max([len(column.title), *(len(column.cell(model)[0]) for model in models)])
        for column in columns
    )
    return sum(widths) + _GAP * (len(columns) - 1)


def _titles(columns: Sequence[_Column | _Spark], spark_width: int) -> list[Text]:
    return [Text("" if isinstance(column, _Spark) else column.title, style="dim") for column in columns]


def _cells(
    columns: Sequence[_Column | _Spark], model: ModelFigures, histories: Histories, spark_width: int, plain: bool
) -> list[Text]:
    history = histories.get((model.model, model.version), History())
    cells = []
    for column in columns:
        if isinstance(column, _Spark):
            cells.append(Text(sparkline(column.values(history), spark_width, plain=plain), style="cyan"))
        else:
            text, style = column.cell(model)
            cells.append(Text(text, style=style))
    return cells


def _joined(columns: Sequence[_Column | _Spark], rows: Sequence[Sequence[Text]]) -> list[Text]:
    widths = [max(row[at].cell_len for row in rows) for at in range(len(columns))]
    lines = []
    for row in rows:
        line = Text()
        for column, cell, width in zip(columns, row, widths, strict=True):
            if line.cell_len:
                line.append(" " * _GAP)
            blank = " " * (width - cell.cell_len)
            left = isinstance(column, _Column) and column.left
            line.append(cell) if left else line.append(blank)
            line.append(blank) if left else line.append(cell)
        lines.append(line)
    return lines


def rate(value: float | None) -> str:
    """Return a number of times per second, with as many digits as say something."""
    if value is None:
        return "-"
    if value >= 100_000:
        return f"{value / 1000:,.0f}k"
    return f"{value:,.0f}" if value >= 10 or value == 0 else f"{value:.1f}"


def _ms(value: float | None) -> str:
    if value is None:
        return "-"
    return f"{value:,.0f}" if value >= 100 else f"{value:.1f}" if value >= 10 else f"{value:.2f}"


def _mean(value: float | None) -> str:
    return "-" if value is None else f"{value:.1f}"


def _cpus(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"


def _errors(model: ModelFigures) -> tuple[str, str]:
    total = sum(model.errors_per_s.values())
    return (rate(total), "red") if total else ("0" if model.rows_per_s is not None else "-", "")


def _workers(model: ModelFigures) -> tuple[str, str]:
    if set(model.workers) <= {"ready"} and model.ready:
        text, style = str(model.workers.get("ready", 0)), ""
    else:
        text, style = (
            ", ".join(f"{count} {state}" for state, count in sorted(model.workers.items())) or "none",
            "yellow",
        )
    if model.worker_restarts:
        text += f" ({model.worker_restarts} restart{'s' if model.worker_restarts > 1 else ''})"
    return text, style


def _cut(text: str) -> str:
    return text if len(text) <= _NAME_WIDTH_MAX else text[: _NAME_WIDTH_MAX - 3] + "..."
