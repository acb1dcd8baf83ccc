"""Models that run batches of some sizes only, served: neighbours, padding and what a model refuses."""

import json
import re
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.core.config import ModelConfig
from penstock.core.errors import ModelLoadError
from tests import models
from tests.integration.supervised import Running
from tests.serving import Server

SOURCE = """
    from penstock.worker import Tensor

    class Model:
        inputs = {"x": Tensor("float32", (2,))}
        outputs = {"y": Tensor("float32", (2,))}
        max_batch_size = %s

        def predict(self, batch):
            x = batch["x"]
            if len(x) not in (4, 16):
                raise ValueError(f"not compiled for {len(x)} rows")
            if (x < 0).any():
                raise ValueError("below zero")
            return x * 2
"""


def compiled(folder: Path, max_batch_size: int = 16) -> Path:
    """A model for batches of 4 and 16 rows."""
    path = folder / "compiled.py"
    path.write_text(textwrap.dedent(SOURCE % max_batch_size))
    return path


def test_a_model_sees_only_the_sizes_it_allows(serve: Callable[..., Server], tmp_path: Path) -> None:
    flags = ["--batch-sizes", "4,16"]
    server = serve(*flags, models={"m": compiled(tmp_path)})
    assert "not compiled" not in server.log.read_text(), "the warm-up keeps to them, too"
    assert server.predict(inputs=[1, 2]).json()["outputs"]["y"] == [2, 4]
    refused = server.predict(inputs=[-1, 2])
    assert refused.status == 500
    assert "below zero" in refused.json()["detail"]
    (version,) = server.request("GET", "/models/m").json()["versions"]
    assert version["batching"]["batch_sizes"] == [4, 16]
    assert version["batching"]["reproducible_batch_size"] == 4
    assert version["counters"]["padded_rows"] == 6
    metrics = server.request("GET", "/metrics").body.decode()
    assert re.search(r'penstock_padded_rows_total\{model="m",version="1"\} 6\.0', metrics)


def test_sizes_above_the_models_own_limit_are_left_out(run: Callable[..., Running], tmp_path: Path) -> None:
    running = run(compiled(tmp_path, max_batch_size=15), batch_sizes=(4, 16, 64))
    assert running.status().max_batch_size == 4
    assert running.predict([1, 2])[0] == 200


def test_a_model_below_every_size_stops_the_start(run: Callable[..., Running], tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="it takes at most 3 rows and batch_sizes allows only 4, 64: allow 3 or"):
        run(compiled(tmp_path, max_batch_size=3), batch_sizes=(4, 64))


def test_a_ring_too_small_for_the_sizes_stops_the_start(run: Callable[..., Running], tmp_path: Path) -> None:
    config = ModelConfig(name="m", path=compiled(tmp_path), max_batch_size=16, batch_sizes=(4, 16), queue_bytes=4096)
    with pytest.raises(ModelLoadError, match="too few for batch_sizes or reproducible_batch_size: raise queue_bytes"):
        run([config])


def test_reproducible_rows_run_in_the_size_that_was_set(serve: Callable[..., Server], tmp_path: Path) -> None:
    server = serve(models={"m": models.affine(tmp_path)}, env={"PENSTOCK_REPRODUCIBLE_BATCH_SIZE": "8"})
    headers = {"Content-Type": "application/json", "X-Penstock-Receipt": "true", "X-Penstock-Reproducible": "true"}
    reply = server.request("POST", "/predict", json.dumps({"inputs": [1, 2, 3, 4]}), headers)
    assert reply.json()["outputs"]["y"] == [3, 5, 7, 9]
    assert float(reply.headers["x-penstock-padding"]) == pytest.approx(7 / 8, abs=0.01)
