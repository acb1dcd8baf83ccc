"""Commands that ask what a model takes: one that is loaded lazily is loaded by them, as by any request."""

from collections.abc import Iterator
from pathlib import Path

import pytest

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
