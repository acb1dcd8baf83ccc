"""The commands of `python -m bench`: those of the documents are understood, and the quick ones are run."""

import json
import os
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest
import typer
import typer.main

from bench.cli import app
from penstock.cli.commands import app as penstock_app
from tests.integration.workers import eventually
from tests.serving import STOP_SECONDS

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")])
COMMAND = re.compile(r"(?:python -m bench|penstock bench)(?: [^`#|\n]+)?")


def documented() -> list[tuple[str, str]]:
    """Commands in code of the documents, with the document they stand in."""
    found = []
    for document in DOCUMENTS:
        text = document.read_text()
        blocks = re.findall(r"^```sh\n(.*?)^```", text, re.MULTILINE | re.DOTALL)
        code = [*re.findall(r"`([^`\n]+)`", text), *"\n".join(blocks).splitlines()]
        found += [(document.name, match[0].strip()) for line in code for match in [COMMAND.match(line)] if match]
    return sorted(set(found))


def commands_of(application: typer.Typer) -> Any:
    return typer.main.get_command(application)


def bench(*arguments: str, status: int = 0) -> str:
    command = [sys.executable, "-m", "bench", *arguments]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == status, done.stdout + done.stderr
    return done.stdout + done.stderr


@pytest.mark.parametrize(("document", "command"), documented())
def test_a_documented_command_is_understood(document: str, command: str) -> None:
    words = [word for word in shlex.split(command) if word not in ("...", "python", "-m", "penstock", "bench")]
    if command.startswith("penstock"):
        parser = commands_of(penstock_app).get_command(None, "bench")
    else:
        group = commands_of(app)
        while words and words[0].startswith("--"):
            assert words.pop(0) in {option for parameter in group.params for option in parameter.opts}, command
        if not words:
            return
        parser = group.commands[words.pop(0)]
    if any(word.isupper() or word.endswith("...") for word in words) or (command.startswith("penstock") and not words):
        known = {option for parameter in parser.params for option in parameter.opts}
        assert {word for word in words if word.startswith("--")} <= known, f"{document}: {command}"
        return
    parser.make_context("bench", words)


def test_documents_name_commands() -> None:
    assert len(documented()) > 15


def test_a_scenario_is_run_saved_and_reported(tmp_path: Path) -> None:
    own = tmp_path / "own.toml"
    own.write_text(
        'title = "Own"\nabout = "A scenario of a user."\n'
        'models = [{ kind = "mlp", name = "m", widths = [8, 4, 2] }]\n'
        'traffic = [{ model = "m", rows = 16, slo_ms = 100 }]\n'
    )
    shown = bench("run", str(own), "--seconds", "0.5", "--rounds", "1", "--loads", "0.2", "--out", str(tmp_path / "r"))
    saved = Path(re.findall(r"^/.*/bench/results/run-.*\.json$", shown, re.MULTILINE)[0])
    document = json.loads(saved.read_text())
    kinds = [(sample["target"], sample["phase"]["kind"]) for sample in document["samples"]]
    assert kinds == [("penstock", "closed"), ("penstock", "open")]
    assert all(sample["measurement"]["errors"] == {} for sample in document["samples"])
    assert sum(document["samples"][1]["measurement"]["cost"]["threads"]["main/penstock-io"]) > 0
    assert (tmp_path / "r" / "report.html").stat().st_size > 10_000
    assert "report.html" in bench("report", str(saved), "--out", str(tmp_path / "again"))
    saved.unlink()


def test_capacity_and_the_bare_loop(tmp_path: Path) -> None:
    shown = bench("capacity", "w1", "--slo-p99-ms", "2000", "--seconds", "0.5")
    saved = Path(re.findall(r"^/.*/bench/results/capacity-.*\.json$", shown, re.MULTILINE)[0])
    document = json.loads(saved.read_text())
    (found,) = document["capacities"]
    assert found["rate"] > 0 and found["trials"] and found["offline_rate"] > found["rate"]
    assert {each["batch"] for each in document["bare"]} == {1, 4, 16, 64}
    saved.unlink()


def test_sigterm_leaves_nothing_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "run", "w1", "--seconds", "60", "--rounds", "1"]
    done = subprocess.Popen(command, cwd=ROOT, env={**os.environ, "TMPDIR": str(tmp_path)}, stderr=subprocess.DEVNULL)
    eventually(lambda: any(log.stat().st_size for log in tmp_path.glob("penstock-bench-*/w1/penstock/server.log")))
    children = psutil.Process(done.pid).children(recursive=True)
    assert children
    done.terminate()
    assert done.wait() == 128 + signal.SIGTERM
    assert not list(tmp_path.glob("penstock-bench-*"))
    _, alive = psutil.wait_procs(children, timeout=STOP_SECONDS)
    assert not alive


def test_a_plan_is_measured_beside_none_and_every_answer_is_right() -> None:
    shown = bench("planned", "--seconds", "0.5", "--rounds", "1")
    rows = [line.split("|")[1].strip() for line in shown.splitlines() if line.startswith("| ")]
    assert rows[2:] == ["none", "label and confidence", "20 mixed fields to 32 numbers, label and confidence"]


@pytest.mark.slow
def test_stages_and_micro_benchmarks(tmp_path: Path) -> None:
    """Slow for the build."""
    shown = bench("stages")
    saved = Path(re.findall(r"^/.*/bench/results/stages-.*\.json$", shown, re.MULTILINE)[0])
    stages = json.loads(saved.read_text())["stages"]
    assert stages["w1-json"]["decode"] > stages["w1-raw"]["decode"] > 0
    saved.unlink()
    assert "(memcpy)" in bench("micro", "--only", "kernels")


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["run", "w9"], "no scenario 'w9': there are"),
        (["run", "w1", "--dialects", "xml"], "dialect 'xml' is not there"),
        (["run", ""], "no scenario ''"),
        (["run", "w1", "--loads", "0.5,much"], "loads are positive numbers with commas between them, not '0.5,much'"),
        (["bare", "--batch", "0"], "batch sizes are positive numbers"),
        (["bare", "/nonexistent.onnx"], "does not exist"),
        (["peers", "--only", "fastapi", "--scenarios", "mixed"], "rivals cannot serve the models of scenario 'mixed'"),
        (["peers", "--only", "nobody"], "rival 'nobody' is not there: triton-native"),
        (["accept", "--only", "nothing"], "check 'nothing' is not there"),
        (["report", "/nonexistent"], "does not exist"),
    ],
)
def test_a_wrong_wish_is_refused(arguments: list[str], says: str) -> None:
    shown = bench(*arguments, status=2)
    assert says in " ".join(shown.split()) and "Traceback" not in shown
