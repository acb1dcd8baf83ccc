"""What the documents show of registered models and of keys is what happens."""

import os
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.documents import ROOT, Walkthrough, blocks_of, examples_of
from tests.integration.supervised import until
from tests.models import affine, mlp
from tests.serving import Server

BATCHES = ROOT / "docs/batches.md"
MODELS = ROOT / "docs/models.md"
SECURITY = ROOT / "docs/security.md"
README = ROOT / "README.md"


@pytest.fixture(autouse=True)
def found_from_anywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever PYTHONPATH says relative to here holds in other folders, too."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path if entry))


@pytest.fixture
def walkthrough(tmp_path: Path) -> Iterator[Walkthrough]:
    folder, logs = tmp_path / "here", tmp_path / "logs"
    folder.mkdir()
    logs.mkdir()
    walkthrough = Walkthrough(folder, logs)
    yield walkthrough
    walkthrough.stop()


def test_life_of_a_registered_model(walkthrough: Walkthrough) -> None:
    start = MODELS.read_text().split("## Registered models")[0].count("\n")
    blocks = [block for block in blocks_of(MODELS) if int(block.place.rpartition(":")[2]) > start]
    assert len([block for block in blocks if block.language == "console"]) >= 7
    for block in blocks:
        walkthrough.follow(block)


def test_keys(tmp_path: Path) -> None:
    examples = [
        example for block in blocks_of(SECURITY) if block.language == "console" for example in examples_of(block)
    ]
    assert examples
    for example in examples:
        example.check(8000, tmp_path, {"PENSTOCK_DATA_DIR": str(tmp_path / "data")})


def test_readme_replaces_a_model(tmp_path: Path) -> None:
    blocks = [block.text for block in blocks_of(README)]
    (rest,) = [text for text in blocks if "penstock models promote" in text]
    # In a block of its own: a server knows a key only after a while.
    (making_a_key,) = [text for text in blocks if "penstock keys create" in text]
    data = {"PENSTOCK_DATA_DIR": str(tmp_path / "data")}
    program = tmp_path / "bin" / "penstock"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec {shlex.quote(sys.executable)} -m penstock "$@"\n')
    program.chmod(0o755)
    server = Server.start([], tmp_path, data)
    environment = {**os.environ, **data, "PENSTOCK_URL": server.url, "PATH": f"{program.parent}:{os.environ['PATH']}"}

    def run(script: str) -> str:
        command = ["bash", "-euo", "pipefail", "-c", script]
        result = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300, check=False
        )
        assert result.returncode == 0, result.stderr
        return result.stdout

    try:
        environment["PENSTOCK_API_KEY"] = run(f"{making_a_key}\necho $PENSTOCK_API_KEY").strip()
        authorization = {"Authorization": f"Bearer {environment['PENSTOCK_API_KEY']}"}
        until(lambda: server.request("GET", "/keys", headers=authorization).status == 200, "the key is known")
        affine(tmp_path).rename(tmp_path / "iris.onnx")
        mlp(tmp_path, widths=(4, 4)).rename(tmp_path / "better.onnx")
        assert run(rest).splitlines() == [
            "registered flowers 1.0.0",
            "flowers 1.0.0 answers now",
            "registered flowers 1.1.0",
            "flowers 1.1.0 answers now",
            "flowers 1.0.0 answers now",
        ]
    finally:
        server.stop()


def test_streamed_batches(walkthrough: Walkthrough) -> None:
    blocks = list(blocks_of(BATCHES))
    assert len([block for block in blocks if block.language == "console"]) == 5
    for block in blocks:
        walkthrough.follow(block)
