"""The counters of the data plane and the supervisor as Prometheus metrics, read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import accumulate
from typing import Any, NamedTuple, cast

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from penstock import __version__
from penstock.control.state import EngineStats, HistogramStats, RingStats, ServerState
from penstock.core.status import ModelState, ModelStatus

__all__ = ["make_registry"]

_LABELS = ("model", "version")


class _Scalar(NamedTuple):
    """A metric without labels: where the engine's value stands, what it is called and what it means."""

    section: str
    key: str
    name: str
    help: str


# Counters end in _total, which the library adds.
_ENGINE_COUNTERS = (
    _Scalar("connections", "accepted", "penstock_connections_accepted", "Connections accepted."),
    _Scalar("connections", "refused", "penstock_connections_refused", "Connections refused at the limit."),
    _Scalar("connections", "timed_out", "penstock_connections_timed_out", "Connections closed for being too slow."),
    _Scalar("body_pool", "waits", "penstock_body_pool_waits", "Times that reading paused for want of a block."),
    _Scalar("body_pool", "refused", "penstock_body_pool_refused", "Requests refused for want of a block."),
    _Scalar("loop", "passes", "penstock_loop_passes", "Passes of the I/O loops."),
    _Scalar("loop", "wakeups", "penstock_loop_wakeups", "Times that an I/O loop slept and was woken."),
    _Scalar("loop", "lost_wakeups", "penstock_loop_lost_wakeups", "Safety nets of I/O loops that found work: 0."),
    _Scalar("control", "forwarded", "penstock_control_forwarded", "Requests handed to the control plane."),
    _Scalar("control", "failed", "penstock_control_failed", "Requests that the control plane did not answer."),
)
_ENGINE_GAUGES = (
    _Scalar("connections", "open", "penstock_connections_open", "Connections open now."),
    _Scalar("body_pool", "bytes_used", "penstock_body_pool_used_bytes", "Bytes of the pool for large bodies in use."),
    _Scalar("body_pool", "bytes_max", "penstock_body_pool_limit_bytes", "Bytes that the pool may use."),
    _Scalar("control", "active", "penstock_control_active", "Requests at the control plane now."),
)
# Key in RingStats, name, help.
_RING_COUNTERS = (
    ("rows_claimed", "penstock_rows_claimed", "Rows claimed in the ring."),
    ("claims_refused", "penstock_claims_refused", "Claims refused because every buffer was taken."),
    ("batches_done", "penstock_batches", "Batches completed."),
    (
        "partial_takes_held",
        "penstock_partial_takes_held",
        "Partial batches left open for want of a free buffer.",
    ),
    ("bell_rings", "penstock_bell_rings", "Wake-ups sent to sleeping workers."),
    ("lost_wakeups", "penstock_lost_wakeups", "Safety nets of workers that found work: 0."),
    ("deadline_exceeded", "penstock_deadline_exceeded", "Rows whose deadline passed before their reply."),
)
# Key in RingStats.histograms, name, help.
_HISTOGRAMS = (
    ("queue_seconds", "penstock_queue_seconds", "From a row's last byte to its batch being taken."),
    ("batch_seconds", "penstock_batch_seconds", "From a batch being taken to its being done."),
    ("run_seconds", "penstock_run_seconds", "What a batch spent in the worker once its rows were complete."),
    ("total_seconds", "penstock_request_seconds", "From a row's last byte to its reply."),
    ("batch_size", "penstock_batch_size", "Rows in a batch."),
)


def make_registry(state: ServerState) -> CollectorRegistry:
    """Return a registry that reads `state` at every scrape, and this process's memory, CPU time and descriptors."""
    registry = CollectorRegistry()
    registry.register(_StateCollector(state))
    ProcessCollector(registry=registry)
    return registry


class _StateCollector(Collector):
    def __init__(self, state: ServerState) -> None:
        self._state = state

    def describe(self) -> Iterable[Metric]:
        """Nothing: otherwise registering would read the state once."""
        return ()

    def collect(self) -> Iterator[Metric]:
        stats = cast(EngineStats, self._state.stats.stats())
        yield InfoMetricFamily("penstock_build", "The version that runs.", value={"version": __version__})
        yield from _engine_metrics(stats)
        yield _counter("penstock_log_records_dropped", "Log records dropped.", self._state.log_records_dropped())
        yield from _ring_metrics(stats["rings"])
        yield from _model_metrics(self._state.models.models())


