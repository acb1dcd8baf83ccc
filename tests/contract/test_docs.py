"""What the documents show is what happens: every ```console block is run against the demo model's server.

A line that starts with "$ " is a command (a line that ends with a backslash continues it); the lines below it are its
output, in which "..." stands for anything. The port 8000 of the documents becomes the port of the test's server.
"""

import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from tests.serving import Server

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")])
WITH_EXAMPLES = [ROOT / "README.md", ROOT / "docs/quickstart.md"]
RUNNABLE = {"curl"}


@dataclass(frozen=True, slots=True)
class Example:
    """A command of a document and the output shown below it."""

    place: str
    command: str
    output: str

    def __str__(self) -> str:
        return self.place


def examples_of(document: Path) -> Iterator[Example]:
    text = document.read_text()
    for block in re.finditer(r"^```console\n(.*?)^```", text, re.MULTILINE | re.DOTALL):
        line = text.count("\n", 0, block.start()) + 1
        for shown in re.split(r"^\$ ", block[1].replace("\\\n", " "), flags=re.MULTILINE)[1:]:
            command, _, output = shown.partition("\n")
            yield Example(f"{document.relative_to(ROOT)}:{line}", command, output.strip())


def links_of(document: Path) -> list[str]:
    prose = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [target for target in re.findall(r"\]\(([^)]+)\)", prose) if "://" not in target]


EXAMPLES = [example for document in WITH_EXAMPLES for example in examples_of(document)]


@pytest.fixture(scope="module")
def digits(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """The server of `make serve`, on another port."""
    model = ROOT / ".demo/digits.onnx"
    if not model.exists():
        subprocess.run([sys.executable, "-m", "demo.train"], cwd=ROOT, check=True)
    running = Server.start([f"digits={model}"], tmp_path_factory.mktemp("digits"))
    yield running
    running.stop()


def test_documents_have_examples() -> None:
    assert {Path(example.place.split(":")[0]).name for example in EXAMPLES} == {"README.md", "quickstart.md"}


@pytest.mark.parametrize("example", EXAMPLES, ids=str)
def test_example_does_what_it_shows(example: Example, digits: Server) -> None:
    words = shlex.split(example.command.replace("localhost:8000", "127.0.0.1:8000"))
    assert words[0] in RUNNABLE, f"{example.place}: only {RUNNABLE} run here; show other commands in an ```sh block"
    assert shutil.which(words[0]), f"{words[0]} is not installed"
    words = [word.replace("127.0.0.1:8000", f"127.0.0.1:{digits.port}") for word in words]
    result = subprocess.run(words, cwd=ROOT, capture_output=True, timeout=60, check=True)
    pattern = ".*".join(re.escape(part) for part in example.output.split("..."))
    shown = result.stdout.decode().replace("\r\n", "\n").strip()
    assert re.fullmatch(pattern, shown, re.DOTALL), f"{example.place}: {example.command}\nanswered\n{shown}"


def test_demo_client_agrees_with_the_offline_model(digits: Server) -> None:
    command = [sys.executable, "-m", "demo.client", "--port", str(digits.port), "--rounds", "1"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "answers     540, 0 of them not what the model answers offline" in result.stdout


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    missing = [link for link in links_of(document) if not (document.parent / link.split("#")[0]).exists()]
    assert not missing
