"""The benchmark of GPUs measures everything, with the host's thread in the place of one."""

import json
from pathlib import Path

import pytest

pytest.importorskip("torch", reason="needs PyTorch")


@pytest.mark.formats
def test_the_benchmark_measures_everything(tmp_path: Path) -> None:
    import subprocess
    import sys

    command = [
        sys.executable,
        "-m",
        "bench.gpu",
        "--device",
        "host",
        "--quick",
        "--networks",
        "mlp",
        "--budget-s",
        "800",
    ]
    done = subprocess.run([*command, "--out", str(tmp_path)], capture_output=True, text=True, timeout=900, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    document = json.loads((tmp_path / "gpu.json").read_text())
    assert not document["failed"]
    assert list(document["sections"]) == [
        *("device", "host", "preprocessing", "overlap", "launches", "copies"),
        *("served mlp", "curve mlp", "plain mlp"),
    ]
    assert all(document["sections"].values())
    assert document["sections"]["served mlp"][0]["offline_rows_per_s"] > 0
    report = (tmp_path / "gpu.md").read_text()
    assert "## served mlp" in report
    assert "Not run, because onnxruntime-gpu is not installed: ONNX models on a GPU." in report
