"""Workers as Prometheus metrics: how many there are, how often they died, what they take."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily
from prometheus_client.metrics_core import Metric

from penstock.control.ring_metrics import MODEL_LABELS
from penstock.core.status import ModelStatus
from penstock.telemetry.processes import ProcessUse, use_of

__all__ = ["worker_metrics"]

_WORKER_LABELS = (*MODEL_LABELS, "worker")


def worker_metrics(models: Iterable[ModelStatus], use: Callable[[int], ProcessUse | None] = use_of) -> Iterator[Metric]:
    """Return the metrics of the workers of these models. A process that several models share is told of the first."""
    restarts = CounterMetricFamily("penstock_worker_restarts", "Workers started again.", labels=MODEL_LABELS)
    workers = GaugeMetricFamily("penstock_workers", "Workers by state.", labels=(*MODEL_LABELS, "state"))
    cpu = CounterMetricFamily("penstock_worker_cpu_seconds", "CPU time of a worker.", labels=_WORKER_LABELS)
    memory = GaugeMetricFamily(
        "penstock_worker_resident_memory_bytes", "Memory of a worker, with what it shares.", labels=_WORKER_LABELS
    )
    told: set[int] = set()
    for status in models:
        label = (status.config.name, status.config.version)
        restarts.add_metric(label, sum(worker.restarts for worker in status.workers))
        states = [str(worker.state) for worker in status.workers]
        for state in sorted(set(states)):
            workers.add_metric((*label, state), states.count(state))
        for worker in status.workers:
            if worker.pid is None or worker.pid in told or (taken := use(worker.pid)) is None:
                continue
            told.add(worker.pid)
            cpu.add_metric((*label, str(worker.worker)), taken.cpu_seconds)
            memory.add_metric((*label, str(worker.worker)), taken.resident_bytes)
    yield from (restarts, workers, cpu, memory)
