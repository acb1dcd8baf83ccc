"""What tracing costs: the CPU time of a whole server for each request, its exporter included."""

from __future__ import annotations

import socket
import statistics
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, replace
from pathlib import Path

from bench.run import RunOptions, sample_closed
from bench.scenario import Prepared
from bench.server import Penstock, PenstockTarget
from penstock.load.accounting import CpuTime, descendants, snapshot

__all__ = ["SAMPLES", "TracingResult", "run_tracing", "tracing_table"]

# Nothing: no tracing at all.
SAMPLES: Mapping[str, float | None] = {"off": None, "0 %": 0.0, "1 %": 0.01, "100 %": 1.0}
EXPORT_SECONDS_MAX = 30.0
LOOK_SECONDS = 0.1
TAP_THREAD = "main/penstock-tap"
PIECE_BYTES = 1 << 20
ACCEPTED = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-protobuf\r\nContent-Length: 0\r\n\r\n"


@dataclass(frozen=True, slots=True)
class TracingResult:
    """One run. CPU in microseconds: of the whole server for a request, of exporter and tap for a traced one.

    `export_share` is what those two took of the server's CPU. It is exact: no difference of two runs.
    """

    sample: str
    rate: float
    cpu_us: float
    traced: int
    lost: int
    exporter_us: float
    tap_us: float
    export_share: float


def run_tracing(prepared: Prepared, options: RunOptions) -> Iterator[TracingResult]:
    """Ask servers in turn, one for each sample, started afresh in every round: no round sees the memory of another."""
    with _collector() as endpoint:
        for number in range(options.rounds):
            # In another order each time, so that none always comes after the same.
            names = list(SAMPLES)[number % len(SAMPLES) :] + list(SAMPLES)[: number % len(SAMPLES)]
            with ExitStack() as running:
                servers = {name: _serve(prepared, endpoint, SAMPLES[name], options.folder, running) for name in names}
                for name, server in servers.items():
                    yield _measure(name, server, prepared, options)


def tracing_table(results: Sequence[TracingResult]) -> str:
    """Show the medians. What tracing adds to a request is the median of the quotients within each round."""
    lines = [
        "| traced | requests/s | CPU a request, µs | against off | exporter and tap | exporter, µs a trace "
        "| tap, µs a trace |",
        "| --- | --: | --: | --: | --: | --: | --: |",
    ]
    by_sample = {name: [each for each in results if each.sample == name] for name in SAMPLES}
    for name, runs in by_sample.items():
        added = statistics.median(run.cpu_us / off.cpu_us for run, off in zip(runs, by_sample["off"], strict=True)) - 1
        rate, cpu, share, exporter, tap = (
            statistics.median(getattr(run, part) for run in runs)
            for part in ("rate", "cpu_us", "export_share", "exporter_us", "tap_us")
        )
        per_trace = f"{exporter:.1f} | {tap:.1f}" if any(run.traced for run in runs) else "|"
        lines.append(f"| {name} | {rate:,.0f} | {cpu:.2f} | {added:+.1%} | {share:.2%} | {per_trace} |")
    return "\n".join(lines)


def _serve(prepared: Prepared, endpoint: str, sample: float | None, folder: Path, running: ExitStack) -> Penstock:
    traced = ("--trace-endpoint", endpoint, "--trace-sample", str(sample)) if sample is not None else ()
    return running.enter_context(PenstockTarget(arguments=traced).serve(prepared.models, folder / f"server-{sample}"))


def _measure(name: str, server: Penstock, prepared: Prepared, options: RunOptions) -> TracingResult:
    corpus, plan = prepared.corpus(server.dialect), prepared.scenario.load
    exporter = _exporter_of(server)
    sample_closed(server, corpus, plan, replace(options, seconds=0.5))
    done, lost = _await_exports(server)
    before = _Clocks.of(server, exporter)
    found, _ = sample_closed(server, corpus, plan, options)
    assert found.cost is not None
    done_after, lost_after = _await_exports(server)
    after = _Clocks.of(server, exporter)
    traced = done_after - done
    exporting, tapping = after.exporter - before.exporter, after.tap - before.tap
    return TracingResult(
        sample=name,
        rate=found.answered_rate,
        cpu_us=found.cost.cpu_us,
        traced=traced,
        lost=lost_after - lost,
        exporter_us=exporting / max(1, traced) * 1e6,
        tap_us=tapping / max(1, traced) * 1e6,
        export_share=(exporting + tapping) / (after.server - before.server),
    )


@dataclass(frozen=True, slots=True)
class _Clocks:
    """Seconds of CPU so far: of the server with all its processes, and in it of the exporter and the tap's thread."""

    server: float
    exporter: float
    tap: float

    @classmethod
    def of(cls, server: Penstock, exporter: int | None) -> _Clocks:
        whole = snapshot(server.pid)
        return cls(
            server=whole.tree.total,
            exporter=snapshot(exporter).tree.total,
            tap=whole.threads.get(TAP_THREAD, CpuTime()).total,
        )


def _exporter_of(server: Penstock) -> int | None:
    for pid in descendants(server.pid):
        with suppress(OSError):
            if b"penstock.telemetry" in Path(f"/proc/{pid}/cmdline").read_bytes():
                return pid
    return None


def _await_exports(server: Penstock) -> tuple[int, int]:
    """Wait until nothing is under way any more; (exported, lost) since the server's start."""
    deadline = time.monotonic() + EXPORT_SECONDS_MAX
    before = None
    while (now := _exports(server)) != before and time.monotonic() < deadline:
        before = now
        # Longer than the exporter lets records wait for others.
        threading.Event().wait(10 * LOOK_SECONDS)
    return now


def _exports(server: Penstock) -> tuple[int, int]:
    metrics = server.metrics()
    names = ("traces_exported", "traces_dropped", "tap_dropped")
    exported, dropped, lost = (int(metrics.total(f"penstock_{name}_total")) for name in names)
    return exported, dropped + lost


@contextmanager
def _collector() -> Iterator[str]:
    """Take traces and throw them away; its URL."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        threading.Thread(target=_accept, args=(listener,), daemon=True).start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        with suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)


def _accept(listener: socket.socket) -> None:
    while True:
        try:
            client, _ = listener.accept()
        except OSError:
            return
        threading.Thread(target=_take, args=(client,), daemon=True).start()


def _take(client: socket.socket) -> None:
    piece = bytearray(PIECE_BYTES)
    with client, suppress(OSError):
        while True:
            read = client.recv_into(piece)
            if read == 0:
                return
            head, _, body = bytes(piece[:read]).partition(b"\r\n\r\n")
            length = next(int(line[15:]) for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
            left = length - len(body)
            while left > 0 and (read := client.recv_into(piece)) > 0:
                left -= read
            client.sendall(ACCEPTED)
