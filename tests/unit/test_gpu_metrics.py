"""GPUs in the metrics: what is there, and that nothing is where there is none."""

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from penstock.control.gpu_metrics import gpu_metrics
from penstock.telemetry.gpus import GpuReading


def text_of(readings: list[GpuReading]) -> str:
    class Once(Collector):
        def collect(self) -> list[Metric]:
            return list(gpu_metrics(readings))

    registry = CollectorRegistry()
    registry.register(Once())
    return generate_latest(registry).decode()


def test_each_gpu_has_what_it_tells() -> None:
    text = text_of(
        [
            GpuReading("0", "GPU-a", "A100", {"power_watts": 61.5, "memory_used_bytes": 1024.0}, {"thermal": True}),
            GpuReading("1", "GPU-b", "A100", {"memory_used_bytes": 2048.0}),
        ]
    )
    assert 'penstock_gpu_power_watts{gpu="0",name="A100",uuid="GPU-a"} 61.5' in text
    assert 'penstock_gpu_power_watts{gpu="1"' not in text
    assert 'penstock_gpu_memory_used_bytes{gpu="1",name="A100",uuid="GPU-b"} 2048.0' in text
    assert 'penstock_gpu_clock_limited{gpu="0",name="A100",reason="thermal",uuid="GPU-a"} 1.0' in text


def test_without_gpus_there_are_no_metrics() -> None:
    assert text_of([]) == ""
