"""docs/formats.md is run: each section in a folder of its own, its blocks one after the other."""

import os
import sys
from itertools import groupby
from pathlib import Path

import pytest

from tests.documents import ROOT, Block, Walkthrough, blocks_of

pytestmark = pytest.mark.formats

DOCUMENT = ROOT / "docs/formats.md"


def section_of(block: Block) -> str:
    """Return the title of the section that a block is in."""
    above = DOCUMENT.read_text().splitlines()[: int(block.place.rpartition(":")[2])]
    return next((line[3:] for line in reversed(above) if line.startswith("## ")), "")


SECTIONS = {title: list(blocks) for title, blocks in groupby(blocks_of(DOCUMENT), section_of)}
WITH_EXAMPLES = [title for title, blocks in SECTIONS.items() if any(block.language == "console" for block in blocks)]


@pytest.mark.parametrize("title", WITH_EXAMPLES)
def test_section_does_what_it_shows(title: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # Whatever PYTHONPATH says relative to here must hold in the section's folder, too.
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(str(Path(entry).resolve()) for entry in sys.path if entry))
    folder, logs = tmp_path / "section", tmp_path / "logs"
    folder.mkdir()
    logs.mkdir()
    walkthrough = Walkthrough(folder, logs)
    try:
        for block in SECTIONS[title]:
            walkthrough.follow(block)
    finally:
        walkthrough.stop()
