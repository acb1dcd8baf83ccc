"""One real server with models of every kind, for clients that know nothing of it but the standard."""

import importlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests import models
from tests.clients.element_types import TYPES_SOURCE
from tests.serving import Server


@pytest.fixture(scope="session")
def foreign_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A server in development mode, so that who changes something needs no key."""
    folder = tmp_path_factory.mktemp("foreign")
    types = folder / "types.py"
    types.write_text(TYPES_SOURCE)
    served = [models.affine(folder), models.pair(folder), models.tokens(folder), models.echo(folder), types]
    lines = ["[server]", "development = true"]
    for path in served:
        lines += ["[[models]]", f'name = "{path.stem}"', f'path = "{path}"']
        lines += ["lengths = [8, 16]"] if path.stem == "tokens" else []
    config = folder / "penstock.toml"
    config.write_text("\n".join(lines))
    running = Server.start(["--config", str(config)], folder)
    yield running
    running.stop()


@pytest.fixture(scope="session")
def registered_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model that can be registered."""
    return models.mlp(tmp_path_factory.mktemp("registry"), widths=(4, 4))


@pytest.fixture(scope="session")
def triton() -> Any:
    """The module tritonclient.http, which only the environment of `make test-clients` has in full."""
    return importlib.import_module("tritonclient.http")


@pytest.fixture
def client(triton: Any, foreign_server: Server) -> Iterator[Any]:
    with triton.InferenceServerClient(f"{foreign_server.host}:{foreign_server.port}") as client:
        yield client


@pytest.fixture(scope="session")
def triton_grpc() -> Any:
    """The module tritonclient.grpc, which only the environment of `make test-clients` has in full."""
    return importlib.import_module("tritonclient.grpc")


@pytest.fixture
def grpc_client(triton_grpc: Any, foreign_server: Server) -> Iterator[Any]:
    with triton_grpc.InferenceServerClient(f"{foreign_server.host}:{foreign_server.port}") as client:
        yield client
