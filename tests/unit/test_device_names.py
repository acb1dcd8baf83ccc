"""How devices are written, and what follows for a model's workers."""

from pathlib import Path

import pytest

from penstock.core.config import ModelConfig, Precision, ServerConfig
from penstock.core.contradictions import refuse_contradictions
from penstock.core.devices import device_of, is_device, visible_gpus
from penstock.core.errors import ConfigError


@pytest.mark.parametrize("text", ["cpu", "host", "cuda:0", "cuda:15", "cuda:*"])
def test_devices_are_known(text: str) -> None:
    assert is_device(text)


@pytest.mark.parametrize("text", ["", "gpu", "cuda", "cuda:", "cuda:-1", "cuda:1,2", "CUDA:0", " cpu", "cuda:0\n"])
def test_others_are_not(text: str) -> None:
    assert not is_device(text)


def test_instances_take_turns_on_all_gpus() -> None:
    assert [device_of("cuda:*", instance, 3) for instance in range(5)] == [
        *("cuda:0", "cuda:1", "cuda:2"),
        *("cuda:0", "cuda:1"),
    ]
    assert device_of("cuda:1", 7, 3) == "cuda:1"
    assert device_of("cpu", 7, 3) == "cpu"
    assert device_of("cuda:*", 2, 0) == "cuda:0"  # which then says what is missing


@pytest.mark.parametrize(
    ("chosen", "count"), [("", 0), ("-1", 0), ("0", 1), ("0,1,3", 3), ("GPU-1c2d,MIG-3e", 2), ("1,-1,2", 1)]
)
def test_the_environment_chooses_gpus(monkeypatch: pytest.MonkeyPatch, chosen: str, count: int) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", chosen)
    assert visible_gpus() == count


def test_else_the_drivers_nodes_are_counted(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert visible_gpus(tmp_path) == 0
    for name in ("nvidia0", "nvidia1", "nvidiactl", "nvidia-uvm", "nvidia-caps", "tty0"):
        (tmp_path / name).touch()
    assert visible_gpus(tmp_path) == 2


def test_all_gpus_multiply_the_workers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1,2,3")
    model = ModelConfig("m", Path("m.onnx"), instances=2, device="cuda:*")
    assert model.workers == 8
    assert ModelConfig("m", Path("m.onnx"), instances=2, device="cuda:1").workers == 2
    with pytest.raises(ConfigError, match="80 workers, and 63 are the most"):
        refuse_contradictions(ServerConfig(models=(ModelConfig("m", Path("m"), instances=20, device="cuda:*"),)))


def test_a_precision_is_for_a_device() -> None:
    model = ModelConfig("m", Path("m.onnx"), precision=Precision.FLOAT16)
    with pytest.raises(ConfigError, match="precision = 'float16' is for models on a device"):
        refuse_contradictions(ServerConfig(models=(model,)))
