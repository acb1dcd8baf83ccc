"""What docs/grpc.md shows in Python runs, with tritonclient, against the demo model's server."""

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.documents import ROOT, Block, blocks_of
from tests.serving import Server

pytestmark = pytest.mark.clients

BLOCKS = [block for block in blocks_of(ROOT / "docs/grpc.md") if block.language == "python"]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    model = ROOT / ".demo/digits.onnx"
    if not model.exists():
        subprocess.run([sys.executable, "-m", "demo.train"], cwd=ROOT, check=True)
    running = Server.start([f"digits={model}"], tmp_path_factory.mktemp("digits"))
    yield running
    running.stop()


@pytest.mark.parametrize("block", BLOCKS, ids=lambda block: str(block.place))
def test_example_runs(block: Block, digits: Server, tmp_path: Path) -> None:
    program = tmp_path / "example.py"
    program.write_text(block.text.replace("127.0.0.1:8001", f"{digits.host}:{digits.port}"))
    result = subprocess.run([sys.executable, program], capture_output=True, text=True, timeout=300, check=False)
    assert result.returncode == 0, result.stderr


def test_there_are_examples() -> None:
    assert len(BLOCKS) == 2
