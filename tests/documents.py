"""Examples in documents: ```console blocks are run, and their output is compared with what is shown.

A line that starts with "$ " is a command (a line that ends with a backslash continues it); the lines below it are its
output, in which "..." stands for anything. The port 8000 of the documents becomes the port of the test's server.
"""

import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

__all__ = ["ROOT", "Block", "Example", "blocks_of", "examples_of"]

ROOT = Path(__file__).resolve().parents[1]
RUNNABLE = {"curl"}


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

    def check(self, port: int, folder: Path) -> None:
        """Run the command in `folder` against the server at `port`; AssertionError when it answers something else."""
        words = shlex.split(self.command.replace("localhost:8000", "127.0.0.1:8000"))
        assert words[0] in RUNNABLE, f"{self.place}: only {RUNNABLE} run here; show other commands in an ```sh block"
        assert shutil.which(words[0]), f"{words[0]} is not installed"
        words = [word.replace("127.0.0.1:8000", f"127.0.0.1:{port}") for word in words]
        result = subprocess.run(words, cwd=folder, capture_output=True, timeout=60, check=True)
        pattern = ".*".join(re.escape(part) for part in self.output.split("..."))
        shown = result.stdout.decode().replace("\r\n", "\n").strip()
        assert re.fullmatch(pattern, shown, re.DOTALL), f"{self.place}: {self.command}\nanswered\n{shown}"


def blocks_of(document: Path) -> Iterator[Block]:
    """Yield the fenced blocks of a document, in order."""
    text = document.read_text()
    for block in re.finditer(r"^```(\w+)(?: +(\S+))?\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, block.start()) + 1
        yield Block(block[1], block[2] or "", block[3], f"{document.relative_to(ROOT)}:{line}")


def examples_of(block: Block) -> Iterator[Example]:
    """Yield the commands of a ```console block."""
    for shown in re.split(r"^\$ ", block.text.replace("\\\n", " "), flags=re.MULTILINE)[1:]:
        command, _, output = shown.partition("\n")
        yield Example(block.place, command, output.strip())
