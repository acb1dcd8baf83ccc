"""Tests of what needs the frameworks."""

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Without the frameworks these files cannot be imported, so they are left out where they would not run."""
    return True if "not formats" in config.option.markexpr else None


@pytest.fixture(autouse=True)
def keep_interpreter(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A worker loads one model and ends; this process loads many, and their classes must not meet."""
    monkeypatch.setattr(sys, "path", list(sys.path))
    modules = set(sys.modules)
    yield
    for name in set(sys.modules) - modules:
        if name.startswith("penstock_model"):
            del sys.modules[name]
