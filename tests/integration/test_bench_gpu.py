"""The benchmark of GPUs says what was not measured, and one section's failure costs the others nothing."""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from penstock.core.devices import visible_gpus

ROOT = Path(__file__).parents[2]


def measured(out: Path, *arguments: str) -> tuple[int, dict[str, Any], str]:
    """Return the exit status, the document and the report."""
    command = [sys.executable, "-m", "bench.gpu", "--quick", "--out", str(out), *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert (out / "gpu.json").is_file(), done.stdout + done.stderr
    return done.returncode, json.loads((out / "gpu.json").read_text()), (out / "gpu.md").read_text()


def test_a_network_that_fails_costs_the_others_nothing(tmp_path: Path) -> None:
    status, document, report = measured(tmp_path, "--device", "host", "--networks", "unheard-of")
    assert status == 1
    assert list(document["sections"]) == ["device", "host", "preprocessing", "overlap", "launches", "copies"]
    assert list(document["failed"]) == ["served unheard-of", "curve unheard-of", "plain unheard-of"]
    assert "| host's time for a batch, us | 15 |" in report
    assert "## served unheard-of\n\nFailed: " in report


def test_what_there_is_no_time_for_is_said(tmp_path: Path) -> None:
    status, document, _ = measured(tmp_path, "--device", "host", "--networks", "mlp", "--budget-s", "1")
    assert status == 1
    assert set(document["failed"].values()) == {"not run: the time is over (--budget-s)"}


@pytest.mark.skipif(visible_gpus() > 0, reason="this machine has a GPU")
def test_without_a_gpu_the_report_says_what_is_missing(tmp_path: Path) -> None:
    status, document, report = measured(tmp_path)
    assert status == 1
    assert list(document["failed"]) == ["device"]
    assert "device = 'cuda:0'" in report
