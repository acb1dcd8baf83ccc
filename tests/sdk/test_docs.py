"""docs/sdk-python.md does what it shows: its examples are one program, and what they print stands beside them."""

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from penstock_client import errors
from tests.documents import ROOT, Block, Walkthrough, blocks_of
from tests.serving import Server

DOCUMENT = ROOT / "docs/sdk-python.md"
SECONDS = 300
# The comment behind a print, or a line of its own below one that prints often.
SHOWN = re.compile(r"^ *print\(.*\)  # (.*)$|^# (.*)$", re.MULTILINE)


@pytest.fixture
def server(tmp_path: Path) -> Iterator[Server]:
    """The server that the document starts, in the folder with the files that it shows."""
    folder, logs = tmp_path / "here", tmp_path / "logs"
    folder.mkdir()
    logs.mkdir()
    walkthrough = Walkthrough(folder, logs)
    for block in blocks_of(DOCUMENT):
        if block.argument or block.language != "python":
            walkthrough.follow(block)
    assert walkthrough.server is not None
    yield walkthrough.server
    walkthrough.stop()


def programs() -> list[Block]:
    return [block for block in blocks_of(DOCUMENT) if block.language == "python" and not block.argument]


def test_examples_print_what_they_show(server: Server, tmp_path: Path) -> None:
    expected = [(block.place, "".join(found)) for block in programs() for found in SHOWN.findall(block.text)]
    source = "\n".join(block.text for block in programs()).replace("127.0.0.1:8000", f"127.0.0.1:{server.port}")
    source = source.replace("timeout_s=2,", "timeout_s=120,")  # which a busy machine may miss
    script = [sys.executable, "-W", "error", "-c", source]
    result = subprocess.run(script, cwd=tmp_path / "here", capture_output=True, text=True, timeout=SECONDS, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    printed = result.stdout.splitlines()
    for (place, shown), line in zip(expected, printed, strict=False):
        pattern = ".*".join(re.escape(part) for part in shown.split("..."))
        assert re.fullmatch(pattern, line), f"{place}: {shown}\nprinted\n{line}"
    assert len(printed) == len(expected), result.stdout


def test_examples_pass_a_strict_type_checker(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text("\n".join(block.text for block in programs()))
    options = ("--strict", "--config-file=", "--no-error-summary", "--disable-error-code=import-untyped")
    done = subprocess.run(
        [sys.executable, "-m", "mypy", *options, program.name],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "MYPYPATH": str(ROOT / "sdk/python")},
    )
    assert done.returncode == 0, done.stdout + done.stderr


def test_every_error_has_a_code_that_the_document_lists() -> None:
    text = DOCUMENT.read_text()
    own = [vars(errors)[name] for name in errors.__all__]
    listed = {kind: kind.code for kind in own if not issubclass(kind, errors.RefusedError)}
    assert len(set(listed.values())) == len(listed)
    del listed[errors.PenstockError]  # nobody raises it
    for kind, code in listed.items():
        assert re.search(rf"^\| `{code}` \| `{kind.__name__}`", text, re.MULTILINE), code


def test_the_document_shows_every_method() -> None:
    text = DOCUMENT.read_text()
    for name in ("predict", "predict_batch", "iter_batch", "coalescer", "schema", "live", "ready", "wait_ready"):
        assert name in text
