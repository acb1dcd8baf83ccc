"""The figures of a run: latency, goodput, errors, what the server cost, and whether the run means anything."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np

from penstock.load.accounting import Snapshot, TreeMemory, snapshot, tree_memory, usage
from penstock.load.generator import Load, Progress, run_load
from penstock.load.kinds import KindResult, Latency, answered, encode_histogram, kind_result, latencies_us
from penstock.load.recording import HTTP_OK, Recording

__all__ = ["Cost", "KindResult", "Latency", "Measurement", "measure", "summarize"]

# A generator that saw requests late by more than this is void: at its p99, in us, and as a part of the p99 it reports.
LAG_US_MAX = 250.0
LAG_SHARE_MAX = 0.1
# A generator that was at work for more of the time than this finds its own limit in a closed loop, not the server's.
BUSY_SHARE_MAX = 0.95
# What else the machine may do, as a share of all cores, before a run is called noisy.
FOREIGN_SHARE_MAX = 0.15
# Threads that took less CPU than this a request, in us, are not listed.
THREAD_US_MIN = 0.01
# Looking at the server costs it something, which requests that are measured must not pay: in seconds, a few looks.
LOOK_BEFORE = 0.15


@dataclass(frozen=True, slots=True)
class Cost:
    """What the server's process tree took while the run was measured. CPU in us per answered request, sizes in bytes.

    `foreign_share` is the part of all cores that neither the server nor the generator took. `threads` are the (user,
    system) CPU of the tree's threads by name, "main/" before those of its root process.
    """

    cpu_us: float
    user_us: float
    system_us: float
    cores: float
    rss: int
    pss: int
    processes: int
    foreign_share: float
    threads: Mapping[str, tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Measurement:
    """A run in figures. Rates are requests per second; `void` says why its figures mean nothing, if they do not."""

    address: str
    open_loop: bool
    connections: int
    depth: int
    seconds: float
    offered_rate: float
    answered_rate: float
    requests: int
    latency: Latency | None
    kinds: tuple[KindResult, ...]
    errors: Mapping[str, int]
    lag_us_p50: float
    lag_us_p99: float
    connection_wait_share: float
    generator_cpu_us: float
    reconnects: int
    void: tuple[str, ...]
    cost: Cost | None = None
    mean_batch: float | None = None
    histogram: str = field(default="", repr=False)

    @property
    def is_noisy(self) -> bool:
        """Whether other work on the machine disturbed the run."""
        return self.cost is not None and self.cost.foreign_share > FOREIGN_SHARE_MAX

    @property
    def failed(self) -> int:
        """Requests that were not answered with 200."""
        return sum(self.errors.values())


def measure(
    load: Load,
    pid: int | None = None,
    count_batches: Callable[[], tuple[float, float] | None] = lambda: None,
    watch: Callable[[Progress], None] = lambda _: None,
) -> tuple[Recording, Measurement]:
    """Run a load and account for what the process tree of `pid` did meanwhile, from the end of the warm-up on.

    `count_batches` tells the rows and batches that the server has run so far.
    """
    window = _Window(load, pid, count_batches)

    def tick(progress: Progress) -> None:
        window.look(progress.seconds)
        watch(progress)

    recording = run_load(load, tick)
    window.close()
    return recording, summarize(load, recording, window.cost(recording), window.mean_batch())


def summarize(
    load: Load, recording: Recording, cost: Cost | None = None, mean_batch: float | None = None
) -> Measurement:
    """Work out the figures of a recording."""
    measured = recording.measured
    microseconds = latencies_us(answered(measured))
    latency = Latency.of(microseconds)
    lag = recording.lag_us() if len(measured) else np.zeros(1)
    lag_p50, lag_p99 = (float(value) for value in np.percentile(lag, [50, 99])) if len(lag) else (0.0, 0.0)
    sent = measured[measured["sent_ns"] >= 0]
    waited = (sent["sent_ns"] - sent["noticed_ns"]) > LAG_US_MAX * 1e3
    return Measurement(
        address=str(load.address),
        open_loop=recording.open_loop,
        connections=load.connections,
        depth=load.depth,
        seconds=recording.measured_seconds,
        offered_rate=len(measured) / recording.measured_seconds,
        answered_rate=recording.answered_within() / recording.measured_seconds,
        requests=len(measured),
        latency=latency,
        kinds=tuple(kind_result(recording, kind) for kind in range(len(recording.corpus.traffics))),
        errors=dict(recording.errors()),
        lag_us_p50=lag_p50,
        lag_us_p99=lag_p99,
        connection_wait_share=float(waited.mean()) if len(sent) else 0.0,
        generator_cpu_us=recording.generator_cpu_seconds / max(1, len(recording.records)) * 1e6,
        reconnects=recording.reconnects,
        void=tuple(_void(recording, latency, lag_p99, load.threads)),
        cost=cost,
        mean_batch=mean_batch,
        histogram=encode_histogram(microseconds),
    )


def _void(recording: Recording, latency: Latency | None, lag_p99: float, threads: int) -> list[str]:
    """Say why the figures mean nothing."""
    reasons = []
    silence = recording.silence_at_the_end()
    if silence > 0:
        reasons.append(f"nothing was answered in the last {silence:.1f} s: did the server stop?")
    if not recording.open_loop:
        busy = recording.generator_cpu_seconds / (threads * recording.seconds)
        if busy > BUSY_SHARE_MAX:
            reasons.append(
                f"the rate is the generator's own: it was at work {busy:.0%} of the time; give it more threads"
            )
        return reasons
    if latency is not None and lag_p99 > max(LAG_US_MAX, latency.p99 * LAG_SHARE_MAX):
        reasons.append(
            f"the generator fell behind: it saw 1 in 100 requests {lag_p99:,.0f} us too late, beside a p99 of "
            f"{latency.p99:,.0f} us; give it a core of its own, more threads, or a quieter machine"
        )
    unseen = int(np.count_nonzero(recording.measured["noticed_ns"] < 0))
    if unseen:
        reasons.append(f"the generator did not get to {unseen} requests before the run ended")
    return reasons


class _Window:
    """Watches the server from shortly before the end of the warm-up until the last request is due."""

    def __init__(self, load: Load, pid: int | None, count_batches: Callable[[], tuple[float, float] | None]) -> None:
        self._begin, self._end = load.warm_up - LOOK_BEFORE, load.seconds
        self._pid = pid
        self._count_batches = count_batches
        self._snapshots: list[Snapshot] = []
        self._batches: list[tuple[float, float] | None] = []
        self._memory: TreeMemory | None = None

    def look(self, seconds: float) -> None:
        """Take the first snapshot before the warm-up ends and the second when nothing more is due."""
        if not self._snapshots and seconds >= self._begin:
            self._batches.append(self._count_batches())  # asks the server, which costs: outside of the two snapshots
            self._snapshots.append(snapshot(self._pid))
        elif len(self._snapshots) == 1 and seconds >= self._end:
            self._snapshots.append(snapshot(self._pid))

    def close(self) -> None:
        """Take what is missing after the run."""
        self.look(float("inf"))
        self.look(float("inf"))
        self._batches.append(self._count_batches())
        if self._pid is not None:
            self._memory = tree_memory(self._pid)

    def cost(self, recording: Recording) -> Cost | None:
        """Divide what the tree used by what was answered meanwhile."""
        if self._pid is None or self._memory is None or not self._memory.processes:
            return None  # nothing was to be watched, or it has ended meanwhile
        used = usage(*self._snapshots)
        done = recording.records["done_ns"][recording.records["status"] == HTTP_OK]
        moments = [(moment.when * 1e9 - recording.started_ns) for moment in self._snapshots]
        answered = int(np.count_nonzero((done >= moments[0]) & (done < moments[1])))
        if not answered:
            return None
        cpu_us = used.tree.total / answered * 1e6
        generator = recording.generator_cpu_seconds * used.seconds / recording.seconds
        return Cost(
            cpu_us=cpu_us,
            user_us=cpu_us * used.tree.user_share,
            system_us=cpu_us * (1 - used.tree.user_share),
            cores=used.tree.total / used.seconds,
            rss=self._memory.rss,
            pss=self._memory.pss,
            processes=self._memory.processes,
            foreign_share=used.foreign_share(generator),
            threads={
                name: (each * clock.user_share, each * (1 - clock.user_share))
                for name, clock in used.threads.items()
                if (each := clock.total / answered * 1e6) > THREAD_US_MIN
            },
        )

    def mean_batch(self) -> float | None:
        """Rows by batches in between."""
        if len(self._batches) < 2 or self._batches[0] is None or self._batches[1] is None:
            return None
        rows, batches = (after - before for after, before in zip(self._batches[1], self._batches[0], strict=True))
        return rows / batches if batches else None
