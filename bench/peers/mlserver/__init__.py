"""MLServer, with a model of its Python interface."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from bench.peers.environment import INSIDE, free_port
from bench.peers.package import PackageTarget, Place
from penstock.load.dialects import OpenInference

__all__ = ["MLServer"]


class MLServer(PackageTarget):
    """Adaptive batching of up to 64 rows within 1 ms, asked in the Open Inference Protocol.

    Chosen: the model in the server's process (its default, a worker process, has one more hop), debug mode with its
    access log, metrics and gzip off, httptools for its uvicorn. uvloop is held at 0.21: with a later one the worker
    process of 1.7 does not start.
    """

    name = "mlserver"
    folder = Path(__file__).parent
    packages = ("mlserver", "fastapi", "pydantic", "uvicorn", "uvloop")
    ready_path = "/v2/health/ready"
    dialect = OpenInference()

    def command(self, place: Place) -> Sequence[str]:
        """Start the server on a model repository written for it."""
        settings = {
            "host": "127.0.0.1",
            "http_port": place.port,
            "grpc_port": free_port(),
            "parallel_workers": 0,
            "debug": False,
            "metrics_endpoint": None,
            "gzip_enabled": False,
        }
        (place.folder / "settings.json").write_text(json.dumps(settings))
        for name in place.models:
            model = {
                "name": name,
                "implementation": "runtime.CountedModel",
                "max_batch_size": 64,
                "max_batch_time": 0.001,
            }
            (place.folder / name).mkdir(exist_ok=True)
            (place.folder / name / "model-settings.json").write_text(json.dumps(model))
        return [str(place.python.with_name("mlserver")), "start", str(place.folder)]

    def variables(self, place: Place) -> Mapping[str, str]:
        """Let the server find its model class."""
        return {"PYTHONPATH": os.pathsep.join([str(INSIDE), str(self.folder / "serving")])}
