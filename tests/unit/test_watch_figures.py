"""The arithmetic of `penstock watch`: what happened between two samples of /metrics, and how it is drawn."""

import math
from collections.abc import Iterable, Mapping

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry
from prometheus_client.exposition import generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from penstock.cli.watch.columns import rate, table
from penstock.cli.watch.figures import Figures, ModelFigures, figures_of
from penstock.cli.watch.samples import Interval, parse, quantile_of
from penstock.cli.watch.sparkline import sparkline
from penstock.cli.watch.view import View
from penstock.cli.watch.watching import POINTS, History
from penstock.control.gpu_metrics import gpu_metrics
from penstock.telemetry.gpus import GpuReading

ROWS = "penstock_rows_total"


def text(counts: Mapping[str, float], start: float = 1.0) -> str:
    return "".join(f"{name} {value}\n" for name, value in counts.items()) + f"process_start_time_seconds {start}\n"


def between(
    before: Mapping[str, float], now: Mapping[str, float], *, starts: tuple[float, float] = (1.0, 1.0)
) -> Interval:
    return Interval.between(parse(text(before, starts[0]), 10.0), parse(text(now, starts[1]), 12.0))


def rows(count: float, model: str = "m", version: str = "1", outcome: str = "ok") -> dict[str, float]:
    return {f'{ROWS}{{model="{model}",version="{version}",outcome="{outcome}"}}': count}


def test_a_rate_is_the_increase_over_the_time() -> None:
    interval = between(rows(100), rows(150))
    assert (interval.seconds, interval.increase(ROWS), interval.rate(ROWS)) == (2.0, 50, 25)
    assert interval.rate(ROWS, model="other") == 0


def test_a_counter_that_falls_began_anew() -> None:
    assert between(rows(100), rows(30)).increase(ROWS) == 30


def test_counters_of_a_server_that_was_started_again_began_anew_even_above_what_they_were() -> None:
    assert between(rows(100), rows(130), starts=(1.0, 2.0)).increase(ROWS) == 130


def test_what_was_not_there_before_began_at_nothing() -> None:
    assert between(rows(5), rows(5) | rows(7, version="2")).increase(ROWS) == 7


def test_nothing_is_known_without_an_earlier_sample() -> None:
    interval = Interval.between(None, parse(text(rows(5)), 1.0))
    assert (interval.increase(ROWS), interval.rates_by(ROWS, "outcome"), interval.is_known) == (None, {}, False)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 1000)), min_size=1, max_size=20))
def test_no_reset_makes_a_rate_negative_and_no_increase_is_lost(steps: list[tuple[bool, int]]) -> None:
    count, told, started = 0, 0.0, 1.0
    before = parse(text(rows(0), started), 0.0)
    for at, (restarts, more) in enumerate(steps, 1):
        if restarts:
            count, started = 0, started + 1
        count += more
        now = parse(text(rows(count), started), float(at))
        increase = Interval.between(before, now).increase(ROWS)
        assert increase == more
        told, before = told + increase, now
    assert told == sum(more for _, more in steps)


def histogram(name: str, values: Iterable[float], bounds: Iterable[float]) -> dict[str, float]:
    values = list(values)
    counts = {f'{name}_bucket{{le="{bound}"}}': float(sum(value <= bound for value in values)) for bound in bounds}
    counts[f'{name}_bucket{{le="+Inf"}}'] = counts[f"{name}_count"] = len(values)
    return counts | {f"{name}_sum": sum(values)}


BOUNDS = [1.0, 2.5, 5.0, 10.0, 25.0]
SECONDS = "penstock_request_seconds"


@given(st.lists(st.floats(0.001, 24), min_size=1), st.lists(st.floats(0.001, 24)), st.floats(0.01, 1))
def test_a_quantile_is_in_the_bucket_of_the_true_one(new: list[float], old: list[float], share: float) -> None:
    interval = between(histogram(SECONDS, old, BOUNDS), histogram(SECONDS, [*old, *new], BOUNDS))
    found = interval.quantile(SECONDS, share)
    true = sorted(new)[math.ceil(share * len(new)) - 1]
    high = next(bound for bound in BOUNDS if true <= bound)
    low = max([bound for bound in BOUNDS if bound < high], default=0.0)
    assert found is not None
    assert low <= found <= high
    assert interval.mean(SECONDS) == pytest.approx(sum(new) / len(new), rel=1e-6, abs=1e-6)


