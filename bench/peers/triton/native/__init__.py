"""Triton with ONNX Runtime in its own process: a backend of ours, as NVIDIA's is in no wheel. Triton at its leanest."""

from __future__ import annotations

import http.client
import json
import os
import shlex
import shutil
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench.peers.package import Place, RunningPackage
from bench.peers.triton.server import TritonTarget, TritonTensor, model_settings, model_tensors
from bench.targets import Batches, NotInstalledError

__all__ = ["TritonNative"]

SOURCES = Path(__file__).parent
BACKEND = "ortmin"
COMPILER = "c++"  # unless CXX names another
OPTIONS = ("-std=c++20", "-O3", "-shared", "-fPIC", "-Wl,-rpath,$ORIGIN")


class RunningNative(RunningPackage):
    """A Triton whose own statistics are asked: the backend reports every batch to it."""

    def batches(self, model: str) -> Batches:
        """Read what the backend has reported."""
        connection = http.client.HTTPConnection(self.address, timeout=10)
        try:
            connection.request("GET", f"/v2/models/{model}/stats")
            (counted,) = json.loads(connection.getresponse().read())["model_stats"]
        finally:
            connection.close()
        return Batches(counted["inference_count"], counted["execution_count"])


class TritonNative(TritonTarget):
    """Triton with the backend `ortmin`, which copies the rows together, runs them and reports statistics."""

    name = "triton-native"

    def make_environment(self, environments: Path) -> Path:
        """Install Triton and compile the backend against the environment's ONNX Runtime."""
        python = super().make_environment(environments)
        library = self._library(python)
        library.parent.mkdir(parents=True, exist_ok=True)
        (runtime,) = self.packages_of(python).glob("onnxruntime/capi/libonnxruntime.so.*")
        # The wheel has the library under its full version alone, the loader looks for what the library calls itself.
        found = library.parent / "libonnxruntime.so.1"
        found.unlink(missing_ok=True)
        found.symlink_to(runtime)
        compiler = shlex.split(os.environ.get("CXX", COMPILER))
        command = [*compiler, *OPTIONS, str(SOURCES / "ortmin.cpp"), str(found), "-o", str(library)]
        try:
            subprocess.run(command, check=True, capture_output=True, text=True)
        except FileNotFoundError as error:
            raise NotInstalledError(f"{self.name}: no C++ compiler: {error}") from error
        except subprocess.CalledProcessError as error:
            raise NotInstalledError(f"{self.name}: the backend does not compile: {error.stderr[-1000:]}") from error
        return python

    def backends(self, place: Place) -> Path:
        """Return the folder that holds the backend."""
        return self._library(place.python).parents[1]

    def write_model(self, place: Place, folder: Path, model: Path) -> None:
        """Write the settings, the model and the list of its tensors, which spares the backend asking for them."""
        (folder / "1").mkdir(parents=True, exist_ok=True)
        (folder / "config.pbtxt").write_text(model_settings(BACKEND, model))
        shutil.copy(model, folder / "1" / "model.onnx")
        inputs, outputs = model_tensors(model)
        lines = [_line("input", tensor) for tensor in inputs] + [_line("output", tensor) for tensor in outputs]
        (folder / "1" / "tensors").write_text("\n".join(lines) + "\n")

    @contextmanager
    def serve(self, models: Mapping[str, Path], folder: Path) -> Iterator[RunningNative]:
        """Run Triton until the block ends."""
        with super().serve(models, folder) as running:
            yield RunningNative(running.pid, running.address, running.dialect, {})

    @staticmethod
    def _library(python: Path) -> Path:
        return python.parents[1] / "backends" / BACKEND / f"libtriton_{BACKEND}.so"


def _line(kind: str, tensor: TritonTensor) -> str:
    return " ".join([kind, tensor.name, tensor.data_type.removeprefix("TYPE_"), *map(str, tensor.dims)])
