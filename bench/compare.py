"""Penstock and nginx under the same load, in alternating runs."""

import statistics
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import urlencode

from bench.nginx import nginx
from bench.server import Penstock, penstock
from bench.workloads import Encoding, Workload, decode, encode, same
from bench.wrk import Load, LoadResult, run_wrk
from penstock.load.accounting import Memory, Usage, memory_of, snapshot, usage

__all__ = ["Bench", "Cell", "Sample", "Spread", "compare", "spread"]

WARM_UP_SECONDS = 1
# What else the machine may do, as a share of all cores, before a run is called noisy.
FOREIGN_SHARE_MAX = 0.15


@dataclass(frozen=True, slots=True)
class Cell:
    """One point of the comparison."""

    workload: Workload
    encoding: Encoding
    connections: int

    def __str__(self) -> str:
        return f"{self.workload.name} {self.encoding} c={self.connections}"

    @property
    def path(self) -> str:
        """Where to POST; a raw body has the model's name in the query."""
        query = f"?{urlencode({'model': self.workload.name})}" if self.encoding is Encoding.RAW else ""
        return f"/predict{query}"


@dataclass(frozen=True, slots=True)
class Sample:
    """One run against one server. CPU is that of the server's whole process tree, in microseconds per request."""

    target: str
    cell: Cell
    load: LoadResult
    cpu_us: float
    user_us: float
    system_us: float
    cores: float
    foreign: float
    mean_batch: float | None = None
    memory: tuple[Memory, ...] = ()

    @property
    def noisy(self) -> bool:
        """Whether other work disturbed the run."""
        return self.foreign > FOREIGN_SHARE_MAX


@dataclass(frozen=True, slots=True)
class Spread:
    """Median, least and most of some runs."""

    median: float
    least: float
    most: float

    def __str__(self) -> str:
        digits = 0 if self.median >= 100 else 2
        return f"{self.median:,.{digits}f} ({self.least:,.{digits}f} to {self.most:,.{digits}f})"


@dataclass(slots=True)
class Bench:
    """Where runs keep their files, and how long and how often they are."""

    folder: Path
    seconds: float = 8.0
    rounds: int = 3
    serve_arguments: tuple[str, ...] = field(default_factory=tuple)


def spread(values: Iterable[float]) -> Spread:
    """Summarise a figure over rounds."""
    known = sorted(values)
    return Spread(statistics.median(known), known[0], known[-1])


def compare(bench: Bench, cells: Sequence[Cell]) -> Iterator[Sample]:
    """Run both servers side by side and load them in turn; one sample at a time, all cells in every round.

    The cells are of one workload and one encoding.
    """
    first = cells[0]
    body = bench.folder / f"{first.workload.name}.{first.encoding}"
    bench.folder.mkdir(parents=True, exist_ok=True)
    body.write_bytes(encode(first.encoding, first.workload.name, first.workload.row()))
    with ExitStack() as running:
        models = {first.workload.name: first.workload.path}
        server = running.enter_context(penstock(bench.folder / "penstock", models, bench.serve_arguments))
        reply = check_answer(server, first, body.read_bytes())
        pid, port = running.enter_context(nginx(bench.folder / "nginx", len(reply), first.encoding))
        for _ in range(bench.rounds):
            for cell in cells:
                check_answer(server, cell, body.read_bytes())
                yield sample_penstock(server, cell, body, bench.seconds)
                yield sample_nginx(pid, f"http://127.0.0.1:{port}", cell, body, bench.seconds)


def check_answer(server: Penstock, cell: Cell, body: bytes) -> bytes:
    """Send the request once and compare the answer with ONNX Runtime's; the reply's body."""
    media_type = cell.encoding.media_type
    status, reply = server.request("POST", cell.path, body, {"Content-Type": media_type, "Accept": media_type})
    if status != 200 or not same(decode(cell.encoding, reply), cell.workload.expected()):
        raise RuntimeError(f"{cell}: wrong answer, status {status}: {reply[:300]!r}")
    return reply


def sample_penstock(server: Penstock, cell: Cell, body: Path, seconds: float) -> Sample:
    """Load the server once, after a warm-up."""
    load = Load(server.url + cell.path, body, cell.encoding, cell.connections, seconds)
    run_wrk(Load(load.url, body, cell.encoding, cell.connections, WARM_UP_SECONDS))
    batches_before = _batches(server, cell)
    result, used = _measured(server.pid, load)
    rows, batches = (after - before for after, before in zip(_batches(server, cell), batches_before, strict=True))
    memory = tuple(memory_of(pid) for pid in [server.pid, *server.worker_pids()])
    return _sample("penstock", cell, result, used, rows / batches if batches else None, memory)


def sample_nginx(pid: int, url: str, cell: Cell, body: Path, seconds: float) -> Sample:
    """Load nginx once, after a warm-up."""
    load = Load(url + cell.path, body, cell.encoding, cell.connections, seconds)
    run_wrk(Load(load.url, body, cell.encoding, cell.connections, WARM_UP_SECONDS))
    result, used = _measured(pid, load)
    return _sample("nginx", cell, result, used)


def _measured(pid: int, load: Load) -> tuple[LoadResult, Usage]:
    before = snapshot(pid)
    result = run_wrk(load)
    return result, usage(before, snapshot(pid))


def _sample(
    target: str,
    cell: Cell,
    result: LoadResult,
    used: Usage,
    mean_batch: float | None = None,
    memory: tuple[Memory, ...] = (),
) -> Sample:
    if result.requests == 0:
        raise RuntimeError(f"{target}, {cell}: no request was answered ({result.errors} errors)")
    cpu_us = used.tree.total / result.requests * 1e6
    return Sample(
        target=target,
        cell=cell,
        load=result,
        cpu_us=cpu_us,
        user_us=cpu_us * used.tree.user_share,
        system_us=cpu_us * (1 - used.tree.user_share),
        cores=used.tree.total / used.seconds,
        foreign=used.foreign_share(result.generator_cpu_seconds),
        mean_batch=mean_batch,
        memory=memory,
    )


def _batches(server: Penstock, cell: Cell) -> tuple[float, float]:
    """Rows and batches so far."""
    metrics = server.metrics()
    return tuple(metrics.total(f"penstock_batch_size_{part}", model=cell.workload.name) for part in ("sum", "count"))  # type: ignore[return-value]
