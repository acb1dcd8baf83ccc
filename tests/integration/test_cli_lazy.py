"""Commands that ask what a model takes: one that is loaded lazily is loaded by them, as by any request."""

import os
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from penstock.cli.served import served_of
from penstock_client import Client, Retries
from tests.integration.asked_models import LOAN
from tests.serving import Server
from tests.unit.test_cli import penstock


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("lazy")
    (folder / "big.py").write_text(LOAN)
    running = Server.start(["--development"], folder)
    try:
        run(running, "models", "register", "big", str(folder / "big.py"))
        yield running
    finally:
        running.stop()


def run(server: Server, *arguments: str, status: int = 0) -> str:
    result = penstock(*arguments, "--url", server.url)
    assert result.returncode == status, result
    return result.stdout if status == 0 else result.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["predict", "big", "1", "3"], "limit  1.0"),
        (["predict", "big", "1", "3", "--version", "1.0.0"], "limit  1.0"),
        (["batch", "big", "rows.csv"], "1.0,1,2,"),
        (["models", "schema", "big"], "input   age"),
    ],
)
def test_a_lazy_model_is_woken(
    server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], said: str
) -> None:
    (tmp_path / "rows.csv").write_text("age,income\n1,3\n")
    monkeypatch.chdir(tmp_path)
    run(server, "models", "load", "big", "1.0.0", "--lazy")
    assert said in run(server, *arguments)
    run(server, "models", "unload", "big", "1.0.0")


def test_a_version_that_was_in_memory_before_is_waited_for(server: Server, tmp_path: Path) -> None:
    """The registry knows what it takes, which is no sign that it answers."""
    gate = tmp_path / "gate"
    waits = f"\n    def load(self):\n        os.path.exists({str(gate)!r}) and open({str(gate)!r}).read()\n"
    (tmp_path / "slow.py").write_text("import os\n" + LOAN.replace("\n    def predict", f"{waits}\n    def predict"))
    run(server, "models", "register", "slow", str(tmp_path / "slow.py"))
    run(server, "models", "load", "slow", "1.0.0")
    run(server, "models", "unload", "slow", "1.0.0")
    run(server, "models", "load", "slow", "1.0.0", "--lazy")
    os.mkfifo(gate)
    with Client(server.url, retries=Retries(attempts_max=1)) as client, ThreadPoolExecutor(1) as thread:

        def ask() -> object:
            served = served_of(client, "slow", "1.0.0")
            return client.predict("slow", served.example(), version="1.0.0").outputs["terms"]

        answer = thread.submit(ask)
        gate.write_text("")  # returns when the worker stands before it
        assert answer.result(300) == [1, 2]
