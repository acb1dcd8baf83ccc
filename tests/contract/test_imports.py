"""Who may import whom, what each kind of process loads, and what each module calls public."""

import ast
import importlib
import importlib.util
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
FRAMEWORKS = {"keras", "pandas", "safetensors", "skops", "tensorflow", "torch", "yaml"}


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
    assert not loaded & {"numpy", "onnxruntime", "onnx", "sklearn", "google.protobuf", "grpc"}


def test_without_a_plan_nothing_is_loaded_that_reads_plans() -> None:
    server = loaded_by("import penstock.serve.serve, penstock.control.app, penstock.control.server")
    worker = loaded_by("import penstock.worker.__main__, penstock.worker.loop, penstock.worker.backends.onnx")
    for loaded in (server, worker):
        assert "penstock.processing.plan_files" in loaded
        assert not loaded & {"penstock.processing.plan", "penstock.processing.record"}
    # What only some models need, and the settings, of which a worker is told its own.
    assert not worker & {"penstock.core.config", "penstock.worker.devices", "penstock.worker.golden"}


def test_commands_load_only_what_they_need() -> None:
    asked = "import sys; sys.argv = ['penstock', 'models', 'list', '--url', 'unix:/nowhere/penstock.sock']"
    loaded = loaded_by(f"{asked}; import penstock.cli.commands; penstock.cli.commands.run()")
    assert "penstock_client" in loaded
    assert not loaded & {"pydantic", "penstock.serve", "rich"}


def test_messages_of_grpc_bring_protobuf_and_no_grpc() -> None:
    loaded = loaded_by("import penstock.control.grpc.methods")
    assert "google.protobuf" in loaded
    assert not loaded & {"numpy", "grpc"}


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


def names_in_source(name: str) -> tuple[list[str], set[str]]:
    """Return what a module lists in __all__, and what it defines."""
    spec = importlib.util.find_spec(name)
    assert spec is not None
    assert spec.origin is not None
    known: set[str] = set()
    listed: list[str] = []
    for node in ast.parse(Path(spec.origin).read_text()).body:
        if isinstance(node, ast.FunctionDef | ast.ClassDef):
            known.add(node.name)
        elif isinstance(node, ast.AnnAssign) and isinstance(node.target, ast.Name):
            known.add(node.target.id)
        elif isinstance(node, ast.Import | ast.ImportFrom):
            known |= {alias.asname or alias.name for alias in node.names}
        elif isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name):
            known.add(node.targets[0].id)
            if node.targets[0].id == "__all__":
                listed = ast.literal_eval(node.value)
    assert listed, f"{name} has no __all__"
    return listed, known


@pytest.mark.parametrize("name", modules())
def test_public_names_are_listed_and_exist(name: str) -> None:
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Parts of a backend whose framework only `make test-formats` installs: read instead of imported.
        if error.name not in FRAMEWORKS:
            raise
        listed, known = names_in_source(name)
    else:
        assert hasattr(module, "__all__"), f"{name} has no __all__"
        listed, known = module.__all__, set(dir(module))
    assert not set(listed) - known
    assert len(set(listed)) == len(listed)
