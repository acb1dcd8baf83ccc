"""What the documents show is what happens: every ```console block is run against the demo model's server."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.documents import ROOT, Example, blocks_of, examples_of
from tests.serving import Server

DOCUMENTS = sorted([ROOT / "README.md", ROOT / "CONTRIBUTING.md", *ROOT.glob("docs/**/*.md")])
WITH_EXAMPLES = [ROOT / "README.md", ROOT / "docs/quickstart.md"]


def links_of(document: Path) -> list[str]:
    prose = re.sub(r"^```.*?^```", "", document.read_text(), flags=re.MULTILINE | re.DOTALL)
    return [target for target in re.findall(r"\]\(([^)]+)\)", prose) if "://" not in target]


EXAMPLES = [
    example
    for document in WITH_EXAMPLES
    for block in blocks_of(document)
    if block.language == "console"
    for example in examples_of(block)
]


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
    example.check(digits.port, ROOT)


def test_demo_client_agrees_with_the_offline_model(digits: Server) -> None:
    command = [sys.executable, "-m", "demo.client", "--port", str(digits.port), "--rounds", "1"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    assert "answers     540, 0 of them not what the model answers offline" in result.stdout


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: str(path.relative_to(ROOT)))
def test_links_lead_somewhere(document: Path) -> None:
    missing = [link for link in links_of(document) if not (document.parent / link.split("#")[0]).exists()]
    assert not missing