def test_a_quantile_is_even_within_its_bucket() -> None:
    assert quantile_of([(1.0, 0.0), (2.0, 100.0), (math.inf, 100.0)], 0.5) == 1.5
    assert quantile_of([(1.0, 10.0), (math.inf, 10.0)], 0.5) == 0.5


def test_a_quantile_above_all_bounds_is_the_highest() -> None:
    assert quantile_of([(1.0, 1.0), (10.0, 1.0), (math.inf, 100.0)], 0.99) == 10.0


@pytest.mark.parametrize("buckets", [[], [(1.0, 0.0), (math.inf, 0.0)], [(1.0, 3.0)], [(math.inf, 3.0)]])
def test_there_is_no_quantile_of_nothing(buckets: list[tuple[float, float]]) -> None:
    assert quantile_of(buckets, 0.5) is None


def test_a_quantile_after_a_restart_is_of_what_came_since() -> None:
    interval = between(
        histogram(SECONDS, [20.0] * 1000, BOUNDS), histogram(SECONDS, [0.5] * 10, BOUNDS), starts=(1.0, 2.0)
    )
    assert (interval.quantile(SECONDS, 0.99) or 99) <= 1.0


def test_lines_that_mean_nothing_are_passed_over() -> None:
    sample = parse(
        '# HELP x y\n\npenstock_ready 1.0\npenstock_queue_rows{model="a",version="1" 3\n'
        'penstock_queue_rows{model="b\\"x",version="1"} 4\npenstock_draining nonsense\nother_metric 3\n<html>\n',
        0.0,
    )
    assert sample.value("penstock_ready") == 1
    assert [(labels["model"], value) for labels, value in sample.series("penstock_queue_rows")] == [('b"x', 4)]
    assert sample.value("penstock_draining") is None
    assert sample.value("other_metric") is None
    assert parse("<html></html>", 0.0).values == {}


def of_model(metric: str, value: float, version: str = "1", **more: str) -> dict[str, float]:
    labels = {"model": "m", "version": version, **more}
    return {metric + "{" + ",".join(f'{name}="{each}"' for name, each in labels.items()) + "}": value}


def test_the_figures_of_versions() -> None:
    now = {
        **of_model("penstock_model_ready", 1),
        **of_model("penstock_model_ready", 0, "2"),
        **of_model("penstock_queue_rows", 3),
        **rows(60),
        **rows(20, version="2"),
        **rows(2, outcome="failed"),
        **of_model("penstock_cache_hits_total", 15),
        **of_model("penstock_cache_coalesced_total", 5),
        **of_model("penstock_cache_misses_total", 60),
        **of_model("penstock_rows_refused_total", 8, reason="queue_full"),
        **of_model("penstock_rows_refused_total", 0, reason="deadline_unreachable"),
        **of_model("penstock_rows_shed_total", 4),
        **of_model("penstock_workers", 2, state="ready"),
        **of_model("penstock_workers", 1, state="starting"),
        **of_model("penstock_worker_restarts_total", 7),
        **of_model("penstock_batch_size_sum", 60),
        **of_model("penstock_batch_size_count", 10),
        'penstock_responses_total{status="200"}': 90,
        'penstock_build_info{version="0.1.0"}': 1,
        "process_cpu_seconds_total": 3,
        "process_resident_memory_bytes": 1000,
        "penstock_connections_open": 4,
    }
    figures = figures_of(between({}, now))
    first, second = figures.models
    assert (first.version, first.rows_per_s, first.share, first.ready) == ("1", 40, 0.8, True)
    assert (second.version, second.rows_per_s, second.share, second.ready) == ("2", 10, 0.2, False)
    assert first.errors_per_s == {"failed": 1, "queue_full": 4, "shed": 2}
    assert (first.workers, first.worker_restarts, first.queue_rows) == ({"ready": 2, "starting": 1}, 7, 3)
    assert (first.batch_rows_mean, first.cache_hit_share) == (6, 0.2)
    server = figures.server
    assert (server.version, server.cpus_used, server.memory_bytes) == ("0.1.0", 1.5, 1000)
    assert (server.connections, server.responses_per_s) == (4, {"200": 45})
    assert figures_of(between({}, now), "other").models == ()


class Gpus(Collector):
    def collect(self) -> Iterable[Metric]:
        figures = {
            "utilization_ratio": 0.93,
            "memory_used_bytes": 4e10,
            "memory_total_bytes": 8e10,
            "power_watts": 650.0,
        }
        return gpu_metrics(
            [GpuReading("0", "GPU-1", "NVIDIA H100", figures, {"power_cap": True, "idle": True, "thermal": False})]
        )


