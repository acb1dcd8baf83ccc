"""What Triton needs with any backend: its environment, the settings of models, the start."""

from __future__ import annotations

import http.client
import json
import sysconfig
import tempfile
from abc import abstractmethod
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import onnxruntime

from bench.peers.environment import Process, answers, free_port, install
from bench.peers.package import PackageTarget, Place
from bench.targets import NotInstalledError
from penstock.load.dialects import OpenInference

__all__ = ["TritonTarget", "model_settings", "model_tensors"]

READY_PATH = "/v2/health/ready"

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

    def backends(self, place: Place) -> Path:
        """Return the folder that holds the backends."""
        return self.wheel(place.python) / "backends"

    @staticmethod
    def packages_of(python: Path) -> Path:
        """Return the folder of an environment's packages."""
        return Path(sysconfig.get_path("purelib", vars={"base": str(python.parents[1])}))

    @staticmethod
    def wheel(python: Path) -> Path:
        """Return the folder of an environment that Triton lies in."""
        return TritonTarget.packages_of(python) / "pytriton" / "tritonserver"

    @abstractmethod
    def write_model(self, place: Place, folder: Path, model: Path) -> None:
        """Write one model's folder of the repository."""


class TritonTensor(NamedTuple):
    """An input or output as Triton's settings name it: its type, and the shape of one row."""

    name: str
    data_type: str
    dims: list[int]


def model_tensors(model: Path) -> tuple[list[TritonTensor], list[TritonTensor]]:
    """Read the inputs and the outputs of a model from its file."""
    session = onnxruntime.InferenceSession(model, providers=["CPUExecutionProvider"])
    return [_tensor(found) for found in session.get_inputs()], [_tensor(found) for found in session.get_outputs()]


def model_settings(backend: str, model: Path) -> str:
    """Return the config.pbtxt of a model, with the tensors that its file names."""
    inputs, outputs = model_tensors(model)
    return MODEL.format(
        backend=backend,
        inputs="\n".join(f"input [{TENSOR.format(**tensor._asdict())}]" for tensor in inputs),
        outputs="\n".join(f"output [{TENSOR.format(**tensor._asdict())}]" for tensor in outputs),
    )


def _tensor(argument: onnxruntime.NodeArg) -> TritonTensor:
    return TritonTensor(argument.name, TRITON_TYPES[argument.type], list(argument.shape[1:]))


def _server(python: Path, repository: Path, port: int) -> list[str]:
    program = TritonTarget.wheel(python) / "bin" / "tritonserver"
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
