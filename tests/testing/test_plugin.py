"""The plugin of pytest, in runs of pytest of its own: `penstock_server`, `penstock_model`, and what a failure shows."""

import os
import re
import select
import signal
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import pytest

from tests.testing.pytest_runs import PLUGIN

SECONDS = 300
MODEL = """
from penstock.worker import Tensor

class Model:
    inputs = {"x": Tensor("float32")}
    outputs = {"y": Tensor("float32")}

    def predict(self, batch):
        print("predicting", len(batch["x"]), flush=True)
        return {"y": batch["x"] * 2}
"""


@pytest.fixture
def project(tmp_path: Path) -> Path:
    (tmp_path / "double.py").write_text(MODEL)
    (tmp_path / "pytest.ini").write_text(
        "[pytest]\nfilterwarnings = error\naddopts = --strict-markers --strict-config\n"
    )
    return tmp_path


def run(folder: Path, source: str, *arguments: str, ends: str, status: int = 0) -> str:
    """Run tests; what pytest says. AssertionError unless it ends with such counts."""
    (folder / "test_it.py").write_text(source)
    command = [sys.executable, "-m", "pytest", *PLUGIN, "-p", "no:cacheprovider", "-q", *arguments]
    # A run of its own knows nothing of the one around it.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("PYTEST_", "COV_"))}
    result = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False, env=environment
    )
    assert result.returncode == status, result.stdout + result.stderr
    assert ends in result.stdout, result.stdout
    return result.stdout


def left_behind(text: str) -> Sequence[str]:
    """Return the processes of `PID number` in a text that still run."""
    return [pid for pid in re.findall(r"PID (\d+)", text) if Path(f"/proc/{pid}").exists()]


def test_a_server_is_shared_and_stopped(project: Path) -> None:
    source = """
seen = []

def test_ask(penstock_server):
    server = penstock_server("double.py", max_batch_size=8)
    assert server.model == "double"
    assert server.client.predict(server.model, 21).output == 42
    assert server.client.models.show("double")["versions"][0]["batching"]["max_batch_size"] == 8
    print("PID", server.process.pid)
    seen.append(server)

def test_the_same(penstock_server):
    assert penstock_server("double.py", max_batch_size=8) is seen[0]
    other = penstock_server("twice=double.py")
    assert other is not seen[0]
    assert other.url != seen[0].url
    assert other.model == "twice"
    print("PID", other.process.pid)
    fresh = penstock_server("twice=double.py", fresh=True)
    assert fresh is not other
    fresh.stop()
    assert penstock_server("twice=double.py") is other
    assert "ready" in other.logs

def test_over_http(penstock_server):
    import urllib.request
    server = penstock_server("double.py", max_batch_size=8)
    assert urllib.request.urlopen(server.url + "/health/ready").status == 200
"""
    out = run(project, source, "-s", ends="3 passed")
    assert len(re.findall(r"PID \d+", out)) == 2
    assert not left_behind(out)


def test_the_marker_says_what_is_served(project: Path) -> None:
    source = """
import pytest

@pytest.mark.penstock("double.py", max_batch_size=4)
def test_ask(penstock_model):
    assert penstock_model.client.predict("double", 1).output == 2

def test_without(penstock_model):
    pass
"""
    (project / "pytest.ini").write_text(
        "[pytest]\nfilterwarnings = error\naddopts = --strict-markers --strict-config\n"
        "penstock_settings =\n    queue_bytes = 1MiB\npenstock_start_s = 200\n"
    )
    out = run(project, source, ends="1 passed, 1 error", status=1)
    assert "penstock_model serves what @pytest.mark.penstock(PATH) names" in out


def test_what_failed_to_start_is_said_by_the_server(project: Path) -> None:
    (project / "broken.py").write_text("class Model:\n    inputs = 3\n")
    source = """
def test_ask(penstock_server):
    penstock_server("broken.py")

def test_setting(penstock_server):
    penstock_server("double.py", max_batch_sise=4)
"""
    out = run(project, source, ends="2 failed", status=1)
    assert "penstock serve: model 'broken':" in out
    assert "\npenstock_server: max_batch_sise: unknown setting; did you mean 'max_batch_size'?" in out
    assert "During handling" not in out
    assert "Traceback" not in out
    assert "serving.py" not in out


