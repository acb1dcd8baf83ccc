"""What /metrics says, from counters as the engine gives them."""

import re
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from tests.integration.control_plane import RING, STATS, Control


def metrics_of(control: Control) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    response, body = control.request("GET", "/metrics")
    assert response.status == 200
    assert response.headers["Content-Type"].startswith("text/plain; version=")
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(body.decode())
        for sample in family.samples
    }


MODEL = (("model", "digits"), ("version", "1"))
LENGTH = ("length", "")  # of a model whose rows do not vary


@pytest.mark.parametrize(
    ("name", "labels", "value"),
    [
        ("penstock_ready", (), 1),
        ("penstock_draining", (), 0),
        ("penstock_connections_open", (), 3),
        ("penstock_connections_accepted_total", (), 20),
        ("penstock_connections_refused_total", (), 1),
        ("penstock_connections_timed_out_total", (), 2),
        ("penstock_responses_total", (("status", "200"),), 90),
        ("penstock_responses_total", (("status", "422"),), 2),
        ("penstock_body_pool_used_bytes", (), 4096),
        ("penstock_body_pool_limit_bytes", (), 1 << 27),
        ("penstock_body_pool_waits_total", (), 6),
        ("penstock_loop_passes_total", (), 50),
        ("penstock_loop_wakeups_total", (), 30),
        ("penstock_loop_lost_wakeups_total", (), 0),
        ("penstock_loop_longest_pass_seconds", (), 0.0025),
        ("penstock_control_forwarded_total", (), 8),
        ("penstock_log_records_dropped_total", (), 11),
        ("penstock_tap_records_total", (), 14),
        ("penstock_tap_dropped_total", (), 2),
        ("penstock_tap_suppressed_total", (), 5),
        ("penstock_access_log_lines_total", (), 12),
        ("penstock_access_log_dropped_total", (), 3),
        ("penstock_traces_exported_total", (), 6),
        ("penstock_traces_dropped_total", (), 4),
        ("penstock_trace_exporter_restarts_total", (), 1),
        ("penstock_rows_total", (*MODEL[:1], ("outcome", "ok"), MODEL[1]), 90),
        ("penstock_rows_total", (*MODEL[:1], ("outcome", "failed"), MODEL[1]), 2),
        ("penstock_rows_claimed_total", MODEL, 100),
        ("penstock_claims_refused_total", MODEL, 4),
        ("penstock_bell_rings_total", MODEL, 9),
        ("penstock_batches_total", MODEL, 12),
        ("penstock_partial_takes_held_total", MODEL, 3),
        ("penstock_lost_wakeups_total", MODEL, 0),
        ("penstock_deadline_exceeded_total", MODEL, 1),
        ("penstock_queue_rows", MODEL, 5),
        ("penstock_rows_shed_total", MODEL, 6),
        ("penstock_rows_cancelled_total", MODEL, 2),
        ("penstock_refusal_seconds_count", (), 10),
        ("penstock_padded_rows_total", MODEL, 8),
        ("penstock_cache_redis_hits_total", (), 41),
        ("penstock_cache_redis_misses_total", (), 42),
        ("penstock_cache_redis_timeouts_total", (), 43),
        ("penstock_cache_redis_failures_total", (), 44),
        ("penstock_cache_redis_invalid_total", (), 45),
        ("penstock_cache_redis_skipped_total", (), 46),
        ("penstock_cache_redis_writes_total", (), 47),
        ("penstock_cache_redis_writes_lost_total", (), 48),
        ("penstock_cache_redis_up", (), 1),
        ("penstock_cache_hits_total", MODEL, 31),
        ("penstock_cache_misses_total", MODEL, 32),
        ("penstock_cache_coalesced_total", MODEL, 33),
        ("penstock_cache_evictions_total", MODEL, 34),
        ("penstock_cache_rows", MODEL, 35),
        ("penstock_cache_bytes", MODEL, 36),
        ("penstock_rows_refused_total", (*MODEL[:1], ("reason", "queue_full"), MODEL[1]), 4),
        ("penstock_rows_refused_total", (*MODEL[:1], ("reason", "deadline_unreachable"), MODEL[1]), 7),
        ("penstock_batches_sealed_total", (*MODEL[:1], ("reason", "full"), MODEL[1]), 9),
        ("penstock_rows_by_class_total", (("class", "interactive"), *MODEL), 10),
        ("penstock_batch_cost_seconds", (LENGTH, *MODEL[:1], ("quantile", "mean"), ("rows", "64"), MODEL[1]), 0.004),
        ("penstock_batch_cost_seconds", (LENGTH, *MODEL[:1], ("quantile", "p99"), ("rows", "1"), MODEL[1]), 0.002),
        ("penstock_batch_cost_error_p95", (LENGTH, *MODEL), 0.08),
        ("penstock_batch_cost_alarm", (LENGTH, *MODEL), 0),
        ("penstock_prediction_error_ratio_sum", MODEL, 0.6),
        ("penstock_workers", (MODEL[0], ("state", "quarantine"), MODEL[1]), 1),
        ("penstock_model_ready", MODEL, 1),
        ("penstock_model_ready", (("model", "broken"), ("version", "2024-01")), 0),
        ("penstock_worker_restarts_total", MODEL, 3),
        ("penstock_workers", (MODEL[0], ("state", "ready"), MODEL[1]), 1),
        ("penstock_workers", (MODEL[0], ("state", "backing_off"), MODEL[1]), 1),
        ("penstock_request_seconds_bucket", (("le", "0.001"), *MODEL), 5),
        ("penstock_request_seconds_bucket", (("le", "0.1"), *MODEL), 8),
        ("penstock_request_seconds_bucket", (("le", "+Inf"), *MODEL), 10),
        ("penstock_request_seconds_count", MODEL, 10),
        ("penstock_request_seconds_sum", MODEL, 1.5),
        ("penstock_queue_seconds_count", MODEL, 10),
        ("penstock_batch_seconds_count", MODEL, 10),
        ("penstock_run_seconds_count", MODEL, 10),
        ("penstock_batch_size_sum", MODEL, 31),
    ],
)
def test_metric_has_its_value(control: Control, name: str, labels: tuple[tuple[str, str], ...], value: float) -> None:
    assert metrics_of(control)[name, labels] == value


