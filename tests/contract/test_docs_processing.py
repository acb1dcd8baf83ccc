"""What docs/processing.md and docs/answers.md show is what happens."""

import os
import sys
from pathlib import Path

import pytest

from penstock.processing.plan import read_plan
from tests.documents import ROOT, Walkthrough, blocks_of

DOCUMENTS = (ROOT / "docs/processing.md", ROOT / "docs/answers.md")


def test_the_plan_of_the_readme_is_one(tmp_path: Path) -> None:
    (text,) = [
        block.text for block in blocks_of(ROOT / "README.md") if block.language == "toml" and "record." in block.text
    ]
    (tmp_path / "processing.toml").write_text(text)
    plan = read_plan(tmp_path / "processing.toml")
    assert plan.record is not None and len(plan.record.fields) == len(plan.features) == 2 and plan.answer


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda document: document.stem)
def test_every_block(document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path if entry))
    folder, logs = tmp_path / "here", tmp_path / "logs"
    folder.mkdir()
    logs.mkdir()
    walkthrough = Walkthrough(folder, logs)
    blocks = list(blocks_of(document))
    assert len([block for block in blocks if block.language == "console"]) >= 2
    try:
        for block in blocks:
            walkthrough.follow(block)
    finally:
        walkthrough.stop()
