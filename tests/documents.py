"""Examples in documents: ```console blocks are run, and their output is compared with what is shown.

A line that starts with "$ " is a command (a line that ends with a backslash continues it); the lines below it are its
output, in which "..." stands for anything. The port 8000 of the documents becomes the port of the test's server.
"""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.serving import Server

__all__ = ["ROOT", "Block", "Example", "Walkthrough", "blocks_of", "examples_of"]

ROOT = Path(__file__).resolve().parents[1]
SCRIPT_SECONDS = 300
RUNNABLE = {"curl": ["curl"], "penstock": [sys.executable, "-m", "penstock"]}


@dataclass(frozen=True, slots=True)
class Block:
    """A fenced block: the words behind its fence (```python net.py: "python" and "net.py"), its text, where it is."""

    language: str
    argument: str
    text: str
    place: str


@dataclass(frozen=True, slots=True)
class Example:
    """A command of a document and the output shown below it."""

    place: str
    command: str
    output: str

    def __str__(self) -> str:
        return self.place

    def check(self, port: int, folder: Path, environment: Mapping[str, str] | None = None) -> None:
        """Run the command in `folder` against the server at `port`; AssertionError when it answers something else."""
        words = shlex.split(self.command.replace("localhost:8000", "127.0.0.1:8000"))
        known = ", ".join(RUNNABLE)
        assert words[0] in RUNNABLE, f"{self.place}: only {known} run here; show other commands in an ```sh block"
        program = RUNNABLE[words[0]]
        assert shutil.which(program[0]), f"{program[0]} is not installed"
        words = [*program, *(word.replace("127.0.0.1:8000", f"127.0.0.1:{port}") for word in words[1:])]
        around = {**os.environ, "PENSTOCK_URL": f"http://127.0.0.1:{port}", **(environment or {})}
        around.pop("COLUMNS", None)  # what is shown is what goes into a pipe, however wide the terminal of who tests
        result = subprocess.run(words, cwd=folder, capture_output=True, timeout=300, check=False, env=around)
        assert result.returncode == 0, f"{self.place}: {self.command}\n{result.stderr.decode()}"
        pattern = ".*".join(re.escape(part) for part in self.output.split("..."))
        shown = result.stdout.decode().replace("\r\n", "\n").strip()
        assert re.fullmatch(pattern, shown, re.DOTALL), f"{self.place}: {self.command}\nanswered\n{shown}"


def blocks_of(document: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a document, in order."""
    text = document.read_text()
    shown = document.relative_to(ROOT) if document.is_relative_to(ROOT) else document.name
    for block in re.finditer(r"^```(\w+)(?: +(\S+))?\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, block.start()) + 1
        yield Block(block[1], block[2] or "", block[3], f"{shown}:{line}")


def examples_of(block: Block) -> Iterator[Example]:
    """Yield the commands of a ```console block."""
    for shown in re.split(r"^\$ ", block.text.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
        command, _, output = shown.partition("\n")
        yield Example(block.place, command, output.strip())


class Walkthrough:
    """Does what a document says, block by block, in a folder.

    ```python          a script of its own, run in the folder
    ```python net.py   a file, written to the folder; likewise json, toml
    ```sh              "penstock serve ..." is started, and stopped at the next one; "pip install ..." has been done
    ```console         $ curl ... or $ penstock ..., and what it answers ("..." stands for anything)
    """

    def __init__(self, folder: Path, logs: Path) -> None:
        self._folder = folder
        self._logs = logs
        self._data = {"XDG_DATA_HOME": str(logs), "XDG_CACHE_HOME": str(logs / "cache")}
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
                alone = example.command.startswith("penstock ")
                assert self._server is not None or alone, f"{block.place}: nothing is served yet"
                example.check(self._server.port if self._server else 8000, self._folder, self._data)

    @property
    def server(self) -> Server | None:
        """The server that was started last and still runs."""
        return self._server

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
            self._server = Server.start(words[2:], self._logs, self._data, cwd=self._folder)
        else:
            assert words[:2] == ["pip", "install"], f"{place}: {words} is nothing that is run here"
