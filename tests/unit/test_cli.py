"""The command line as a person meets it: in a process of its own, by its exit status and what it says."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from penstock import __version__
from penstock.core.config import ModelConfig, ServerConfig
from penstock.core.settings import settings_of


def penstock(*arguments: str, env: Mapping[str, str] | None = None) -> subprocess.CompletedProcess[str]:
    # 80 columns: help is wrapped by the terminal's width.
    environment = {**os.environ, "COLUMNS": "80", **(env or {})}
    return subprocess.run(
        [sys.executable, "-m", "penstock", *arguments],
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
        env=environment,
    )


@pytest.mark.parametrize("arguments", [["version"], ["--version"]])
def test_version(arguments: list[str]) -> None:
    result = penstock(*arguments)
    assert (result.returncode, result.stdout, result.stderr) == (0, f"penstock {__version__}\n", "")


def test_console_script_is_the_same_program() -> None:
    result = subprocess.run([Path(sys.executable).with_name("penstock"), "version"], capture_output=True, check=True)
    assert result.stdout.decode() == f"penstock {__version__}\n"


def test_no_arguments_show_the_commands() -> None:
    result = penstock()
    assert "serve" in result.stdout + result.stderr
    assert "version" in result.stdout + result.stderr


def test_help_of_serve_names_every_flag_that_it_takes() -> None:
    result = penstock("serve", "--help")
    assert result.returncode == 0
    known = settings_of(ServerConfig) | settings_of(ModelConfig)
    flags = {word for word in result.stdout.replace(",", " ").split() if word.startswith("--")}
    assert flags >= {"--host", "--port", "--unix-socket", "--config", "--io-threads", "--max-batch-size"}
    assert flags - {"--config", "--debug", "--help"} <= {setting.flag for setting in known.values()}


@pytest.mark.parametrize(
    ("arguments", "status", "message"),
    [
        (["sreve"], 2, "No such command 'sreve'"),
        (["serve", "--prot", "1"], 2, "No such option: --prot"),
        (["serve", "--port", "http"], 2, "penstock: --port = 'http': expected a whole number from 0 to 65535\n"),
        (["serve", "--queue-bytes", "1MB"], 2, "penstock: --queue-bytes = '1MB': expected a number of bytes"),
        (["serve", "--config", "no.toml"], 2, "penstock: cannot read the configuration file no.toml: No such file"),
        (["serve", "a=x.onnx", "a=y.onnx"], 2, "penstock: model 'a' version '1' is given twice"),
        (["serve", "a=no.onnx"], 1, "penstock: model 'a': there is no no.onnx; check the path"),
    ],
)
def test_error_is_a_sentence(arguments: list[str], status: int, message: str) -> None:
    result = penstock(*arguments)
    assert result.returncode == status
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_wrong_variable_is_an_error() -> None:
    result = penstock("serve", env={"PENSTOCK_PROT": "1"})
    assert result.returncode == 2
    assert result.stderr == "penstock: environment: PENSTOCK_PROT: unknown setting; did you mean 'PENSTOCK_PORT'?\n"


def test_model_without_the_right_to_read_it(tmp_path: Path) -> None:
    if os.geteuid() == 0:
        pytest.skip("root may read everything")
    model = tmp_path / "m.onnx"
    model.touch(0o000)
    result = penstock("serve", str(model))
    assert result.returncode == 1
    assert "no right to read" in result.stderr


def test_debug_shows_the_traceback() -> None:
    result = penstock("serve", "--debug", "--port", "http")
    assert result.returncode != 0
    assert "Traceback" in result.stderr
    assert "ConfigError: --port = 'http'" in result.stderr


def test_module_of_the_server_serves_too() -> None:
    result = subprocess.run(
        [sys.executable, "-m", "penstock.serve", "a=no.onnx"], capture_output=True, text=True, check=False
    )
    assert result.returncode == 1
    assert result.stderr.startswith("penstock: model 'a': there is no no.onnx")


def loaded_by(statement: str) -> set[str]:
    program = f"{statement}\nimport sys\nprint(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_help_and_errors_load_no_server() -> None:
    loaded = loaded_by("import penstock.cli, penstock.core.sources")
    assert not loaded & {"flask", "gevent", "prometheus_client", "penstock.native._dataplane", "rich", "numpy"}


def test_server_loads_no_model_framework() -> None:
    loaded = loaded_by("import penstock.serve.serve, penstock.control.app, penstock.control.server")
    assert {"flask", "gevent"} <= loaded
    assert not loaded & {"numpy", "torch", "onnxruntime", "onnx", "sklearn", "rich"}
