"""Triton Inference Server: the real one, which the wheel of nvidia-pytriton carries, without PyTriton around it."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import sys
import sysconfig
import tempfile
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path

import onnxruntime

from bench.peers.environment import INSIDE, Process, answers, free_port, install
from bench.peers.package import PackageTarget, Place, RunningPackage
from bench.targets import NotInstalledError
from penstock.load.dialects import OpenInference

__all__ = ["TritonPython", "TritonTarget"]

READY_PATH = "/v2/health/ready"
STUB = "triton_python_backend_stub"  # the process of the Python backend; the wheel has one for each Python

MODEL = """\
backend: "{backend}"
max_batch_size: 64
{inputs}
{outputs}
instance_group [{{ kind: KIND_CPU count: 1 }}]
dynamic_batching {{ max_queue_delay_microseconds: 1000 }}
"""

TENSOR = '{{ name: "{name}" data_type: {data_type} dims: {dims} }}'

TRITON_TYPES = {
    "tensor(bool)": "TYPE_BOOL",
    "tensor(float16)": "TYPE_FP16",
    "tensor(float)": "TYPE_FP32",
    "tensor(double)": "TYPE_FP64",
    "tensor(uint8)": "TYPE_UINT8",
    "tensor(int8)": "TYPE_INT8",
    "tensor(int32)": "TYPE_INT32",
    "tensor(int64)": "TYPE_INT64",
}


class TritonTarget(PackageTarget):
    """Triton with some backend, asked in the Open Inference Protocol with JSON.

    Chosen: one instance a model, batches of at most 64 after at most 1 ms; its default number of HTTP threads; gRPC,
    which nobody asks, off. Its metrics, which poll the machine, are off too.
    """

    folder = Path(__file__).parent
    packages = ("nvidia-pytriton",)
    ready_path = READY_PATH
    dialect = OpenInference()

    def install(self, environments: Path) -> Mapping[str, str]:
        """Make the environment, once, and ask Triton for its version, which the wheel's number does not tell."""
        versions = super().install(environments)
        assert self._python is not None
        return {"triton": _version(self._python), **versions}

    def make_environment(self, environments: Path) -> Path:
        """Install what Triton with any backend needs."""
        return install("triton", environments, self.folder / "requirements.txt", ["--no-deps"])

    def command(self, place: Place) -> Sequence[str]:
        """Write the model repository; the command that serves it."""
        repository = place.folder / "repository"
        for name, path in place.models.items():
            self.write_model(place, repository / name, path)
        return [
            *_server(place.python, repository, place.port),
            f"--backend-directory={self.backends(place)}",
        ]

    def variables(self, place: Place) -> Mapping[str, str]:
        """Let the interpreter inside Triton's stub find its libpython, and by `python3` its environment."""
        path = f"{place.python.parent}:{os.environ.get('PATH', os.defpath)}"
        return {"PATH": path, "LD_LIBRARY_PATH": str(_python_library().parent)}

    def backends(self, place: Place) -> Path:
        """Return the folder that holds the backends."""
        return _wheel(place.python) / "backends"

    @abstractmethod
    def write_model(self, place: Place, folder: Path, model: Path) -> None:
        """Write one model's folder of the repository."""


class TritonPython(TritonTarget):
    """Triton's Python backend: the model runs in a process of its own, behind shared memory."""

    name = "triton-py"

    def make_environment(self, environments: Path) -> Path:
        """Install it, if Triton has a stub for this Python and this Python a library for the stub."""
        _python_library()
        python = super().make_environment(environments)
        triton = _wheel(python)
        stub = triton / "python_backend_stubs" / f"{sys.version_info.major}.{sys.version_info.minor}" / STUB
        if not stub.exists():
            raise NotInstalledError(f"{self.name}: Triton's Python backend knows no Python like {sys.version}")
        shutil.copy(stub, triton / "backends" / "python" / STUB)
        (triton / "backends" / "python" / STUB).chmod(0o755)
        return python

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


def model_settings(backend: str, model: Path) -> str:
    """Return the config.pbtxt of a model, with the tensors that its file names."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    inputs = "\n".join(f"input [{_tensor(argument)}]" for argument in session.get_inputs())
    outputs = "\n".join(f"output [{_tensor(argument)}]" for argument in session.get_outputs())
    return MODEL.format(backend=backend, inputs=inputs, outputs=outputs)


def _tensor(argument: onnxruntime.NodeArg) -> str:
    return TENSOR.format(name=argument.name, data_type=TRITON_TYPES[argument.type], dims=list(argument.shape[1:]))


def _server(python: Path, repository: Path, port: int) -> list[str]:
    program = _wheel(python) / "bin" / "tritonserver"
    program.chmod(0o755)
    repository.mkdir(parents=True, exist_ok=True)
    return [
        str(program),
        f"--model-repository={repository}",
        "--http-address=127.0.0.1",
        f"--http-port={port}",
        "--allow-grpc=false",
        "--allow-metrics=false",
        "--exit-timeout-secs=5",
        "--log-info=false",
    ]


def _version(python: Path) -> str:
    """Start Triton without a model and ask; NotInstalledError when it does not start."""
    port = free_port()
    with tempfile.TemporaryDirectory() as scratch:
        folder = Path(scratch)
        with Process(_server(python, folder / "repository", port), folder) as process:
            try:
                process.wait_for(lambda: answers(port, READY_PATH))
            except RuntimeError as error:
                raise NotInstalledError(f"Triton does not start: {error}") from error
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/v2")
            version: str = json.loads(connection.getresponse().read())["version"]
            connection.close()
            return version


def _wheel(python: Path) -> Path:
    """Return the folder of the environment that Triton lies in."""
    packages = sysconfig.get_path("purelib", vars={"base": str(python.parents[1])})
    return Path(packages) / "pytriton" / "tritonserver"


def _shared(folder: Path) -> str:
    return f"rival_{os.getpid()}_{hashlib.sha256(str(folder).encode()).hexdigest()[:8]}_"


def _python_library() -> Path:
    """Return libpython of the interpreter we run on; another one would find a standard library that is not its own."""
    library = Path(sysconfig.get_config_var("LIBDIR")) / str(sysconfig.get_config_var("INSTSONAME"))
    if ".so" not in library.name or not library.exists():
        raise NotInstalledError(f"triton-py: {sys.executable} was built without a shared libpython")
    return library
