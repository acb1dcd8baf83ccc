"""Writes the files of a project."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from penstock.cli.init import parts, templates
from penstock.core.errors import ConfigError, PenstockError

__all__ = ["Made", "make_project"]

_TRAIN_S = 300
# What a template cannot do without here, and what installs it; the others ask for it when they serve.
_NEEDED = {"sklearn": ("sklearn", "skops")}
_SERVED_WITH = {"onnx": "onnxruntime"}


@dataclass(frozen=True, slots=True)
class Made:
    """The files that were written, and the commands that come next."""

    files: list[str]
    commands: list[str]


def make_project(folder: Path, template: str) -> Made:
    """Write a project; ConfigError when a file is there already, or what the template needs is not installed."""
    for module in _NEEDED.get(template, ()):
        if not _installed(module):
            raise ConfigError(f"the template {template} needs {module}: run pip install 'penstock[{template}]'")
    files = {**parts.of(template), **templates.of(template)}
    trained = list(templates.TRAINED) if "train.py" in files else []
    there = [name for name in [*files, *trained] if (folder / name).exists()]
    if there:
        raise ConfigError(f"{', '.join(there)} in {folder} would be overwritten: choose another folder")
    try:
        for name, content in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content if isinstance(content, bytes) else content.encode())
    except OSError as error:
        raise ConfigError(f"cannot write {error.filename}: {error.strerror}") from error
    if trained:
        _train(folder)
    served_with = _SERVED_WITH.get(template)
    install = [] if served_with is None or _installed(served_with) else [f"pip install 'penstock[{template}]'"]
    commands = [*install, "penstock test", "penstock serve --config penstock.toml"]
    return Made(sorted([*files, *trained]), commands)


def _train(folder: Path) -> None:
    """Have the project's own script make its model: libraries of models have no place in this process."""
    result = subprocess.run(
        [sys.executable, "-W", "ignore", "train.py"],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=_TRAIN_S,
        check=False,
    )
    if result.returncode != 0:
        said = result.stderr.strip().splitlines()
        raise PenstockError(f"train.py in {folder} has failed: {said[-1] if said else result.returncode}")


def _installed(module: str) -> bool:
    return importlib.util.find_spec(module) is not None
