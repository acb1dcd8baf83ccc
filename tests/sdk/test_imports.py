"""The SDK stands alone: what it imports, and where."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from tests.serving import Server

PACKAGE = Path(__file__).resolve().parents[2] / "sdk/python/penstock_client"
# What need not be installed has one door, or a few.
DOORS = {
    "numpy": {"batches.py", "gathering.py", "tables.py", "tensors.py"},
    "pyarrow": {"tables.py"},
    "opentelemetry": {"opentelemetry.py"},
}


def imported(file: Path) -> set[str]:
    found = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name.partition(".")[0] for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0
            found.add(str(node.module).partition(".")[0])
    return found


@pytest.mark.parametrize("file", sorted(PACKAGE.glob("*.py")), ids=lambda file: file.name)
def test_outside_libraries_have_their_doors(file: Path) -> None:
    outside = imported(file) - set(sys.stdlib_module_names) - {"penstock_client"}
    assert all(file.name in DOORS.get(name, ()) for name in outside), outside


def test_what_is_missing_is_said(server: Server) -> None:
    script = """if True:
        import sys
        from penstock_client import ArgumentError, Client
        missing = ("numpy", "pandas", "pyarrow", "msgpack")
        sys.modules.update(dict.fromkeys(missing))
        client = Client(sys.argv[1])
        result = client.predict_batch("affine", [[1, 2, 3, 4]])
        print(result.outputs)
        for call in (
            lambda: client.predict("affine", [1, 2, 3, 4], encoding="binary"),
            result.to_pandas,
            result.to_arrow,
            lambda: client.predict("affine", [1, 2, 3, 4], encoding="msgpack"),
        ):
            try:
                call()
            except ArgumentError as error:
                print(error)
    """
    command = [sys.executable, "-c", script, server.url]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.splitlines() == [
        "{'y': [[3.0, 5.0, 7.0, 9.0]]}",
        *(
            f'this needs {name}: pip install "penstock-client[{extra}]"'
            for name, extra in (("numpy", "numpy"), ("pandas", "pandas"), ("pyarrow", "arrow"), ("msgpack", "msgpack"))
        ),
    ]


def test_a_missing_opentelemetry_is_said() -> None:
    script = "import sys; sys.modules['opentelemetry'] = None; import penstock_client.opentelemetry"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    said = 'ModuleNotFoundError: this needs opentelemetry-api: pip install "penstock-client[opentelemetry]"'
    assert done.stderr.splitlines()[-1] == said


def test_nothing_is_loaded_that_is_not_used() -> None:
    script = (
        f"import sys; sys.path.insert(0, {str(PACKAGE.parent)!r}); import penstock_client; "
        "print(sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    done = subprocess.run([sys.executable, "-I", "-c", script], capture_output=True, text=True, check=True)
    loaded = set(ast.literal_eval(done.stdout))
    assert not loaded & {*DOORS, "pandas", "msgpack", "penstock", "gevent", "asyncio", "concurrent", "ssl", "tarfile"}
    assert "penstock_client" in loaded


def test_names_that_are_imported_late_are_names_of_the_package_all_the_same() -> None:
    script = """if True:
        import penstock_client
        assert set(penstock_client.__all__) <= set(dir(penstock_client))
        from penstock_client import *
        for name in penstock_client.__all__:
            assert globals()[name] is getattr(penstock_client, name)
            assert globals()[name] is vars(penstock_client)[name]
        print(AsyncClient.__name__, hasattr(penstock_client, "AsyncClints"))
    """
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == "AsyncClient False\n"
