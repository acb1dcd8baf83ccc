"""Tests of what needs the frameworks."""

from pathlib import Path

import pytest


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Without the frameworks these files cannot be imported, so they are left out where they would not run."""
    return True if "not formats" in config.option.markexpr else None
