"""Who may import whom, what each kind of process loads, and what each module calls public."""

import importlib
import pkgutil
import subprocess
import sys
from pathlib import Path

import pytest

import penstock

ROOT = Path(__file__).resolve().parents[2]
LINT_IMPORTS = Path(sys.executable).with_name("lint-imports")
# Running these starts a program.
PROGRAMS = {"__main__"}


def modules() -> list[str]:
    found = [info.name for info in pkgutil.walk_packages(penstock.__path__, "penstock.")]
    return [name for name in found if name.rsplit(".", 1)[-1] not in PROGRAMS and ".native._" not in name]


def loaded_by(statement: str) -> set[str]:
    """Names of the modules that a fresh interpreter has loaded after the statement."""
    program = f"{statement}\nimport sys\nprint(*sys.modules)"
    result = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    return set(result.stdout.split())


def test_layers_hold() -> None:
    result = subprocess.run([LINT_IMPORTS], cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr


def test_main_process_loads_no_model_framework_and_no_numpy() -> None:
    loaded = loaded_by("import penstock.cli, penstock.serve, penstock.control, penstock.native._dataplane")
    assert not loaded & {"numpy", "onnxruntime", "onnx", "sklearn"}


def test_worker_loads_no_server() -> None:
    loaded = loaded_by("import penstock.worker, penstock.worker.__main__, penstock.native._batcher")
    assert not loaded & {
        "flask",
        "flask_restful",
        "werkzeug",
        "gevent",
        "penstock.control",
        "penstock.native._dataplane",
    }


@pytest.mark.parametrize("name", modules())
def test_public_names_are_listed_and_exist(name: str) -> None:
    module = importlib.import_module(name)
    assert hasattr(module, "__all__"), f"{name} has no __all__"
    assert not [public for public in module.__all__ if not hasattr(module, public)]
    assert len(set(module.__all__)) == len(module.__all__)