def test_metrics_say_how_much_memory_the_process_takes(control: Control) -> None:
    assert metrics_of(control)["process_resident_memory_bytes", ()] > 1e6


def test_metrics_are_read_when_asked(control: Control) -> None:
    assert metrics_of(control)["penstock_ready", ()] == 1
    control.source.counters = STATS | {"ready": False, "rings": []}
    metrics = metrics_of(control)
    assert metrics["penstock_ready", ()] == 0
    assert ("penstock_queue_rows", MODEL) not in metrics


def test_document_lists_every_metric(control: Control) -> None:
    document = (Path(__file__).resolve().parents[2] / "docs/operations.md").read_text()
    documented = {
        name: tuple(sorted(labels.replace(" ", "").split(","))) if labels else ()
        for name, labels in re.findall(r"^\| `(penstock_\w+)` \| (.*?) ?\| .+ \|$", document, re.MULTILINE)
    }
    _, body = control.request("GET", "/metrics")
    exported = {}
    for family in text_string_to_metric_families(body.decode()):
        if family.name.startswith("penstock_"):
            labels = {label for sample in family.samples for label in sample.labels} - {"le"}
            exported[family.samples[0].name.removesuffix("_bucket")] = tuple(sorted(labels))
    assert documented == exported


def test_rings_of_one_model_version_are_added_up(control: Control) -> None:
    control.source.counters = STATS | {"rings": [RING, RING | {"ring": 8, "rows_queued": 1}]}
    metrics = metrics_of(control)
    assert metrics["penstock_rows_claimed_total", MODEL] == 200
    assert metrics["penstock_rows_by_class_total", (("class", "normal"), *MODEL)] == 180
    assert metrics["penstock_queue_rows", MODEL] == 6
    assert metrics["penstock_run_seconds_count", MODEL] == 20
    assert metrics["penstock_run_seconds_sum", MODEL] == 3.0


def test_openmetrics_is_sent_to_who_asks(control: Control) -> None:
    response, body = control.request("GET", "/metrics", {"Accept": "application/openmetrics-text; version=1.0.0"})
    assert response.headers["Content-Type"].startswith("application/openmetrics-text; version=1.0.0")
    assert body.endswith(b"# EOF\n")
