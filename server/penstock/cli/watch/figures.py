"""The figures of a server, its models and GPUs in one interval."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from penstock.cli.watch.samples import Interval

__all__ = ["Figures", "GpuFigures", "ModelFigures", "ServerFigures", "figures_of"]

# Metric, and what it is called among the errors.
_ERRORS = {
    "penstock_rows_shed_total": "shed",
    "penstock_deadline_exceeded_total": "deadline_exceeded",
    "penstock_rows_cancelled_total": "cancelled",
}
_WORKER_CPU, _WORKER_MEMORY = "penstock_worker_cpu_seconds_total", "penstock_worker_resident_memory_bytes"
_ANSWERED_BY_CACHE = ("penstock_cache_hits_total", "penstock_cache_coalesced_total")


@dataclass(frozen=True, slots=True)
class ModelFigures:
    """One version of a model. None is what is not known: before a second sample, or without a row."""

    model: str
    version: str
    ready: bool
    rows_per_s: float | None
    share: float | None  # of the rows of all versions
    latency_ms_p50: float | None
    latency_ms_p99: float | None
    queue_ms_p50: float | None
    queue_ms_p99: float | None
    run_ms_p50: float | None
    run_ms_p99: float | None
    batches_per_s: float | None
    batch_rows_mean: float | None
    queue_rows: int
    errors_per_s: Mapping[str, float] = field(default_factory=dict)
    sealed_per_s: Mapping[str, float] = field(default_factory=dict)
    cache_hit_share: float | None = None
    workers: Mapping[str, int] = field(default_factory=dict)
    worker_restarts: int = 0
    cpus_used: float | None = None  # by its workers, as far as no other model has them, too
    memory_bytes: int | None = None


@dataclass(frozen=True, slots=True)
class ServerFigures:
    """The main process, all workers together, and what all routes answered."""

    version: str
    ready: bool
    draining: bool
    connections: int
    cpus_used: float | None
    memory_bytes: int | None
    workers_cpus_used: float | None = None
    workers_memory_bytes: int | None = None
    responses_per_s: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class GpuFigures:
    """One GPU; a figure that it does not tell is None."""

    index: str
    name: str
    utilization: float | None
    memory_used_bytes: int | None
    memory_total_bytes: int | None
    power_watts: float | None
    temperature_celsius: float | None
    limited_by: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Figures:
    """All of one interval."""

    seconds: float
    server: ServerFigures
    models: tuple[ModelFigures, ...]
    gpus: tuple[GpuFigures, ...]


def figures_of(interval: Interval, model: str | None = None) -> Figures:
    """Return the figures of an interval, those of one model if it is named; the busiest first."""
    parts = interval.split("model", "version")
    models = [
        _model(name[0], name[1], part)
        for name, part in parts.items()
        # What is listed, or has a ring: other metrics may still tell of one that is gone.
        if model in (None, name[0]) and {"penstock_model_ready", "penstock_queue_rows"} & part.now.values.keys()
    ]
    totals: dict[str, float] = {}
    for each in models:
        totals[each.model] = totals.get(each.model, 0.0) + (each.rows_per_s or 0.0)
    models = [replace(each, share=_share(each.rows_per_s, totals[each.model])) for each in models]
    models.sort(key=lambda each: (-(each.rows_per_s or 0.0), each.model, each.version))
    return Figures(interval.seconds, _server(interval), tuple(models), tuple(_gpus(interval)))


def _model(model: str, version: str, interval: Interval) -> ModelFigures:
    now = interval.now
    hits, misses = (interval.increase(f"penstock_cache_{what}_total") for what in ("hits", "misses"))
    return ModelFigures(
        model=model,
        version=version,
        ready=bool(now.value("penstock_model_ready")),
        rows_per_s=_answered(interval),
        share=None,
        latency_ms_p50=_ms(interval.quantile("penstock_request_seconds", 0.5)),
        latency_ms_p99=_ms(interval.quantile("penstock_request_seconds", 0.99)),
        queue_ms_p50=_ms(interval.quantile("penstock_queue_seconds", 0.5)),
        queue_ms_p99=_ms(interval.quantile("penstock_queue_seconds", 0.99)),
        run_ms_p50=_ms(interval.quantile("penstock_run_seconds", 0.5)),
        run_ms_p99=_ms(interval.quantile("penstock_run_seconds", 0.99)),
        batches_per_s=interval.rate("penstock_batches_total"),
        batch_rows_mean=interval.mean("penstock_batch_size"),
        queue_rows=int(now.value("penstock_queue_rows") or 0),
        errors_per_s=_errors(interval),
        sealed_per_s=interval.rates_by("penstock_batches_sealed_total", "reason"),
        cache_hit_share=_share(hits, None if hits is None or misses is None else hits + misses),
        workers={labels["state"]: int(count) for labels, count in now.series("penstock_workers") if count},
        worker_restarts=int(now.value("penstock_worker_restarts_total") or 0),
        cpus_used=interval.rate(_WORKER_CPU) if _WORKER_CPU in now.values else None,
        memory_bytes=_whole(now.value(_WORKER_MEMORY)),
    )


def _answered(interval: Interval) -> float | None:
    """Return the rows answered in a second: those that ran, and those that the cache knew."""
    ran = interval.rate("penstock_rows_total", outcome="ok")
    return None if ran is None else ran + sum(interval.rate(name) or 0.0 for name in _ANSWERED_BY_CACHE)


def _share(part: float | None, whole: float | None) -> float | None:
    return part / whole if part is not None and whole else None


def _errors(interval: Interval) -> dict[str, float]:
    """Return what was not answered as asked, by its code."""
    errors = interval.rates_by("penstock_rows_refused_total", "reason")
    named = {code: interval.rate(metric) for metric, code in _ERRORS.items()}
    named["failed"] = interval.rate("penstock_rows_total", outcome="failed")
    return errors | {code: rate for code, rate in named.items() if rate}


def _server(interval: Interval) -> ServerFigures:
    now = interval.now
    version = next((labels.get("version", "") for labels, _ in now.series("penstock_build_info")), "")
    return ServerFigures(
        version=version,
        ready=bool(now.value("penstock_ready")),
        draining=bool(now.value("penstock_draining")),
        connections=int(now.value("penstock_connections_open") or 0),
        cpus_used=interval.rate("process_cpu_seconds_total"),
        memory_bytes=_whole(now.value("process_resident_memory_bytes")),
        workers_cpus_used=interval.rate(_WORKER_CPU) if _WORKER_CPU in now.values else None,
        workers_memory_bytes=_whole(now.value(_WORKER_MEMORY)),
        responses_per_s=interval.rates_by("penstock_responses_total", "status"),
    )


def _gpus(interval: Interval) -> list[GpuFigures]:
    now = interval.now
    found = {(labels["gpu"], labels["name"]) for labels, _ in now.series("penstock_gpu_memory_total_bytes")}
    found |= {(labels["gpu"], labels["name"]) for labels, _ in now.series("penstock_gpu_utilization_ratio")}
    gpus = []
    for index, name in sorted(found):

        def figure(what: str, index: str = index) -> float | None:
            return now.value(f"penstock_gpu_{what}", gpu=index)

        limits = [
            labels["reason"]
            for labels, holds in now.series("penstock_gpu_clock_limited")
            if labels["gpu"] == index and holds and labels["reason"] != "idle"
        ]
        gpus.append(
            GpuFigures(
                index=index,
                name=name,
                utilization=figure("utilization_ratio"),
                memory_used_bytes=_whole(figure("memory_used_bytes")),
                memory_total_bytes=_whole(figure("memory_total_bytes")),
                power_watts=figure("power_watts"),
                temperature_celsius=figure("temperature_celsius"),
                limited_by=tuple(sorted(limits)),
            )
        )
    return gpus


def _whole(value: float | None) -> int | None:
    return None if value is None else int(value)


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else seconds * 1e3
