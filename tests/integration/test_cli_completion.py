"""Completion, through the shells themselves where they are installed."""

import os
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.asked_models import serve_models
from tests.integration.supervised import until
from tests.serving import Server
from tests.unit.test_cli import penstock

SECONDS = 300
SHELLS = ("bash", "zsh", "fish")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = serve_models(tmp_path_factory.mktemp("models"))
    yield running
    running.stop()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A folder for PATH, with the program in it."""
    program = tmp_path / "penstock"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m penstock "$@"\n')
    program.chmod(0o755)
    return tmp_path


def offered(folder: Path, line: str, url: str = "http://127.0.0.1:1") -> list[str]:
    """Press Tab at the end of the line, in bash."""
    script = """eval "$(penstock completion bash)"
        COMP_WORDS=($LINE)
        case "$LINE" in *" ") COMP_WORDS+=("") ;; esac
        COMP_CWORD=$((${#COMP_WORDS[@]} - 1))
        _penstock_completion penstock
        printf '%s\\n' "${COMPREPLY[@]}"
    """
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "LINE": line, "PENSTOCK_URL": url}
    result = subprocess.run(
        ["bash", "-c", script], env=environment, capture_output=True, text=True, check=True, timeout=SECONDS
    )
    assert result.stderr == ""
    return result.stdout.split()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("penstock pre", ["predict"]),
        ("penstock models pro", ["promote"]),
        ("penstock batch loan rows.csv --from ", ["ndjson", "csv", "parquet", "arrow", "arrow-stream"]),
        ("penstock predict iris --prio", ["--priority"]),
        ("penstock predict iris --priority i", ["interactive"]),
        ("penstock keys create me --role ", ["admin", "operator", "predict"]),
        ("penstock completion ", ["bash", "zsh", "fish"]),
    ],
)
def test_commands_options_and_choices(folder: Path, line: str, expected: list[str]) -> None:
    assert offered(folder, line) == expected


def test_all_commands(folder: Path) -> None:
    assert {"serve", "predict", "batch", "models", "keys", "bench"} <= set(offered(folder, "penstock "))


@pytest.mark.parametrize(
    "line",
    ["penstock predict ", "penstock batch ", "penstock models show ", "penstock watch ", "penstock bench --model "],
)
def test_models_of_the_server(server: Server, folder: Path, line: str) -> None:
    # What a busy machine does not say at once is left out: people press Tab again.
    names = ["iris", "loan", "person", "photo", "picture", "saying"]
    until(lambda: offered(folder, line, server.url) == names, "all are offered")
    until(lambda: offered(folder, f"{line}p", server.url) == names[2:5], "those that begin so are offered")


def test_no_server_is_no_error(folder: Path) -> None:
    assert offered(folder, "penstock predict ") == []
    assert offered(folder, "penstock predict ", "ftp://nonsense") == []
    with socket.create_server(("127.0.0.1", 0)) as silent:
        assert offered(folder, "penstock predict ", f"http://127.0.0.1:{silent.getsockname()[1]}") == []


@pytest.mark.parametrize("shell", SHELLS)
def test_scripts_are_scripts(shell: str) -> None:
    script = penstock("completion", shell)
    assert (script.returncode, script.stderr) == (0, "")
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed")
    subprocess.run([shell, "-n"], input=script.stdout, text=True, check=True, timeout=SECONDS)


def test_another_shell() -> None:
    result = penstock("completion", "tcsh")
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == "penstock: 'tcsh': expected one of bash, zsh, fish\n"


def test_fish_and_zsh_are_answered() -> None:
    for shell in ("fish", "zsh"):
        asked = {
            "_PENSTOCK_COMPLETE": f"complete_{shell}",
            "_TYPER_COMPLETE_ARGS": "penstock pred",
            "_TYPER_COMPLETE_FISH_ACTION": "get-args",
        }
        result = penstock(env=asked)
        assert "predict" in result.stdout
        assert "serve" not in result.stdout