def test_a_failure_shows_what_the_server_wrote_meanwhile(project: Path) -> None:
    source = """
def test_before(penstock_server):
    assert penstock_server("double.py").client.predict_batch("double", [1, 2, 3, 4, 5]).outputs["y"]

def test_wrong(penstock_server):
    assert penstock_server("double.py").client.predict("double", 1).output == 3
"""
    out = run(project, source, ends="1 failed, 1 passed", status=1)
    shown = out.partition("penstock serve double")[2]
    assert "predicting 1" in shown
    assert "predicting 5" not in shown


def test_a_server_that_dies_is_an_error(project: Path) -> None:
    source = """
def test_kill(penstock_server):
    server = penstock_server("double.py")
    server.process.kill()
    server.process.wait()

def test_another(penstock_server):
    assert penstock_server("double.py").client.predict("double", 1).output == 2
"""
    out = run(project, source, ends="2 passed, 1 error", status=1)
    assert "the server ended with status -9" in out


def test_assertions_hold_a_model_to_what_is_known(project: Path) -> None:
    (project / "golden.json").write_text('{"inputs": {"x": [1, 2]}, "outputs": {"y": [2, 4]}}')
    (project / "wrong.ndjson").write_text('{"inputs": 1, "outputs": {"y": 2.5}}\n')
    (project / "labels.csv").write_text("x,truth\n1,2\n2,4.5\n")
    source = """
import pytest
from penstock.testing import assert_accuracy, assert_fuzz, assert_golden, assert_latency

@pytest.fixture
def server(penstock_server):
    return penstock_server("double.py")

def test_good(server):
    assert_golden(server.client, "golden.json", model="double")
    assert len(assert_fuzz(server, rows=20)) == 8
    assert_accuracy(server, "labels.csv", "truth", max_mae=0.25)
    assert_latency(server, 120_000, rate=300, duration_s=2)

def test_golden(server):
    assert_golden(server, "wrong.ndjson")

def test_accuracy(server):
    assert_accuracy(server, "labels.csv", "truth", max_mae=0.1)

def test_unknown(server):
    with pytest.raises(TypeError, match="min_mae is no threshold"):
        assert_accuracy(server, "labels.csv", "truth", min_mae=0.1)
"""
    # The golden rows beside the model are for the file that is called so.
    (project / "golden.json").rename(project / "known.json")
    out = run(project, source.replace("golden.json", "known.json"), ends="2 failed, 2 passed", status=1)
    assert "expected 2.5, got 2: off by 0.5, and 0.000251 is allowed" in out
    assert "mae of 0.1 at most: 0.25 on 2 rows" in out


def test_workers_of_xdist_have_servers_of_their_own(project: Path) -> None:
    source = """
import pytest

@pytest.mark.parametrize("number", range(4))
def test_ask(penstock_server, number, tmp_path_factory):
    server = penstock_server("double.py")
    assert server.client.predict("double", number).output == 2 * number
    (tmp_path_factory.getbasetemp().parent / f"pid{number}").write_text(f"PID {server.process.pid}")
"""
    run(project, source, "-n", "2", "--basetemp", str(project / "tmp"), ends="4 passed")
    pids = " ".join(file.read_text() for file in project.glob("tmp/pid*"))
    assert len(re.findall(r"PID \d+", pids)) == 4
    assert not left_behind(pids)


def test_a_run_that_is_killed_leaves_no_server(project: Path) -> None:
    source = """
import os, signal

def test_ask(penstock_server):
    server = penstock_server("double.py")
    open("pid", "w").write(str(server.process.pid))
    open("folder", "w").write(str(server.log.parent))
    os.kill(os.getpid(), signal.SIGKILL)
"""
    run(project, source, ends="", status=-signal.SIGKILL)
    try:
        ended = os.pidfd_open(int((project / "pid").read_text()))
    except ProcessLookupError:
        ended = None
    if ended is not None:
        readable, _, _ = select.select([ended], [], [], 60)
        os.close(ended)
        assert readable, "the server still runs"
    assert not Path((project / "folder").read_text()).exists()


def test_nothing_is_imported_that_pytest_has_not() -> None:
    code = (
        "import sys, pytest\n"
        "before = set(sys.modules)\n"
        "import penstock.pytest_plugin\n"
        "print(sorted(set(sys.modules) - before))\n"
    )
    result = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=300)
    assert result.stdout.strip() == "['penstock', 'penstock.pytest_plugin']"
