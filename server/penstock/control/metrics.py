"""The counters of the data plane and the supervisor as Prometheus metrics, read when they are asked for."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple, cast

from prometheus_client import CollectorRegistry, ProcessCollector
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from penstock import __version__
from penstock.control.gpu_metrics import gpu_metrics
from penstock.control.ring_metrics import MODEL_LABELS, cost_metrics, cumulative, ring_metrics
from penstock.control.state import CostStats, EngineStats, ServerState
from penstock.control.worker_metrics import worker_metrics
from penstock.core.status import ModelState, ModelStatus
from penstock.telemetry.gpus import GpuWatch

__all__ = ["make_registry"]


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
    _Scalar("tap", "written", "penstock_tap_records", "Requests that the tap kept for the access log or a trace."),
    _Scalar("tap", "dropped", "penstock_tap_dropped", "Requests that the tap lost because nobody took them in time."),
    _Scalar("tap", "suppressed", "penstock_tap_suppressed", "Failed requests not logged since too many did at once."),
)
# By what the tap's drain calls them: only what is switched on is there.
_TAP_COUNTERS = {
    "access_log_lines": ("penstock_access_log_lines", "Lines written to the access log."),
    "access_log_dropped": ("penstock_access_log_dropped", "Lines lost because the access log could not be written."),
    "traces_exported": ("penstock_traces_exported", "Requests whose spans the collector has taken."),
    "traces_dropped": ("penstock_traces_dropped", "Requests whose spans were lost on the way to the collector."),
    "trace_exporter_restarts": ("penstock_trace_exporter_restarts", "Times that the export process was started again."),
}
# Of the second level of the result cache, where there is one.
_SECOND_LEVEL_COUNTERS = {
    "hits": ("penstock_cache_redis_hits", "Rows whose answer was found in Redis."),
    "misses": ("penstock_cache_redis_misses", "Rows whose answer was not there."),
    "timeouts": ("penstock_cache_redis_timeouts", "Times that Redis did not answer in time."),
    "failures": ("penstock_cache_redis_failures", "Lookups given up because Redis was late, refused or was gone."),
    "invalid": ("penstock_cache_redis_invalid", "Values under our names that were no answers of ours."),
    "skipped": ("penstock_cache_redis_skipped", "Rows run unasked: Redis was down, or too many lookups under way."),
    "writes": ("penstock_cache_redis_writes", "Answers put into Redis."),
    "writes_lost": ("penstock_cache_redis_writes_lost", "Answers that did not get there."),
}
_ENGINE_GAUGES = (
    _Scalar("connections", "open", "penstock_connections_open", "Connections open now."),
    _Scalar("body_pool", "bytes_used", "penstock_body_pool_used_bytes", "Bytes of the pool for large bodies in use."),
    _Scalar("body_pool", "bytes_max", "penstock_body_pool_limit_bytes", "Bytes that the pool may use."),
    _Scalar("control", "active", "penstock_control_active", "Requests at the control plane now."),
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
        self._gpus = GpuWatch().start()

    def describe(self) -> Iterable[Metric]:
        """Nothing: otherwise registering would read the state once."""
        return ()

    def collect(self) -> Iterator[Metric]:
        stats = cast(EngineStats, self._state.stats.stats())
        yield InfoMetricFamily("penstock_build", "The version that runs.", value={"version": __version__})
        yield from _engine_metrics(stats)
        yield _counter("penstock_log_records_dropped", "Log records dropped.", self._state.log_records_dropped())
        for key, count in ({} if self._state.tap_counts is None else self._state.tap_counts()).items():
            yield _counter(*_TAP_COUNTERS[key], count)
        yield from ring_metrics(stats["rings"])
        models = self._state.models.models()
        yield _readiness(models)
        yield from worker_metrics(models)
        yield from gpu_metrics(self._gpus.last())
        live = {ring["ring"] for ring in stats["rings"]}
        yield from cost_metrics(
            (
                (status.config.name, status.config.version, str(length or "")),
                cast(CostStats, self._state.stats.cost(status.ring, bucket)),
            )
            for status in models
            if status.ring in live and status.ring is not None
            for bucket, length in enumerate(status.config.lengths or (0,))
        )


def _engine_metrics(stats: EngineStats) -> Iterator[Metric]:
    yield GaugeMetricFamily("penstock_ready", "Whether the server says that it is ready.", value=float(stats["ready"]))
    yield GaugeMetricFamily("penstock_draining", "Whether the server is shutting down.", value=float(stats["draining"]))
    sections = cast(dict[str, dict[str, int]], stats)
    for scalar in _ENGINE_COUNTERS:
        yield _counter(scalar.name, scalar.help, sections[scalar.section][scalar.key])
    for scalar in _ENGINE_GAUGES:
        yield GaugeMetricFamily(scalar.name, scalar.help, value=sections[scalar.section][scalar.key])
    second_level = cast(dict[str, int] | None, stats["second_level"])
    if second_level is not None:
        for key, (name, text) in _SECOND_LEVEL_COUNTERS.items():
            yield _counter(name, text, second_level[key])
        yield GaugeMetricFamily("penstock_cache_redis_up", "Whether Redis is asked.", value=second_level["up"])
    longest = stats["loop"]["longest_pass_us"] / 1e6
    yield GaugeMetricFamily("penstock_loop_longest_pass_seconds", "Longest pass of an I/O loop so far.", value=longest)
    yield HistogramMetricFamily(
        "penstock_refusal_seconds",
        "From a request's last byte to its refusal at arrival.",
        buckets=cumulative(stats["refusal_seconds"]),
        sum_value=stats["refusal_seconds"]["sum"],
    )
    responses = CounterMetricFamily("penstock_responses", "Responses by status code.", labels=("status",))
    for status, count in stats["responses"].items():
        responses.add_metric((status,), count)
    yield responses


def _counter(name: str, text: str, value: float) -> CounterMetricFamily:
    return CounterMetricFamily(name, text, value=value)


def _readiness(models: Iterable[ModelStatus]) -> Metric:
    ready = GaugeMetricFamily("penstock_model_ready", "Whether the model version answers.", labels=MODEL_LABELS)
    for status in models:
        ready.add_metric((status.config.name, status.config.version), float(status.state == ModelState.READY))
    return ready
