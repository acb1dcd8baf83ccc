"""GPUs as Prometheus metrics."""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from penstock.telemetry.gpus import GpuReading

__all__ = ["gpu_metrics"]

_LABELS = ("gpu", "uuid", "name")
_FIGURES = {
    "utilization_ratio": "Share of the last moments in which a kernel ran.",
    "memory_utilization_ratio": "Share of the last moments in which the memory was read or written.",
    "memory_used_bytes": "Memory in use, by any process.",
    "memory_total_bytes": "Memory that it has.",
    "power_watts": "Power that it draws.",
    "temperature_celsius": "Its temperature.",
    "sm_clock_hertz": "Clock of its processors.",
    "memory_clock_hertz": "Clock of its memory.",
}


def gpu_metrics(readings: Iterable[GpuReading]) -> Iterator[Metric]:
    """Return one metric for each figure that any GPU tells; none without GPUs."""
    known = list(readings)
    for figure, text in _FIGURES.items():
        told = [reading for reading in known if figure in reading.figures]
        if told:
            family = GaugeMetricFamily(f"penstock_gpu_{figure}", text, labels=_LABELS)
            for reading in told:
                family.add_metric((reading.index, reading.uuid, reading.name), reading.figures[figure])
            yield family
    throttled = [reading for reading in known if reading.throttled]
    if throttled:
        family = GaugeMetricFamily(
            "penstock_gpu_clock_limited", "Whether its clocks are held down, and by what.", labels=(*_LABELS, "reason")
        )
        for reading in throttled:
            for reason, holds in reading.throttled.items():
                family.add_metric((reading.index, reading.uuid, reading.name, reason), float(holds))
        yield family
