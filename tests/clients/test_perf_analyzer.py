"""Triton's perf_analyzer, unmodified, measures this server as it does Triton's."""

import csv
import os
import subprocess
from pathlib import Path

import pytest

from tests.serving import Server

pytestmark = pytest.mark.clients

ROOT = Path(__file__).resolve().parents[2]
TOOL = ROOT / "build/clients/perf_analyzer"


def measure(server: Server, folder: Path, *arguments: str) -> tuple[str, list[dict[str, str]]]:
    """Run it; what it printed, and the table that it wrote."""
    table = folder / "table.csv"
    command = [str(TOOL / "perf_analyzer"), "-u", f"{server.host}:{server.port}", "-i", "http", *arguments]
    # As little as it takes for a table; whether the figures are steady is nothing that this checks.
    command += ["--stability-percentage", "999", "--measurement-interval", "300", "-f", str(table)]
    environment = {**os.environ, "LD_LIBRARY_PATH": str(TOOL)}
    result = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False
    )
    assert result.returncode == 0, result.stdout + result.stderr
    with table.open() as written:
        return result.stdout, list(csv.DictReader(written))


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(("-m", "affine"), id="a row"),
        pytest.param(("-m", "affine", "-b", "16"), id="a batch"),
        pytest.param(("-m", "affine", "-x", "1"), id="a version"),
        pytest.param(("-m", "pair"), id="several inputs"),
        pytest.param(("-m", "affine", "--concurrency-range", "4"), id="at once"),
        pytest.param(("-m", "affine", "--request-rate-range", "200"), id="at a rate"),
        pytest.param(("-m", "affine", "--input-tensor-format", "json", "--output-tensor-format", "json"), id="json"),
        pytest.param(("-m", "tokens", "--shape", "ids:8", "--shape", "mask:8", "-z"), id="a length"),
    ],
)
def test_it_measures(foreign_server: Server, tmp_path: Path, arguments: tuple[str, ...]) -> None:
    printed, (row,) = measure(foreign_server, tmp_path, *arguments)
    assert float(row["Inferences/Second"]) > 0
    assert int(row["Server Queue"]) >= 0
    assert int(row["Server Compute Infer"]) > 0, printed
    assert "Failed" not in printed
