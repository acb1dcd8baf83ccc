"""Fixtures of the integration tests: a model with a gate, a control plane, connections that are closed at the end."""

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest

from bench.wire import Wire
from tests.integration.control_plane import Control, control_plane
from tests.integration.gate import Gate
from tests.integration.supervised import Scripted
from tests.serving import Server

__all__: list[str] = []


@pytest.fixture
def gate(tmp_path: Path) -> Iterator[Gate]:
    """A model that waits on rows that start with Gate.HOLD."""
    made = Gate.make(tmp_path)
    yield made
    made.close()


@pytest.fixture
def control() -> Iterator[Control]:
    """A control plane of its own for each test."""
    with control_plane() as running:
        yield running


@pytest.fixture
def connect() -> Iterator[Callable[..., Wire]]:
    """Open connections to a server: connect(server)."""
    with ExitStack() as open_wires:

        def start(server: Server, *, receive_buffer: int | None = None) -> Wire:
            wire = Wire.connect(server.host, server.port, receive_buffer=receive_buffer)
            open_wires.callback(wire.close)
            return wire

        yield start


@pytest.fixture
def wire(server: Server, connect: Callable[..., Wire]) -> Wire:
    """One connection to the shared server."""
    return connect(server)


@pytest.fixture
def scripted(tmp_path: Path) -> Iterator[Scripted]:
    model = Scripted(tmp_path)
    yield model
    model.close()
