"""The counters of rings, and what their batches cost, as Prometheus metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from itertools import accumulate
from typing import Any, cast

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from penstock.control.state import CostStats, HistogramStats, RingStats, is_known

__all__ = ["MODEL_LABELS", "cost_metrics", "cumulative", "ring_metrics", "sum_by_model"]

MODEL_LABELS = ("model", "version")
_COST_LABELS = (*MODEL_LABELS, "length")  # empty where no tensor varies in length

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
    ("rows_shed", "penstock_rows_shed", "Rows dropped from a batch because they would have been late."),
    ("rows_cancelled", "penstock_rows_cancelled", "Rows whose client was gone before their reply."),
    ("padded_rows", "penstock_padded_rows", "Rows run only to fill a batch to an allowed size."),
    ("cache_hits", "penstock_cache_hits", "Rows answered from the result cache."),
    ("cache_misses", "penstock_cache_misses", "Rows that ran since the result cache did not know the answer."),
    ("cache_coalesced", "penstock_cache_coalesced", "Rows that shared the run of an equal one."),
    ("cache_evictions", "penstock_cache_evictions", "Answers that left the result cache for want of room."),
)
# Key in RingStats, its label, name, help.
_RING_COUNTERS_BY_LABEL = (
    ("batches_by_reason", "reason", "penstock_batches_sealed", "Batches by why they were sealed."),
    ("rows_by_class", "class", "penstock_rows_by_class", "Rows claimed, by class."),
)

# Likewise, of what is now.
_RING_GAUGES = (
    ("cache_rows", "penstock_cache_rows", "Answers in the result cache."),
    ("cache_bytes", "penstock_cache_bytes", "Memory of the answers in the result cache."),
)
_ROW_COUNTS = ("rows_ok", "rows_failed", "rows_queued", "rows_refused_deadline")
# Key in RingStats.histograms, name, help.
_HISTOGRAMS = (
    ("queue_seconds", "penstock_queue_seconds", "From a row's last byte to its batch being taken."),
    ("batch_seconds", "penstock_batch_seconds", "From a batch being taken to its being done."),
    ("run_seconds", "penstock_run_seconds", "What a batch spent in the worker once its rows were complete."),
    ("total_seconds", "penstock_request_seconds", "From a row's last byte to its reply."),
    ("batch_size", "penstock_batch_size", "Rows in a batch."),
    ("prediction_error", "penstock_prediction_error_ratio", "Error of a predicted run time over the run time."),
)


def ring_metrics(all_rings: Iterable[RingStats]) -> Iterator[Metric]:
    """Return the counters and histograms of rings, added up for each model version."""
    rings = sum_by_model(all_rings)
    labels = [(ring["model"], ring["version"]) for ring in rings]
    for key, name, text in _RING_COUNTERS:
        counter = CounterMetricFamily(name, text, labels=MODEL_LABELS)
        for label, ring in zip(labels, rings, strict=True):
            counter.add_metric(label, cast(dict[str, float], ring)[key])
        yield counter
    for key, name, text in _RING_GAUGES:
        gauge = GaugeMetricFamily(name, text, labels=MODEL_LABELS)
        for label, ring in zip(labels, rings, strict=True):
            gauge.add_metric(label, cast(dict[str, float], ring)[key])
        yield gauge
    for key, name_of_label, name, text in _RING_COUNTERS_BY_LABEL:
        counter = CounterMetricFamily(name, text, labels=(*MODEL_LABELS, name_of_label))
        for label, ring in zip(labels, rings, strict=True):
            for value, count in cast(dict[str, dict[str, int]], ring)[key].items():
                counter.add_metric((*label, value), count)
        yield counter
    yield from _row_metrics(labels, rings)
    for key, name, text in _HISTOGRAMS:
        histogram = HistogramMetricFamily(name, text, labels=MODEL_LABELS)
        for label, ring in zip(labels, rings, strict=True):
            recorded = ring["histograms"][key]
            histogram.add_metric(label, cumulative(recorded), recorded["sum"])
        yield histogram


def _row_metrics(labels: Sequence[tuple[str, str]], rings: Sequence[RingStats]) -> Iterator[Metric]:
    rows = CounterMetricFamily("penstock_rows", "Rows answered, by outcome.", labels=(*MODEL_LABELS, "outcome"))
    refused = CounterMetricFamily("penstock_rows_refused", "Rows refused at arrival.", labels=(*MODEL_LABELS, "reason"))
    depth = GaugeMetricFamily("penstock_queue_rows", "Rows claimed and not yet taken.", labels=MODEL_LABELS)
    for label, ring in zip(labels, rings, strict=True):
        rows.add_metric((*label, "ok"), ring["rows_ok"])
        rows.add_metric((*label, "failed"), ring["rows_failed"])
        refused.add_metric((*label, "queue_full"), ring["claims_refused"])
        refused.add_metric((*label, "deadline_unreachable"), ring["rows_refused_deadline"])
        depth.add_metric(label, ring["rows_queued"])
    yield from (rows, refused, depth)


def cost_metrics(costs: Iterable[tuple[tuple[str, str, str], CostStats]]) -> Iterator[Metric]:
    """Return what batches cost, as learned so far, of rings by their model, version and length."""
    curve = GaugeMetricFamily(
        "penstock_batch_cost_seconds", "Learned run time of a batch.", labels=(*_COST_LABELS, "rows", "quantile")
    )
    error = GaugeMetricFamily(
        "penstock_batch_cost_error_p95",
        "Error of predicted run times over run times, 95th percentile.",
        labels=_COST_LABELS,
    )
    alarm = GaugeMetricFamily("penstock_batch_cost_alarm", "Whether the learned cost is off.", labels=_COST_LABELS)
    for label, cost in costs:
        if not is_known(cost):
            continue
        for rows, mean, p99 in zip(cost["rows"], cost["mean_seconds"], cost["p99_seconds"], strict=True):
            curve.add_metric((*label, str(rows), "mean"), mean)
            curve.add_metric((*label, str(rows), "p99"), p99)
        error.add_metric(label, cost["error_p95"])
        alarm.add_metric(label, float(cost["alarm"]))
    yield from (curve, error, alarm)


def sum_by_model(rings: Iterable[RingStats]) -> list[RingStats]:
    """Add up the rings of each model version: one that a worker spoilt is replaced, and its counts stay."""
    sums: dict[tuple[str, str], dict[str, Any]] = {}
    for ring in rings:
        known = sums.get((ring["model"], ring["version"]))
        if known is None:
            sums[ring["model"], ring["version"]] = {**ring}
            continue
        values = cast(dict[str, Any], ring)
        for key in (*_ROW_COUNTS, *(each[0] for each in (*_RING_COUNTERS, *_RING_GAUGES))):
            known[key] += values[key]
        for counter in _RING_COUNTERS_BY_LABEL:
            one, other = known[counter[0]], values[counter[0]]
            known[counter[0]] = {label: one.get(label, 0) + other.get(label, 0) for label in one | other}
        known["batches_by_size"] = _sum_of_sizes(known["batches_by_size"], ring["batches_by_size"])
        known["histograms"] = {
            key: _sum_of(known["histograms"][key], ring["histograms"][key]) for key, _, _ in _HISTOGRAMS
        }
    return cast(list[RingStats], list(sums.values()))


def _sum_of_sizes(
    one: Iterable[tuple[int, int, int, int]], other: Iterable[tuple[int, int, int, int]]
) -> list[tuple[int, int, int, int]]:
    sums: dict[int, tuple[int, int, int]] = {}
    for rows, batches, batch_ns, run_ns in (*one, *other):
        before = sums.get(rows, (0, 0, 0))
        sums[rows] = (before[0] + batches, before[1] + batch_ns, before[2] + run_ns)
    return [(rows, *sums[rows]) for rows in sorted(sums)]


def _sum_of(one: HistogramStats, other: HistogramStats) -> HistogramStats:
    counts = [a + b for a, b in zip(one["counts"], other["counts"], strict=True)]
    return {"bounds": one["bounds"], "counts": counts, "sum": one["sum"] + other["sum"]}


def cumulative(histogram: HistogramStats) -> list[tuple[str, int]]:
    """Return the counts up to each bound, as Prometheus wants them."""
    names = [*(format(float(bound), ".15g") for bound in histogram["bounds"]), "+Inf"]
    return list(zip(names, accumulate(histogram["counts"]), strict=True))
