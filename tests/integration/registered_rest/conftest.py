"""Fixtures: a control plane over a registry, a client of it, and a model's file."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.integration.registered_client import Client
from tests.integration.registered_control import Registered, registered_control_plane


@pytest.fixture
def running(tmp_path: Path) -> Iterator[Registered]:
    with registered_control_plane(tmp_path) as running:
        yield running


@pytest.fixture
def model(tmp_path: Path) -> Path:
    path = tmp_path / "model.py"
    path.write_text("class Model: ...\n")
    return path


@pytest.fixture
def client(running: Registered) -> Client:
    return Client(running.control)
