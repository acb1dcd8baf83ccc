"""`penstock bench`: puts a served model under load with rows made from its schema."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path

from penstock.core.errors import ConfigError, LoadError
from penstock.load.corpus import Corpus, Traffic
from penstock.load.dialects import Dialect, PenstockJson, PenstockMsgpack, PenstockRaw
from penstock.load.generator import Address, ClosedLoop, Load, Progress
from penstock.load.machine import machine
from penstock.load.measurement import Measurement, measure
from penstock.load.proof import is_proven
from penstock.load.recording import HTTP_OK, Recording
from penstock.load.records import has_images, random_records
from penstock.load.rows import Row, random_rows
from penstock.load.schedule import Schedule, bursty, constant, poisson, replay
from penstock.load.scrape import Headers, ServedModel, fetch_metrics, fetch_model

__all__ = ["BenchOptions", "run_bench"]

PERCENTILE = 0.99
# Exit codes beside 0, 1 (failed, or the limit is missed) and 2 (wrong usage).
EXIT_VOID = 3
ENCODINGS: Mapping[str, Callable[[str], Dialect]] = {
    "json": PenstockJson,
    "msgpack": PenstockMsgpack,
    "raw": PenstockRaw,
}
ARRIVALS = ("poisson", "constant", "bursty")
FAILED_SHARE_MAX = 0.01
# Of the figures in the JSON document: what does not say it by its name.
UNITS = {
    "latency": "us",
    "refusal": "us",
    "offered_rate": "requests/s",
    "answered_rate": "requests/s",
    "goodput": "share of requests",
    "rss": "bytes",
    "pss": "bytes",
    "threads": "us per request, user and system",
    "mean_batch": "rows",
    "histogram": "HdrHistogram of us",
    "refusal_histogram": "HdrHistogram of us",
}
CORPUS_BYTES_MAX = 64 << 20
# Waiting for a connection is told when so many requests waited.
WAITED_SHARE_MIN = 0.01


@dataclass(frozen=True, slots=True)
class BenchOptions:
    """What was asked for on the command line."""

    url: str
    key: str | None
    model: str
    version: str | None
    rate: float | None
    duration: float
    warm_up: float
    slo_p99_ms: float | None
    encoding: str
    arrivals: str
    trace: Path | None
    connections: int
    depth: int
    threads: int
    rows: int
    timeout: float
    seed: int
    pid: int | None
    as_json: bool


def run_bench(options: BenchOptions) -> int:
    """Run and print; 0 fine, 1 over 1 in 100 failed or the limit is not proven, 3 the figures mean nothing."""
    _require_extra()
    _check(options)
    address = Address.parse(options.url)
    shown = () if options.key is None else (("Authorization", f"Bearer {options.key}"),)
    served = fetch_model(address, options.model, options.version, shown)
    _check_record(options, served)
    if options.encoding == "raw" and (len(served.inputs), len(served.outputs)) != (1, 1):
        raise ConfigError(
            f"raw bodies carry one tensor each way; {served.name} has {len(served.inputs)} inputs and "
            f"{len(served.outputs)} outputs: take --encoding msgpack"
        )
    # By name, so that the figures are of the version that they say they are of.
    dialect = ENCODINGS[options.encoding](served.version)
    # Of several: rows may vary in length.
    row_bytes = max(len(dialect.request(served.name, row).body) for row in _rows(served, 8, 1))
    rows = _rows(served, min(options.rows, 1 + CORPUS_BYTES_MAX // row_bytes), options.seed)
    traffic = Traffic(served.name, dialect, rows, served.outputs, slo_ms=options.slo_p99_ms, headers=shown)
    load = Load(
        address=address,
        corpus=Corpus.of([traffic]),
        arrivals=_arrivals(options),
        connections=options.connections,
        depth=options.depth,
        threads=options.threads,
        warm_up=options.warm_up,
        timeout=options.timeout,
        spin_us=50.0,
        seed=options.seed,
    )
    with _progress(load.seconds) as watch:
        recording, figures = measure(load, options.pid, lambda: _batches(address, served, shown), watch)
    kept = _is_kept(recording, options.slo_p99_ms)
    if options.as_json:
        document = {
            "date": datetime.now().astimezone().isoformat(timespec="seconds"),
            "machine": asdict(machine()),
            "units": UNITS,
            "model": served.name,
            "version": served.version,
            "slo_kept": kept,
            **asdict(figures),
        }
        sys.stdout.write(json.dumps(document) + "\n")
    else:
        _print(figures, f"{served.name}, version {served.version}, {options.encoding}", options.slo_p99_ms, kept)
    # A late generator makes every latency longer, so what is proven all the same is proven.
    if figures.void and kept is not True:
        return EXIT_VOID
    too_many_failed = figures.failed > FAILED_SHARE_MAX * figures.requests
    return 1 if kept is False or too_many_failed else 0


def _require_extra() -> None:
    try:
        import hdrh  # type: ignore[import-untyped]  # noqa: F401
        import msgpack  # type: ignore[import-untyped]  # noqa: F401
    except ModuleNotFoundError as error:
        raise LoadError(f"{error.name} is not installed: pip install 'penstock[bench]'") from error


def _check(options: BenchOptions) -> None:
    """Refuse what no server needs to be asked about."""
    if options.encoding not in ENCODINGS:
        raise ConfigError(f"the encoding {options.encoding!r} is not one of {', '.join(ENCODINGS)}")
    if options.arrivals not in ARRIVALS:
        raise ConfigError(f"arrivals are {', '.join(ARRIVALS)}, not {options.arrivals!r}")
    if options.slo_p99_ms is not None and options.rate is None and options.trace is None:
        raise ConfigError("a closed loop proves no latency: give --rate or --trace beside --slo-p99-ms")
    if options.pid is not None and not Path(f"/proc/{options.pid}").exists():
        raise ConfigError(f"there is no process {options.pid} whose cost could be counted")


def _check_record(options: BenchOptions, served: ServedModel) -> None:
    if served.record is None:
        return
    if options.encoding == "raw":
        raise ConfigError(f"{served.name} takes records: take --encoding json or msgpack")
    if options.encoding != "json" and has_images(served.record):
        raise ConfigError(f"records of {served.name} have images, which are sent as base64: take --encoding json")


def _rows(served: ServedModel, count: int, seed: int) -> list[Row]:
    if served.record is not None:
        return random_records(served.record, count, seed)
    return random_rows(served.inputs, count, seed)


def _arrivals(options: BenchOptions) -> Schedule | ClosedLoop:
    seconds = options.duration + options.warm_up
    if options.trace is not None:
        return replay(options.trace, options.rate, seconds)
    if options.rate is None:
        return ClosedLoop(seconds)
    if options.arrivals == "constant":
        return constant(options.rate, seconds)
    return (poisson if options.arrivals == "poisson" else bursty)(options.rate, seconds, options.seed)


def _batches(address: Address, served: ServedModel, headers: Headers) -> tuple[float, float] | None:
    try:
        metrics = fetch_metrics(address, headers)
    except LoadError:
        return None
    labels = {"model": served.name, "version": served.version}
    rows, batches = (metrics.total(f"penstock_batch_size_{part}", **labels) for part in ("sum", "count"))
    return rows, batches


def _is_kept(recording: Recording, slo_p99_ms: float | None) -> bool | None:
    """Tell whether the run proves that 99 % were answered in time; None when no limit was given."""
    if slo_p99_ms is None:
        return None
    records = recording.measured
    ok = (records["status"] == HTTP_OK) & (records["failure"] == 0)
    in_time = ok & ((records["done_ns"] - records["due_ns"]) <= slo_p99_ms * 1e6)
    return is_proven(len(records), int((~in_time).sum()), PERCENTILE)


@contextmanager
def _progress(seconds: float) -> Iterator[Callable[[Progress], None]]:
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    from rich.console import Console
    from rich.progress import Progress as Bar

    with Bar(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("", total=seconds)

        def watch(progress: Progress) -> None:
            moment = max(0.0, min(progress.seconds, seconds))
            bar.update(
                task, completed=moment, description=f"{progress.answered:,} answered, {progress.failed:,} failed"
            )

        yield watch


def _print(figures: Measurement, title: str, slo_p99_ms: float | None, kept: bool | None) -> None:
    from rich.console import Console
    from rich.table import Table

    console = Console(markup=False, emoji=False)  # names and addresses are no markup: [fe80::1]
    table = Table(title=f"{title}, at {figures.address}", show_header=False, title_justify="left")
    for name, value in _lines(figures):
        table.add_row(name, value)
    if slo_p99_ms is not None:
        word = "proven" if kept else "not proven"
        table.add_row(f"p99 within {slo_p99_ms:g} ms", f"{word}; {figures.kinds[0].goodput:.3%} in time")
    console.print(table)
    for reason in figures.void:
        console.print(f"VOID: {reason}")
    if figures.latency is not None and not figures.open_loop:
        console.print(
            "A closed loop finds the capacity; its latency says how long the queue was. Give --rate for latency."
        )


def _lines(figures: Measurement) -> Iterator[tuple[str, str]]:
    how = "open loop" if figures.open_loop else "closed loop"
    depth = f", {figures.depth} in flight on each" if figures.depth > 1 else ""
    yield "load", f"{how}, {figures.connections} connections{depth}, {figures.seconds:g} s"
    if figures.open_loop:
        yield "offered", f"{figures.offered_rate:,.0f} requests/s"
    yield "answered", f"{figures.answered_rate:,.0f} requests/s"
    latency = figures.latency
    if latency is not None:
        if figures.failed:
            yield "latency of", f"the {figures.requests - figures.failed:,} of {figures.requests:,} that were answered"
        for name, value in (
            ("p50", latency.p50),
            ("p90", latency.p90),
            ("p99", latency.p99),
            ("p99.9", latency.p999),
            ("max", latency.max),
        ):
            yield name, f"{value / 1e3:,.3f} ms"
    yield "failed", "".join(f"{count:,} x {kind}  " for kind, count in figures.errors.items()).strip() or "0"
    if figures.mean_batch is not None:
        yield "mean batch", f"{figures.mean_batch:.1f} rows"
    if figures.cost is not None:
        cost = figures.cost
        yield "server CPU", f"{cost.cpu_us:.1f} us/request ({cost.user_us:.1f} user, {cost.system_us:.1f} system)"
        yield "server memory", f"{cost.pss / 1e6:,.0f} MB in {cost.processes} processes"
    if figures.connection_wait_share >= WAITED_SHARE_MIN:
        yield "no connection free", f"for {figures.connection_wait_share:.1%} of requests; the wait is in their latency"
    late = f"{figures.lag_us_p99:,.0f} us late at its p99, " if figures.open_loop else ""
    yield "generator", f"{late}{figures.generator_cpu_us:.1f} us CPU/request"
