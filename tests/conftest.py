"""Fixtures: the real server, and cheap models for it."""

import os
import signal
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from penstock.core.config import ModelConfig
from penstock.serve import RestartPolicy
from tests import models
from tests.databases import postgres, store
from tests.integration.supervised import DEADLINE_SECONDS, FAST, Running
from tests.serving import Server

__all__ = ["postgres", "store"]

# How long an example takes says how busy the machine is.
settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("untimed")


@pytest.fixture(scope="session", autouse=True)
def _data_home(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep the registries of servers that are told nothing else out of this user's home folder."""
    os.environ["XDG_DATA_HOME"] = str(tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="session", autouse=True)
def _hears_ctrl_c() -> None:
    """A shell has what runs in the background ignore Ctrl-C, and what that starts inherits it: tests press it too."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def keep_interpreter(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A worker loads one model and ends; this process loads many, and their modules must not meet."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules = set(sys.modules)
    yield
    for name in set(sys.modules) - modules:
        if name.startswith(("penstock_model", "beside")):
            del sys.modules[name]


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with affine.onnx, mlp.onnx, pair.onnx and echo.py."""
    folder = tmp_path_factory.mktemp("models")
    for build in (models.affine, models.mlp, models.pair, models.echo):
        build(folder)
    return folder


@pytest.fixture
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[..., Server]]:
    """Start servers of one's own: serve("--max-batch-size", "8", models={"m": path}).

    All are stopped at the end; one that does not stop cleanly fails the test.
    """
    with ExitStack() as running:

        def start(
            *arguments: str, models: Mapping[str, Path] | None = None, env: Mapping[str, str] | None = None
        ) -> Server:
            named = [f"{name}={path}" for name, path in (models or {}).items()]
            started = Server.start([*named, *arguments], tmp_path_factory.mktemp("server"), env)
            running.callback(started.stop)
            return started

        yield start


@pytest.fixture(scope="session")
def server(model_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """One server with every model of model_folder, for tests that leave it as they found it."""
    named = [f"{path.stem}={path}" for path in sorted(model_folder.iterdir())]
    running = Server.start(named, tmp_path_factory.mktemp("server"))
    yield running
    running.stop()


@pytest.fixture
def run() -> Iterator[Callable[..., Running]]:
    """Run models: run(path), run(path, on_worker_death=..., policy=...), run([config, ...])."""
    with ExitStack() as stack:

        def start(
            what: Path | list[ModelConfig], policy: RestartPolicy = FAST, ready: bool = True, **options: Any
        ) -> Running:
            configs = what if isinstance(what, list) else [ModelConfig(name="m", path=what, **options)]
            running = Running(configs, policy)
            stack.callback(running.stop)
            if ready:
                running.supervisor.wait_ready(DEADLINE_SECONDS)
            return running

        yield start
