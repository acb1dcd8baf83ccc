"""docs/formats.md is run: each section in a folder of its own, its blocks one after the other.

```python          a script of its own, run in the folder
```python net.py   a file, written to the folder; likewise json, toml
```sh              "penstock serve ..." is started, and stopped at the next one; "pip install ..." has been done
```console         $ curl ..., and what it answers ("..." stands for anything)
"""

import os
import shlex
import subprocess
import sys
from itertools import groupby
from pathlib import Path

import pytest

from tests.documents import ROOT, Block, blocks_of, examples_of
from tests.serving import Server

pytestmark = pytest.mark.formats

DOCUMENT = ROOT / "docs/formats.md"
SCRIPT_SECONDS = 300


def section_of(block: Block) -> str:
    """Return the title of the section that a block is in."""
    above = DOCUMENT.read_text().splitlines()[: int(block.place.rpartition(":")[2])]
    return next((line[3:] for line in reversed(above) if line.startswith("## ")), "")


SECTIONS = {title: list(blocks) for title, blocks in groupby(blocks_of(DOCUMENT), section_of)}
WITH_EXAMPLES = [title for title, blocks in SECTIONS.items() if any(block.language == "console" for block in blocks)]


class Walkthrough:
    """Does what a section says, in a folder."""

    def __init__(self, folder: Path, logs: Path) -> None:
        self._folder = folder
        self._logs = logs
        self._server: Server | None = None

    def follow(self, block: Block) -> None:
        if block.argument:
            written = self._folder / block.argument
            written.parent.mkdir(parents=True, exist_ok=True)
            written.write_text(block.text)
        elif block.language == "python":
            self._run(block)
        elif block.language == "sh":
            for line in block.text.replace("\\\n", " ").splitlines():
                self._command(shlex.split(line, comments=True), block.place)
        elif block.language == "console":
            for example in examples_of(block):
                assert self._server is not None, f"{block.place}: nothing is served yet"
                example.check(self._server.port, self._folder)

    def stop(self) -> None:
        if self._server is not None:
            self._server.stop()
        self._server = None

    def _run(self, block: Block) -> None:
        script = [sys.executable, "-W", "ignore", "-c", block.text]
        result = subprocess.run(
            script, cwd=self._folder, capture_output=True, text=True, timeout=SCRIPT_SECONDS, check=False
        )
        assert result.returncode == 0, f"{block.place}:\n{result.stdout}{result.stderr}"

    def _command(self, words: list[str], place: str) -> None:
        if words[:2] == ["penstock", "serve"]:
            self.stop()
            data = {"XDG_DATA_HOME": str(self._logs), "XDG_CACHE_HOME": str(self._logs / "cache")}
            self._server = Server.start(words[2:], self._logs, data, cwd=self._folder)
        else:
            assert words[:2] == ["pip", "install"], f"{place}: {words} is nothing that is run here"


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