def test_gpus_are_read_as_the_server_writes_them() -> None:
    registry = CollectorRegistry()
    registry.register(Gpus())
    written = generate_latest(registry).decode() + "penstock_ready 1.0\n"
    figures = figures_of(Interval.between(None, parse(written, 0.0)))
    (gpu,) = figures.gpus
    assert (gpu.name, gpu.utilization, gpu.memory_used_bytes, gpu.limited_by) == (
        "NVIDIA H100",
        0.93,
        4 * 10**10,
        ("power_cap",),
    )
    shown = view({}).as_text(figures, 100)
    assert "gpu 0  NVIDIA H100  93% busy  37.3 GiB of 74.5 GiB  650 W  held down by power_cap" in shown


def view(histories: dict[tuple[str, str], History], model: str | None = None) -> View:
    return View("http://127.0.0.1:8000", 1.0, model, histories)


def many(count: int) -> tuple[Figures, dict[tuple[str, str], History]]:
    now: dict[str, float] = {}
    for number in range(count):
        now |= rows(number * 1e6, model=f"model-with-a-long-name-{number}", version=f"{number}.0.0")
        now |= {f'penstock_model_ready{{model="model-with-a-long-name-{number}",version="{number}.0.0"}}': 1}
    figures = figures_of(between({}, now))
    histories = {(each.model, each.version): History() for each in figures.models}
    for history in histories.values():
        history.rows_per_s.extend(float(at) for at in range(100))
        history.latency_ms_p99.extend([None, 1.0, 2.0])
    return figures, histories


@pytest.mark.parametrize("width", [40, 60, 80, 100, 132, 200, 400])
def test_columns_adapt_to_the_width(width: int) -> None:
    figures, histories = many(3)
    lines = table(figures.models, histories, width, plain=False)
    assert max(line.cell_len for line in lines) <= width
    titles = lines[0].plain.split()
    assert {"MODEL", "ROWS/S", "P99"} <= set(titles)
    assert ("WORKERS" in titles) == (width >= 132)
    assert len(lines) == 4
    assert ("█" in lines[1].plain) == (width >= 100)


def test_more_models_than_lines_are_counted() -> None:
    figures, histories = many(30)
    lines = view(histories).lines(figures, 100, 20)
    assert len(lines) <= 20
    assert "more versions that are asked less" in lines[-1].plain
    # The busiest are those that are shown.
    assert "model-with-a-long-name-29" in lines[4].plain
    assert len(view(histories).lines(figures, 100)) > 30


def test_one_model_alone_is_shown_in_detail() -> None:
    figures, histories = many(1)
    shown = view(histories, "model-with-a-long-name-0").as_text(figures, 100)
    assert "waiting  p50 - " in shown
    assert "running  p50 - " in shown
    assert "waiting" not in view(histories).as_text(figures, 100)


@pytest.mark.parametrize(
    ("values", "line"),
    [
        ([0.0, 1.0, 2.0, 4.0, 7.0], "▁▂▃▅█"),
        ([None, 0.0, None, 7.0], " ▁ █"),
        ([0.001, 1000.0], "▂█"),
        ([0.0, 0.0], "▁▁"),
        ([], ""),
        ([None], " "),
    ],
)
def test_sparklines(values: list[float | None], line: str) -> None:
    assert sparkline(values, len(line)) == line


def test_a_sparkline_ends_with_what_is_now() -> None:
    assert sparkline([9.0, 9.0, 0.0, 1.0], 2) == "▁█"
    assert sparkline([1.0], 4) == "   █"
    assert sparkline([0.0, 1.0], 2, plain=True) == "_#"


def test_the_last_minute_is_kept() -> None:
    history = History()
    history.rows_per_s.extend(float(number) for number in range(POINTS + 1))
    assert (len(history.rows_per_s), history.rows_per_s[0]) == (POINTS, 1.0)


@pytest.mark.parametrize(
    ("value", "told"),
    [(None, "-"), (0.0, "0"), (0.25, "0.2"), (9.6, "9.6"), (12.4, "12"), (1234.0, "1,234"), (2.5e5, "250k")],
)
def test_rates_have_as_many_digits_as_say_something(value: float | None, told: str) -> None:
    assert rate(value) == told


def test_a_model_without_rows_says_so() -> None:
    model = ModelFigures("m", "1", True, 0.0, None, None, None, None, None, None, None, 0.0, None, 0)
    assert table([model], {}, 100, plain=False)[1].plain.split() == [*"m10---00--0"]
