"""The tables of a report as plain text in rows, for a terminal, for Markdown and for HTML alike."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from operator import attrgetter

from bench.report.findings import Cell, Findings, scenario_title
from bench.report.grid import Column, Grid, digits, thousandth
from bench.report.kinds import kinds_grid
from bench.report.marks import Notes, percent
from bench.spread import Spread
from penstock.load.measurement import Cost, Latency, Measurement

__all__ = ["grids"]

MB = 1e6


def grids(findings: Findings) -> list[Grid]:
    """Make every table that there are figures for."""
    found = [_rivals(findings, name) for name in findings.beside_rivals()]
    for name in findings.scenarios:
        found += [_scenario(findings, name), *filter(None, [kinds_grid(findings, name)])]
    found += [_capacities(findings)] if findings.capacities else []
    found += [_bare(findings)] if findings.bare else []
    found += [_stages(findings)] if findings.stages else []
    return found


def _scenario(findings: Findings, name: str) -> Grid:
    notes = Notes()
    cells = findings.of_scenario(name)
    rows = [
        (
            *_who(cell),
            str(cell.phase),
            *(text(cell) for _, text in FIGURES),
            notes.mark(cell),
        )
        for cell in cells
    ]
    key = (Column("server", is_text=True), Column("dialect", is_text=True), Column("load", is_text=True))
    columns = (*key, *(column for column, _ in FIGURES), Column("", is_text=True))
    return Grid(
        scenario_title(name),
        columns,
        tuple(rows),
        f"Scenario {name}. {_rounds(cells)}Latency in ms from the planned send time; at closed loops from the sending.",
        tuple(notes),
        frozenset(number for number, cell in enumerate(cells) if cell.is_void),
    )


def _rivals(findings: Findings, name: str) -> Grid:
    notes = Notes()
    cells = sorted(findings.closed(name), key=_rate, reverse=True)
    main = findings.main_server(name)
    ours = next((_rate(cell) for cell in cells if cell.server == main and main.is_ours), 0.0)
    columns = (
        Column("server", is_text=True),
        Column("dialect", is_text=True),
        *(Column(heading) for heading in ("requests/s", "of Penstock", "p50 ms", "p99 ms")),
        *(Column(heading) for heading in ("CPU us/req", "batch", "PSS MB")),
        Column("errors", is_text=True),
        Column("versions", is_text=True),
        Column("", is_text=True),
    )
    rows = tuple(
        (
            *_who(cell),
            _spread_of_rate(cell),
            digits(_rate(cell) / ours) if ours else "",
            *(_ms(cell, attrgetter(which)) for which in ("p50", "p99")),
            _cost(cell, attrgetter("cpu_us")),
            digits(cell.median(attrgetter("mean_batch"))),
            _memory(cell, attrgetter("pss")),
            _errors(cell),
            _versions(findings, cell),
            notes.mark(cell),
        )
        for cell in cells
    )
    connections = cells[0].phase.connections if cells else 0
    about = f"{_rounds(cells)}Closed loop over {connections} connections: each asks again when it has its answer."
    about += f" Shares are of Penstock's rate in {main.dialect}." if ours else ""
    return Grid(f"{scenario_title(name)}, beside others", columns, rows, about, tuple(notes))


def _capacities(findings: Findings) -> Grid:
    headings = (
        "limit ms",
        "requests/s",
        "of the bound",
        "of the simulator",
        "of offline",
        "of closed loop",
        "p99 ms",
        "runs",
        "void",
    )
    rows = tuple(
        (
            found.scenario,
            found.target,
            found.dialect,
            f"{found.slo_ms:g}",
            f"{found.rate:,.0f}" if found.rate > 0 else "none held",
            _share(found.rate, found.bound_rate),
            _share(found.rate, found.simulated_rate),
            _share(found.rate, found.offline_rate),
            _share(found.rate, found.closed_rate or None),
            thousandth(found.measurement.latency.p99 if found.measurement and found.measurement.latency else None),
            str(len(found.trials)),
            str(sum(trial.void for trial in found.trials)),
        )
        for found in findings.capacities
    )
    key = tuple(Column(heading, is_text=True) for heading in ("scenario", "server", "dialect"))
    about = (
        "The highest Poisson rate at which 99 % are proven to be answered in time and 99.9 % within three limits. "
        "The bound is what any policy could reach with this model; offline is the bare loop at its best batch."
    )
    return Grid("Capacity under a latency limit", (*key, *map(Column, headings)), rows, about)


def _bare(findings: Findings) -> Grid:
    columns = (Column("model", is_text=True), *map(Column, ("batch", "rows/s", "us/call", "CPU us/row")))
    rows = tuple(
        (
            each.model,
            str(each.batch),
            f"{each.rows_per_second:,.0f}",
            digits(each.call_us),
            digits(each.cpu_us_per_row),
        )
        for each in findings.bare
    )
    return Grid("Bare loop", columns, rows, "ONNX Runtime's session.run in a loop, without any server.")


def _stages(findings: Findings) -> Grid:
    stages = list(dict.fromkeys(stage for case in findings.stages.values() for stage in case))
    rows = tuple(
        (case, *(digits(found.get(stage)) for stage in stages)) for case, found in sorted(findings.stages.items())
    )
    columns = (Column("case", is_text=True), *map(Column, stages))
    about = "Nanoseconds per request by stage, replayed on one thread; path_in and path_out hold the other stages."
    return Grid("Data plane by stage", columns, rows, about)


def _who(cell: Cell) -> tuple[str, str]:
    return cell.server.target, cell.server.dialect


def _versions(findings: Findings, cell: Cell) -> str:
    found = findings.versions.get(cell.server.target, {})
    return ", ".join(f"{package} {version}" for package, version in found.items())


def _rate(cell: Cell) -> float:
    return cell.median(attrgetter("answered_rate")) or 0.0


def _rounds(cells: Sequence[Cell]) -> str:
    counts = sorted({len(cell.samples) for cell in cells})
    if counts in ([], [1]):
        return "One round. " if counts else ""
    number = " to ".join(str(count) for count in dict.fromkeys((counts[0], counts[-1])))
    left_out = any(0 < cell.void_rounds < len(cell.samples) for cell in cells)
    return f"Medians of {number} rounds (least to most){', void ones left out' if left_out else ''}. "


def _spread_of_rate(cell: Cell) -> str:
    return _interval(cell.spread(attrgetter("answered_rate")))


def _interval(found: Spread | None) -> str:
    if found is None:
        return ""
    if len({round(value) for value in (found.median, found.least, found.most)}) == 1:
        return f"{found.median:,.0f}"
    return f"{found.median:,.0f} ({found.least:,.0f} to {found.most:,.0f})"


def _share(part: float, whole: float | None) -> str:
    return percent(part / whole) if whole else ""


def _ms(cell: Cell, figure: Callable[[Latency], float]) -> str:
    found = cell.latency(figure)
    return thousandth(found.median if found else None)


def _cost(cell: Cell, figure: Callable[[Cost], float]) -> str:
    return digits(cell.median(lambda run: figure(run.cost) if run.cost else None))


def _memory(cell: Cell, figure: Callable[[Cost], float]) -> str:
    found = cell.median(lambda run: figure(run.cost) / MB if run.cost else None)
    return "" if found is None else f"{found:,.0f}"


def _goodput(cell: Cell) -> str:
    """Write the share answered in time; by model where models have limits of their own. Never rounded up to all."""

    def share(kinds: Sequence[int]) -> str:
        def of(run: Measurement) -> float | None:
            requests = sum(run.kinds[kind].requests for kind in kinds)
            in_time = sum(run.kinds[kind].goodput * run.kinds[kind].requests for kind in kinds)
            return in_time / requests if requests else None

        found = cell.median(of)
        return "" if found is None else f"{int(found * 1000 + 1e-6) / 10:.1f} %"

    everything = range(len(cell.kinds))
    if len({kind.slo_ms for kind in cell.kinds}) < 2:
        return share(everything)
    return ", ".join(f"{cell.kinds[kind].model} {share([kind])}" for kind in everything)


def _lag(cell: Cell) -> str:
    """Only who plans when to send can be late."""
    return "" if cell.phase.load is None else digits(cell.median(attrgetter("lag_us_p99")))


def _errors(cell: Cell) -> str:
    totals: dict[str, int] = {}
    for sample in cell.samples:
        for kind, count in sample.measurement.errors.items():
            totals[kind] = totals.get(kind, 0) + count
    return ", ".join(f"{kind}: {count:,}" for kind, count in sorted(totals.items()))


FIGURES: tuple[tuple[Column, Callable[[Cell], str]], ...] = (
    (Column("requests/s", 1), _spread_of_rate),
    (Column("p50 ms", 1), lambda cell: _ms(cell, attrgetter("p50"))),
    (Column("p90 ms", 1), lambda cell: _ms(cell, attrgetter("p90"))),
    (Column("p99 ms", 1), lambda cell: _ms(cell, attrgetter("p99"))),
    (Column("p99.9 ms", 1), lambda cell: _ms(cell, attrgetter("p999"))),
    (Column("max ms", 1), lambda cell: _ms(cell, attrgetter("max"))),
    (Column("goodput", 1), _goodput),
    (Column("errors", 1, is_text=True), _errors),
    (Column("CPU us/req", 2), lambda cell: _cost(cell, attrgetter("cpu_us"))),
    (Column("user", 2), lambda cell: _cost(cell, attrgetter("user_us"))),
    (Column("system", 2), lambda cell: _cost(cell, attrgetter("system_us"))),
    (Column("cores", 2), lambda cell: _cost(cell, attrgetter("cores"))),
    (Column("batch", 2), lambda cell: digits(cell.median(attrgetter("mean_batch")))),
    (Column("RSS MB", 2), lambda cell: _memory(cell, attrgetter("rss"))),
    (Column("PSS MB", 2), lambda cell: _memory(cell, attrgetter("pss"))),
    (Column("lag p99 us", 2), _lag),
)
