"""What workers take, in the metrics and in `penstock watch`."""

import os
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from penstock.cli.watch.figures import figures_of
from penstock.cli.watch.samples import Interval, parse
from penstock.control.worker_metrics import worker_metrics
from penstock.core.config import ModelConfig
from penstock.core.status import ModelState, ModelStatus, WorkerState, WorkerStatus
from penstock.telemetry.processes import ProcessUse, use_of


def worker(slot: int, pid: int | None, restarts: int = 0) -> WorkerStatus:
    return WorkerStatus(slot, pid, WorkerState.READY if pid else WorkerState.BACKING_OFF, restarts)


def status(name: str, *workers: WorkerStatus) -> ModelStatus:
    return ModelStatus(ModelConfig(name, Path("m.onnx")), ModelState.READY, latest=True, workers=workers)


def text_of(models: list[ModelStatus], uses: dict[int, ProcessUse]) -> str:
    class Once(Collector):
        def collect(self) -> list[Metric]:
            return list(worker_metrics(models, uses.get))

    registry = CollectorRegistry()
    registry.register(Once())
    return generate_latest(registry).decode()


def test_a_process_is_told_as_the_kernel_counts_it() -> None:
    before = use_of(os.getpid())
    assert before is not None
    began = time.process_time()
    while time.process_time() < began + 0.1:
        pass
    after = use_of(os.getpid())
    assert after is not None
    assert after.cpu_seconds - before.cpu_seconds >= 0.08
    assert after.cpu_seconds <= sum(os.times()[:2]) + 0.02
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    assert after.resident_bytes == pytest.approx(resident, rel=0.2)


def test_a_name_with_blanks_and_brackets_is_no_obstacle() -> None:
    named = "open('/proc/self/comm', 'w').write('a) R (b 1 2'); print(flush=True); input()"
    with subprocess.Popen([sys.executable, "-c", named], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        process.stdout.readline()
        taken = use_of(process.pid)
        process.kill()
    assert taken is not None
    assert 1 << 20 < taken.resident_bytes < 1 << 30
    assert use_of(process.pid) is None


def test_each_worker_is_told_once_and_those_without_a_process_are_not() -> None:
    uses = {10: ProcessUse(1.5, 4096), 11: ProcessUse(2.5, 8192)}
    models = [status("a", worker(0, 10), worker(1, None, restarts=2)), status("b", worker(0, 10), worker(1, 11))]
    told = text_of([*models, status("gone", worker(0, 99))], uses)
    assert 'penstock_worker_restarts_total{model="a",version="1"} 2.0' in told
    assert 'penstock_workers{model="a",state="backing_off",version="1"} 1.0' in told
    assert [
        line for line in told.splitlines() if line.startswith(("penstock_worker_cpu", "penstock_worker_resident"))
    ] == [
        'penstock_worker_cpu_seconds_total{model="a",version="1",worker="0"} 1.5',
        'penstock_worker_cpu_seconds_total{model="b",version="1",worker="1"} 2.5',
        'penstock_worker_resident_memory_bytes{model="a",version="1",worker="0"} 4096.0',
        'penstock_worker_resident_memory_bytes{model="b",version="1",worker="1"} 8192.0',
    ]


def test_watch_tells_what_workers_take_in_an_interval() -> None:
    uses = {10: ProcessUse(1.0, 4096), 11: ProcessUse(2.0, 8192)}
    models = [status("a", worker(0, 10), worker(1, 11))]
    ready = 'penstock_model_ready{model="a",version="1"} 1\n'
    before = parse(ready + text_of(models, uses), 10.0)
    uses[10] = replace(uses[10], cpu_seconds=4.0)
    uses[11] = ProcessUse(0.5, 1024)  # another process in its place
    figures = figures_of(Interval.between(before, parse(ready + text_of(models, uses), 12.0)))
    assert (figures.models[0].cpus_used, figures.models[0].memory_bytes) == (1.75, 5120)
    assert (figures.server.workers_cpus_used, figures.server.workers_memory_bytes) == (1.75, 5120)
    assert figures.server.cpus_used == 0


def test_a_server_that_tells_nothing_of_workers_has_no_figures_of_theirs() -> None:
    told = parse('penstock_model_ready{model="a",version="1"} 1\n', 10.0)
    (model,) = figures_of(Interval.between(told, replace(told, at=12.0))).models
    assert (model.cpus_used, model.memory_bytes) == (None, None)
