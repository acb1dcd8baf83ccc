"""What docs/cli.md shows of the command line is what happens, block by block, in one folder."""

from pathlib import Path

from tests.documents import ROOT, Walkthrough, blocks_of


def test_the_command_line_does_what_the_document_shows(tmp_path: Path) -> None:
    folder, logs = tmp_path / "folder", tmp_path / "logs"
    folder.mkdir()
    logs.mkdir()
    walk = Walkthrough(folder, logs)
    try:
        for block in blocks_of(ROOT / "docs/cli.md"):
            walk.follow(block)
    finally:
        walk.stop()
