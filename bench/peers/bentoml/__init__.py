"""BentoML, with its adaptive batching."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from bench.peers.package import PackageTarget, Place
from penstock.load.dialects import HttpRequest, json_values
from penstock.load.rows import Row, TensorSpec

__all__ = ["BentoJson", "BentoMl"]


@dataclass(frozen=True, slots=True)
class BentoJson:
    """POST {"inputs": [row]} to a model of one input and one output, answered by [row]: it batches arrays of rows."""

    name: str = "bento"

    def request(self, model: str, row: Row) -> HttpRequest:
        """Write the request for one row of `model`."""
        (array,) = row.values()
        body = f'{{"inputs":[{json_values(array)}]}}'
        return HttpRequest(f"/models/{model}", {"Content-Type": "application/json"}, body.encode())

    def answer(self, body: bytes, outputs: Sequence[TensorSpec]) -> Row:
        """Read [value]."""
        (spec,) = outputs
        (value,) = json.loads(body)
        return {spec.name: np.array(value, dtype=spec.dtype)}


class BentoMl(PackageTarget):
    """Adaptive batches of up to 64 rows. A delay cannot be asked for: it learns its own.

    Its `max_latency_ms` is a deadline after which requests are dropped; 10 s here, so that none is. Chosen: one worker
    process, uvloop and httptools for its uvicorn, no metrics, no access log.
    """

    name = "bentoml"
    folder = Path(__file__).parent
    packages = ("bentoml", "starlette", "pydantic", "uvicorn", "uvloop")
    ready_path = "/readyz"
    dialect = BentoJson()

    def command(self, place: Place) -> Sequence[str]:
        """Start the service."""
        serve = [str(place.python), "-m", "bentoml", "serve", "service:Rival", "--host", "127.0.0.1"]
        return [*serve, "--port", str(place.port), "--working-dir", str(self.folder / "serving")]

    def variables(self, place: Place) -> Mapping[str, str]:
        """Keep what it writes in the folder, and let it report its use to nobody."""
        return {"BENTOML_HOME": str(place.folder / "home"), "BENTOML_DO_NOT_TRACK": "True"}
