"""Warm-ups of workers: who measures what batches cost, and what follows from it."""

import os
import re
import signal
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from penstock.core.config import ModelConfig
from penstock.core.status import ModelState, WorkerState
from tests import models
from tests.integration.supervised import SCRIBBLE, Running, Scripted, until
from tests.integration.workers import eventually
from tests.serving import Server


def test_the_first_request_finds_a_learned_curve(run: Callable[..., Running], tmp_path: Path) -> None:
    running = run(models.affine(tmp_path), max_batch_size=16)
    ring = running.status().ring
    assert ring is not None
    cost = running.engine.cost(ring)
    assert cost["samples"] == 0, "no batch has run but those of the warm-up"
    assert cost["rows"] == [1, 2, 4, 8, 16]
    assert all(0 < mean <= p99 for mean, p99 in zip(cost["mean_seconds"], cost["p99_seconds"], strict=True))
    assert cost["mean_seconds"] == sorted(cost["mean_seconds"])


def test_only_the_first_worker_of_a_model_measures(run: Callable[..., Running], scripted: Scripted) -> None:
    log = scripted.path.parent / "zeros"
    noting = 'print(os.getpid(), len(batch["x"]), file=open(FOLDER / "zeros", "a"), flush=True)'
    call = "def predict(self, batch):\n"
    source = scripted.path.read_text().replace(call, f"{call}        {noting}\n")
    scripted.path.write_text(source)
    running = run(scripted.path, max_batch_size=4, instances=2)
    first, second = [worker.pid for worker in running.status().workers]
    curve = running.engine.cost(0)["mean_seconds"]

    def sizes(pid: int | None) -> list[int]:
        lines = [line.split() for line in log.read_text().splitlines()]
        return [int(rows) for process, rows in lines if int(process) == pid]

    assert len(sizes(first)) > 3
    assert sizes(second) == [1, 2, 4]
    assert first is not None
    os.kill(first, signal.SIGKILL)
    until(
        lambda: (
            running.status().workers[0].pid not in (None, first)
            and running.status().workers[0].state is WorkerState.READY
        ),
        "its successor is ready",
    )
    assert sizes(running.status().workers[0].pid) == [1, 2, 4]
    assert running.engine.cost(0)["mean_seconds"] == curve


def test_another_ring_starts_from_what_is_known(run: Callable[..., Running], scripted: Scripted) -> None:
    running = run(scripted.path, max_batch_size=4)
    before = running.status()
    assert before.ring is not None
    curve = running.engine.cost(before.ring)["mean_seconds"]
    running.predict([SCRIBBLE, 0])
    until(lambda: running.status().ring != before.ring, "the ring is replaced")
    until(lambda: running.status().state is ModelState.READY, "the model is ready again")
    ring = running.status().ring
    assert ring is not None
    assert running.engine.cost(ring)["mean_seconds"] == curve


def test_without_a_warm_up_nothing_is_known_until_a_batch_has_run(
    serve: Callable[..., Server], model_folder: Path
) -> None:
    server = serve(models={"affine": model_folder / "affine.onnx"}, env={"PENSTOCK_WARMUP_S": "0"})

    def cost() -> Any:
        return server.request("GET", "/models/affine").json()["versions"][0]["cost"]

    assert cost() is None
    assert b"penstock_batch_cost_seconds{" not in server.request("GET", "/metrics").body
    assert server.predict(inputs=[1, 2, 3, 4]).status == 200
    eventually(lambda: cost() is not None)
    assert cost()["curve"][0]["mean_seconds"] > 0


def test_objectives_out_of_reach_are_logged(
    run: Callable[..., Running], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    slow = tmp_path / "slow.py"
    slow.write_text(
        "import select\n"
        "from penstock.worker import Tensor\n"
        "class Model:\n"
        "    inputs = {'x': Tensor('float32', (4,))}\n"
        "    outputs = {'y': Tensor('float32', (4,))}\n"
        "    def predict(self, batch):\n"
        "        select.select([], [], [], 0.02)\n"
        "        return batch['x']\n"
    )
    affine = models.affine(tmp_path)
    run(
        [
            ModelConfig(name="slow", path=slow, group="g", slo_ms=10, max_batch_size=2),
            ModelConfig(name="fast", path=affine, group="g", slo_ms=15),
            ModelConfig(name="patient", path=affine, group="g", slo_ms=60_000),
        ]
    )
    told = [record.__dict__ for record in caplog.records if record.message == "an objective cannot be kept"]
    assert [(record["levelname"], record["model"]) for record in told] == [("WARNING", "slow"), ("WARNING", "fast")]
    takes = re.match(r"1 row takes (\S+) ms", told[0]["reason"])
    assert takes and float(takes[1]) >= 20
    assert "the smallest batch of model 'slow' of the same group, 1 row, takes" in told[1]["reason"]
