"""Triton's Python backend."""

from __future__ import annotations

import hashlib
import os
import shutil
import sys
import sysconfig
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.peers.environment import INSIDE
from bench.peers.package import Place, RunningPackage
from bench.peers.triton.server import TritonTarget, model_settings
from bench.targets import NotInstalledError

__all__ = ["TritonPython"]

STUB = "triton_python_backend_stub"  # the process of the Python backend; the wheel has one for each Python


class TritonPython(TritonTarget):
    """Triton with its Python backend: the model runs in a process of its own, behind shared memory."""

    name = "triton-py"

    def make_environment(self, environments: Path) -> Path:
        """Install it, if Triton has a stub for this Python and this Python a library for the stub."""
        _python_library()
        python = super().make_environment(environments)
        triton = self.wheel(python)
        stub = triton / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}" / STUB
        if not stub.exists():
            raise NotInstalledError(f"{self.name}: Triton's Python backend knows no Python like {sys.version}")
        shutil.copy(stub, triton / "backends" / "python" / STUB)
        (triton / "backends" / "python" / STUB).chmod(0o755)
        return python

    def variables(self, place: Place) -> Mapping[str, str]:
        """Let the interpreter inside Triton's stub find its libpython, and by `python3` its environment."""
        path = f"{place.python.parent}:{os.environ.get('PATH', os.defpath)}"
        return {"PATH": path, "LD_LIBRARY_PATH": str(_python_library().parent)}

    def command(self, place: Place) -> Sequence[str]:
        """Give the shared memory a name of its own."""
        return [*super().command(place), f"--backend-config=python,shm-region-prefix-name={_shared(place.folder)}"]

    @contextmanager
    def serve(self, models: Mapping[str, Path], folder: Path) -> Iterator[RunningPackage]:
        """Remove the shared memory afterwards: Triton leaves it when a connection was still open at the end."""
        try:
            with super().serve(models, folder) as running:
                yield running
        finally:
            for region in Path("/dev/shm").glob(_shared(folder.resolve()) + "*"):
                region.unlink(missing_ok=True)

    def write_model(self, place: Place, folder: Path, model: Path) -> None:
        """Write the settings and the code."""
        (folder / "1").mkdir(parents=True, exist_ok=True)
        (folder / "config.pbtxt").write_text(model_settings("python", model))
        # The stub pays no heed to PYTHONPATH, but looks beside the model.
        for code in (self.folder / "serving" / "model.py", *INSIDE.glob("*.py")):
            shutil.copy(code, folder / "1")


def _shared(folder: Path) -> str:
    return f"rival_{os.getpid()}_{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}_"


def _python_library() -> Path:
    """Return libpython of the interpreter we run on; another one would find a standard library that is not its own."""
    library = Path(sysconfig.get_config_var("LIBDIR")) / str(sysconfig.get_config_var("INSTSONAME"))
    if ".so" not in library.name or not library.exists():
        raise NotInstalledError(f"triton-py: {sys.executable} was built without a shared libpython")
    return library
