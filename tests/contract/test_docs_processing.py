"""What docs/processing.md shows is what happens."""

import os
import sys
from pathlib import Path

import pytest

from tests.documents import ROOT, Walkthrough, blocks_of

PROCESSING = ROOT / "docs/processing.md"


def test_every_block_of_processing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path if entry))
    folder, logs = tmp_path / "here", tmp_path / "logs"
    folder.mkdir()
    logs.mkdir()
    walkthrough = Walkthrough(folder, logs)
    blocks = list(blocks_of(PROCESSING))
    assert len([block for block in blocks if block.language == "console"]) >= 3
    try:
        for block in blocks:
            walkthrough.follow(block)
    finally:
        walkthrough.stop()
