"""What the distributions say of each other."""

import tomllib
from pathlib import Path

import penstock
import penstock_client

ROOT = Path(__file__).resolve().parents[2]


def test_the_commands_come_with_the_sdk_of_their_version() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert f"penstock-client=={penstock.__version__}" in project["dependencies"]
    assert penstock_client.__version__ == penstock.__version__
