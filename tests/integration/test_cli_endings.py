"""How commands end: exit status and what is said, whatever happens to them."""

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from tests.integration.test_cli_models import answering
from tests.serving import Server
from tests.unit.test_cli import penstock

SECONDS = 300
COMMAND = [sys.executable, "-m", "penstock"]


def started(arguments: Sequence[str], *, stdout: int = subprocess.PIPE) -> subprocess.Popen[str]:
    return subprocess.Popen(
        [*COMMAND, *arguments], stdin=subprocess.DEVNULL, stdout=stdout, stderr=subprocess.PIPE, text=True
    )


@pytest.mark.parametrize("arguments", [["models", "list"], ["models", "list", "--json"], ["models", "show", "m", "1"]])
def test_ctrl_c_is_130_and_no_word(arguments: list[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        silent.settimeout(SECONDS)
        process = started([*arguments, "--url", f"http://127.0.0.1:{silent.getsockname()[1]}"])
        connection, _ = silent.accept()
        with connection:
            assert connection.recv(1) == b"G"
            process.send_signal(signal.SIGINT)
            assert process.communicate(timeout=SECONDS) == ("", "")
    assert process.returncode == 130


@pytest.mark.parametrize("arguments", [["--help"], ["models", "--help"], ["version"]])
def test_nobody_reads_the_output(arguments: list[str]) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = started(arguments, stdout=writer)
    os.close(writer)
    _, said = process.communicate(timeout=SECONDS)
    assert (process.returncode, said) == (141, "")


@pytest.mark.parametrize(
    "arguments", [["--help"], ["models", "--help"], ["version"], ["version", "--json"], ["config", "show"]]
)
def test_a_full_output_is_1(arguments: list[str]) -> None:
    with open("/dev/full", "wb") as full:
        process = started(arguments, stdout=full.fileno())
        _, said = process.communicate(timeout=SECONDS)
    assert (process.returncode, said) == (1, "penstock: standard output is full\n")


def test_nobody_reads_the_answer(tmp_path: Path) -> None:
    running = Server.start(["--development"], tmp_path)
    try:
        for arguments in (["models", "list"], ["models", "list", "--json"]):
            reader, writer = os.pipe()
            os.close(reader)
            process = started([*arguments, "--url", running.url], stdout=writer)
            os.close(writer)
            assert process.communicate(timeout=SECONDS)[1] == ""
            assert process.returncode == 141
        for arguments in (["models", "list"], ["models", "list", "--json"], ["watch", "--once", "--interval", "0.1"]):
            with open("/dev/full", "wb") as full:
                process = started([*arguments, "--url", running.url], stdout=full.fileno())
                assert process.communicate(timeout=SECONDS)[1] == "penstock: standard output is full\n"
            assert process.returncode == 1
    finally:
        running.stop()


@pytest.mark.parametrize(
    ("environment", "address"),
    [
        ({"PENSTOCK_URL": "http://127.0.0.1:1"}, "http://127.0.0.1:1"),
        ({"PENSTOCK_URL": "unix:/no/such.sock"}, "unix:/no/such.sock"),
    ],
)
def test_no_server_is_3(environment: Mapping[str, str], address: str) -> None:
    for arguments in (["models", "list"], ["models", "show", "m", "--json"], ["models", "load", "m"]):
        result = penstock(*arguments, env=environment)
        assert (result.returncode, result.stdout) == (3, "")
        assert address in result.stderr
        assert "is `penstock serve` running there?" in result.stderr
        assert len(result.stderr.splitlines()) == 1


def test_server_that_hangs_up_is_3() -> None:
    with socket.create_server(("127.0.0.1", 0)) as rude:
        rude.settimeout(SECONDS)
        process = started(["models", "load", "m", "--url", f"http://127.0.0.1:{rude.getsockname()[1]}"])
        connection, _ = rude.accept()
        connection.recv(65536)
        connection.close()
        said = process.communicate(timeout=SECONDS)[1]
    assert process.returncode == 3
    assert said.startswith("penstock: the connection ended before the answer was complete")
    assert "it may have run" in said


def test_what_nobody_expected_is_a_sentence() -> None:
    with answering(200, json.dumps({"something": "else"}).encode()) as url:
        result = penstock("models", "list", "--url", url)
        assert (result.returncode, result.stdout) == (1, "")
        assert result.stderr == "penstock: internal error: KeyError: 'models'; run it again with --debug to see where\n"
        shown = penstock("models", "list", "--url", url, "--debug")
        assert shown.returncode == 1
        assert "Traceback" in shown.stderr
        assert "KeyError: 'models'" in shown.stderr