def _engine_metrics(stats: EngineStats) -> Iterator[Metric]:
    yield GaugeMetricFamily("penstock_ready", "Whether the server says that it is ready.", value=float(stats["ready"]))
    yield GaugeMetricFamily("penstock_draining", "Whether the server is shutting down.", value=float(stats["draining"]))
    sections = cast(dict[str, dict[str, int]], stats)
    for scalar in _ENGINE_COUNTERS:
        yield _counter(scalar.name, scalar.help, sections[scalar.section][scalar.key])
    for scalar in _ENGINE_GAUGES:
        yield GaugeMetricFamily(scalar.name, scalar.help, value=sections[scalar.section][scalar.key])
    longest = stats["loop"]["longest_pass_us"] / 1e6
    yield GaugeMetricFamily("penstock_loop_longest_pass_seconds", "Longest pass of an I/O loop so far.", value=longest)
    responses = CounterMetricFamily("penstock_responses", "Responses by status code.", labels=("status",))
    for status, count in stats["responses"].items():
        responses.add_metric((status,), count)
    yield responses


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, value=value)


def _ring_metrics(all_rings: Iterable[RingStats]) -> Iterator[Metric]:
    rings = _sum_by_model(all_rings)
    labels = [(ring["model"], ring["version"]) for ring in rings]
    for key, name, text in _RING_COUNTERS:
        counter = CounterMetricFamily(name, text, labels=_LABELS)
        for label, ring in zip(labels, rings, strict=True):
            counter.add_metric(label, cast(dict[str, float], ring)[key])
        yield counter
    rows = CounterMetricFamily("penstock_rows", "Rows answered, by outcome.", labels=(*_LABELS, "outcome"))
    depth = GaugeMetricFamily("penstock_queue_rows", "Rows claimed and not yet taken.", labels=_LABELS)
    for label, ring in zip(labels, rings, strict=True):
        rows.add_metric((*label, "ok"), ring["rows_ok"])
        rows.add_metric((*label, "failed"), ring["rows_failed"])
        depth.add_metric(label, ring["rows_queued"])
    yield rows
    yield depth
    for key, name, text in _HISTOGRAMS:
        histogram = HistogramMetricFamily(name, text, labels=_LABELS)
        for label, ring in zip(labels, rings, strict=True):
            recorded = ring["histograms"][key]
            histogram.add_metric(label, _cumulative(recorded), recorded["sum"])
        yield histogram


def _sum_by_model(rings: Iterable[RingStats]) -> list[RingStats]:
    """Add up the rings of each model version: one that a worker spoilt is replaced, and its counts stay."""
    sums: dict[tuple[str, str], dict[str, Any]] = {}
    for ring in rings:
        known = sums.get((ring["model"], ring["version"]))
        if known is None:
            sums[ring["model"], ring["version"]] = {**ring}
            continue
        values = cast(dict[str, Any], ring)
        known |= {key: known[key] + values[key] for key, _, _ in _RING_COUNTERS}
        known |= {key: known[key] + values[key] for key in ("rows_ok", "rows_failed", "rows_queued")}
        known["histograms"] = {
            key: _sum_of(known["histograms"][key], ring["histograms"][key]) for key, _, _ in _HISTOGRAMS
        }
    return cast(list[RingStats], list(sums.values()))


def _sum_of(one: HistogramStats, other: HistogramStats) -> HistogramStats:
    counts = [a + b for a, b in zip(one["counts"], other["counts"], strict=True)]
    return {"bounds": one["bounds"], "counts": counts, "sum": one["sum"] + other["sum"]}


def _cumulative(histogram: HistogramStats) -> list[tuple[str, int]]:
    names = [*(format(float(bound), ".15g") for bound in histogram["bounds"]), "+Inf"]
    return list(zip(names, accumulate(histogram["counts"]), strict=True))


def _model_metrics(models: Iterable[ModelStatus]) -> Iterator[Metric]:
    ready = GaugeMetricFamily("penstock_model_ready", "Whether the model version answers.", labels=_LABELS)
    restarts = CounterMetricFamily("penstock_worker_restarts", "Workers started again.", labels=_LABELS)
    workers = GaugeMetricFamily("penstock_workers", "Workers by state.", labels=(*_LABELS, "state"))
    for status in models:
        label = (status.config.name, status.config.version)
        ready.add_metric(label, float(status.state == ModelState.READY))
        restarts.add_metric(label, sum(worker.restarts for worker in status.workers))
        states = [str(worker.state) for worker in status.workers]
        for state in sorted(set(states)):
            workers.add_metric((*label, state), states.count(state))
    yield ready
    yield restarts
    yield workers
