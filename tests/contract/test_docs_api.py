"""docs/api.md shows every route, and what it shows is what happens."""

import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from penstock.control.openapi import openapi_document
from tests.documents import ROOT, Walkthrough, blocks_of, examples_of

DOCUMENT = ROOT / "docs/api.md"


@pytest.fixture
def walkthrough(tmp_path: Path) -> Iterator[Walkthrough]:
    folder, logs = tmp_path / "here", tmp_path / "logs"
    folder.mkdir()
    logs.mkdir()
    walkthrough = Walkthrough(folder, logs)
    yield walkthrough
    walkthrough.stop()


def shown() -> set[tuple[str, str]]:
    """The method and path of every request in the document."""
    found = set()
    for block in blocks_of(DOCUMENT):
        for example in examples_of(block) if block.language == "console" else ():
            words = shlex.split(example.command)
            has_body = any(word.startswith(("-d", "--data")) for word in words)
            method = words[words.index("-X") + 1] if "-X" in words else "POST" if has_body else "GET"
            (url,) = [word for word in words if word.startswith("http")]
            found.add((method, urlsplit(url).path))
    return found


def test_examples_do_what_they_show(walkthrough: Walkthrough) -> None:
    for block in blocks_of(DOCUMENT):
        walkthrough.follow(block)


def test_every_route_is_shown() -> None:
    requests = shown()
    paths = openapi_document()["paths"]
    # A path without parameters is itself, whatever else it would match.
    for path, item in paths.items():
        pattern = re.compile(re.sub(r"\\{\w+\\}", "[^/]+", re.escape(path)))
        mine = {
            method
            for method, target in requests
            if pattern.fullmatch(target) and (target not in paths or target == path)
        }
        assert mine == {method.upper() for method in item}, path
