"""The watch over GPUs: what they tell, and that nothing is told where there is none."""

import pytest

from penstock.core.devices import visible_gpus
from penstock.telemetry.gpus import GpuWatch


@pytest.mark.skipif(visible_gpus() > 0, reason="this machine has a GPU")
def test_a_machine_without_a_gpu_has_none_in_the_metrics() -> None:
    watch = GpuWatch().start()
    assert watch.wait(300)
    assert watch.last() == ()


@pytest.mark.skipif(visible_gpus() == 0, reason="needs a GPU")
def test_a_gpu_tells_its_memory_and_temperature() -> None:
    pytest.importorskip("pynvml", reason="needs nvidia-ml-py")
    watch = GpuWatch().start()
    assert watch.wait(300)
    assert watch.last()
    for reading in watch.last():
        assert reading.figures["memory_total_bytes"] > 0
        assert 0 < reading.figures["temperature_celsius"] < 120
