"""`penstock init`: each template in an empty folder, and everything that its README shows."""

import json
import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from tests.documents import Block, Example, blocks_of, examples_of
from tests.serving import Server
from tests.testing.pytest_runs import PLUGIN

SECONDS = 300
TEMPLATES = ("python", "onnx", "sklearn")


def penstock(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "penstock", *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False)


def pytest_says(folder: Path, example: Example) -> None:
    """Run a command of pytest; AssertionError unless it says what is shown."""
    words = [sys.executable, "-m", "pytest", *PLUGIN, "-p", "no:cacheprovider", *shlex.split(example.command)[1:]]
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTEST_")}
    result = subprocess.run(
        words, cwd=folder, capture_output=True, text=True, timeout=SECONDS, check=False, env=environment
    )
    assert result.returncode == 0, result.stdout
    assert example.output.removesuffix(" ...") in result.stdout


def follow(folder: Path, blocks: Iterator[Block], logs: Path) -> list[str]:
    """Do what a README says; the commands that were run."""
    run: list[str] = []
    with ExitStack() as running:
        port = 0
        for block in blocks:
            words = shlex.split(block.text) if block.language == "sh" else []
            if words[:2] == ["penstock", "serve"]:
                server = Server.start(words[2:], logs, cwd=folder)
                running.callback(server.stop)
                port = server.port
                continue
            assert not words or words[:2] == ["pip", "install"]
            for example in examples_of(block):
                run.append(example.command.partition(" ")[0])
                if run[-1] == "pytest":
                    pytest_says(folder, example)
                else:
                    example.check(port, folder)
    return run


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_project_does_what_its_readme_says(template: str, tmp_path: Path) -> None:
    logs = tmp_path / "logs"
    logs.mkdir()
    made = penstock(tmp_path, "init", "iris project", "--template", template)
    assert (made.returncode, made.stderr) == (0, "")
    listed, _, after = made.stdout.partition("\n\nnext:\n")
    folder = tmp_path / "iris project"
    files = [str(file.relative_to(tmp_path)) for file in folder.rglob("*") if file.is_file()]
    assert sorted(listed.splitlines()) == sorted(files)
    assert after.splitlines()[0] == "  cd 'iris project'"
    assert "  penstock test" in after.splitlines()
    assert follow(folder, blocks_of(folder / "README.md"), logs) == ["penstock", "pytest", "curl", "penstock"]
    checked = penstock(folder, "config", "validate", "penstock.toml")
    assert checked.returncode == 0, checked.stdout + checked.stderr


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "README.md").write_text("mine")
    refused = penstock(tmp_path, "init")
    assert refused.returncode == 2
    assert refused.stderr.startswith("penstock: README.md in . would be overwritten")
    assert [file.name for file in tmp_path.iterdir()] == ["README.md"]
    (tmp_path / "README.md").unlink()
    (tmp_path / "other.txt").write_text("mine")
    made = penstock(tmp_path, "init", "--json")
    document = json.loads(made.stdout)
    assert document["template"] == "python"
    assert document["next"][0] == "penstock test"
    assert {"README.md", "model/model.py", "tests/test_iris.py", ".gitignore"} <= set(document["files"])
    again = penstock(tmp_path, "init", "--template", "onnx")
    assert again.returncode == 2


def test_an_unknown_template_is_said(tmp_path: Path) -> None:
    refused = penstock(tmp_path, "init", "x", "--template", "tensorflow")
    assert refused.returncode == 2
    assert "sklearn" in refused.stderr
    assert not (tmp_path / "x").exists()


def test_a_golden_row_that_is_wrong_is_told_by_its_output(tmp_path: Path) -> None:
    assert penstock(tmp_path, "init").returncode == 0
    golden = tmp_path / "model" / "golden.json"
    golden.write_text(golden.read_text().replace("virginica", "setosa"))
    result = penstock(tmp_path, "test", "--json")
    assert result.returncode == 1
    checks = {check["name"]: check for check in json.loads(result.stdout)["checks"]}
    assert "expected 'setosa', got 'virginica'" in checks["golden.json: label"]["detail"]
