"""TorchServe: a Java front end and a Python worker a model."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import urllib.request
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.peers.environment import free_port, install
from bench.peers.package import PackageTarget, Place
from bench.peers.plain import PlainJson
from bench.targets import NotInstalledError

__all__ = ["TorchServe"]

VERSION = "1.0"
BATCHING = {"minWorkers": 1, "maxWorkers": 1, "batchSize": 64, "maxBatchDelay": 1, "responseTimeout": 120}


class TorchServe(PackageTarget):
    """Batches of up to 64 rows within 1 ms, one worker process a model.

    Chosen: no access and metrics logs, no token, a queue long enough for 1,024 requests (100 as shipped). Its
    compilers want tens of seconds of load before a figure of it means something.
    """

    name = "torchserve"
    folder = Path(__file__).parent
    packages = ("torchserve", "torch")
    dialect = PlainJson("/predictions/")

    def make_environment(self, environments: Path) -> Path:
        """Install the packages where there is a Java to run the front end with."""
        if shutil.which("java") is None:
            raise NotInstalledError(f"{self.name}: no java (17 or later) on the path")
        return install(self.name, environments, self.folder / "requirements.txt")

    def command(self, place: Place) -> Sequence[str]:
        """Start the front end as its launcher would, but as the root of the process tree."""
        store = place.folder / "store"
        store.mkdir(exist_ok=True)
        for name in place.models:
            self._archive(place.python, name, store)
        properties = place.folder / "config.properties"
        properties.write_text("".join(f"{key}={value}\n" for key, value in _properties(place, store).items()))
        packages = next(place.python.parent.parent.glob("lib/python3*/site-packages"))
        return [
            "java",
            f"-Dmodel_server_home={packages}",
            f"-Dlog4j.configurationFile=file://{self.folder / 'serving' / 'log4j2.xml'}",
            *("-cp", f"{packages / 'ts' / 'frontend' / '*'}", "org.pytorch.serve.ModelServer"),
            *("--python", str(place.python), "-f", str(properties), "-s", str(store), "-ncs", "--disable-token-auth"),
        ]

    def variables(self, place: Place) -> Mapping[str, str]:
        """Keep its own logs in the folder."""
        return {"LOG_LOCATION": str(place.folder), "METRICS_LOCATION": str(place.folder)}

    def ready(self, place: Place) -> bool:
        """Tell whether every model's worker is up: its own check of health says so before."""
        return all(_worker_is_up(place.port, name) for name in place.models)

    def _archive(self, python: Path, name: str, store: Path) -> None:
        archiver = [str(python.with_name("torch-model-archiver")), "--model-name", name, "--version", VERSION]
        archiver += ["--handler", str(self.folder / "serving" / "handler.py"), "--export-path", str(store), "--force"]
        path = os.pathsep.join([str(python.parent), os.environ.get("PATH", os.defpath)])
        subprocess.run(archiver, check=True, capture_output=True, env={**os.environ, "PATH": path})


def _worker_is_up(port: int, model: str) -> bool:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/models/{model}", timeout=5) as response:
            return all(worker["status"] == "READY" for worker in json.load(response)[0]["workers"])
    except OSError:
        return False


def _properties(place: Place, store: Path) -> dict[str, str]:
    models = {name: {VERSION: {"defaultVersion": True, "marName": f"{name}.mar", **BATCHING}} for name in place.models}
    return {
        "inference_address": f"http://127.0.0.1:{place.port}",
        "management_address": f"http://127.0.0.1:{place.port}",
        "metrics_address": f"http://127.0.0.1:{free_port()}",
        "grpc_inference_port": str(free_port()),
        "grpc_management_port": str(free_port()),
        "model_store": str(store),
        "load_models": "all",
        "models": json.dumps(models),
        "job_queue_size": "1024",
        "disable_system_metrics": "true",
    }
