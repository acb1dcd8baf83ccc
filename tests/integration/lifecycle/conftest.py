"""Fixtures: servers on one registry, and a folder for models."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.integration.registered import Node


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Callable[..., Node]]:
    """Start servers on one registry: node(), node("there", standby_s=0)."""
    folder = tmp_path / "registry"
    folder.mkdir()
    with ExitStack() as stack:

        def start(name: str = "here", *, stop: bool = True, **options: Any) -> Node:
            started = Node(folder, name, **options)
            if stop:
                stack.callback(started.stop)
            return started

        yield start


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    path = tmp_path / "models"
    path.mkdir()
    return path
