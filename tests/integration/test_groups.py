"""Models that share worker processes: served beside each other, and dying with each other."""

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from penstock.core.config import ModelConfig, OnWorkerDeath
from penstock.core.errors import ModelLoadError
from penstock.core.status import ModelState, WorkerState
from penstock.serve import RestartPolicy
from tests import models
from tests.integration.supervised import (
    DIE,
    SCRIBBLE,
    SCRIBBLE_ONE,
    WAIT,
    WAIT_ALONE,
    Running,
    Scripted,
    doubled,
    until,
)


@pytest.fixture
def pair(scripted: Scripted, tmp_path: Path) -> list[ModelConfig]:
    """The scripted model m and an ONNX model, with a model of its own between them."""
    affine = models.affine(tmp_path)
    # In a group a block has a 64th of max_batch_size: four rows here, so that suspects of a test are in one.
    rerun = OnWorkerDeath.RERUN
    return [
        ModelConfig(name="m", path=scripted.path, group="both", max_batch_size=256, on_worker_death=rerun),
        ModelConfig(name="alone", path=affine),
        ModelConfig(name="affine", path=affine, group="both"),
    ]


def pids(running: Running) -> list[list[int | None]]:
    return [[worker.pid for worker in status.workers] for status in running.supervisor.models()]


def states(running: Running) -> list[ModelState]:
    return [status.state for status in running.supervisor.models()]


def worker_states(running: Running) -> list[list[WorkerState]]:
    return [[worker.state for worker in status.workers] for status in running.supervisor.models()]


def plus_one(row: list[float]) -> list[float]:
    return [2 * value + 1 for value in row]


def test_models_of_a_group_answer_from_one_process(run: Callable[..., Running], pair: list[ModelConfig]) -> None:
    running = run(pair)
    assert [status.config.name for status in running.supervisor.models()] == ["m", "alone", "affine"]
    scripted, alone, affine = pids(running)
    assert scripted == affine
    assert scripted != alone
    for turn in range(5):
        assert running.predict([1, turn]) == (200, doubled([1, turn]))
        for model in ("affine", "alone"):
            code, reply = running.predict([1, 2, 3, turn], model)
            assert (code, reply["outputs"]["y"]) == (200, plus_one([1, 2, 3, turn]))


def test_a_group_has_several_instances(run: Callable[..., Running], tmp_path: Path) -> None:
    affine = models.affine(tmp_path)
    running = run([ModelConfig(name=name, path=affine, group="g", instances=2) for name in ("a", "b")])
    first, second = pids(running)
    assert first == second
    assert len(set(first)) == 2
    assert [running.predict([1, 2, 3, 4], name)[0] for name in ("a", "b")] == [200, 200]


def test_a_death_is_shared_and_both_recover(
    run: Callable[..., Running], pair: list[ModelConfig], scripted: Scripted
) -> None:
    running = run(pair)
    ((pid,), (other,), _) = pids(running)
    held = running.predict_later([WAIT, 1])
    scripted.wait_until_inside()
    waiting = running.predict_later([1, 2, 3, 4], "affine")
    until(lambda: running.queued("affine") == 1, "a row of the other model waits")
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    scripted.wait_until_inside()  # the successor has the batch
    scripted.let_go()
    assert held.result() == (200, doubled([WAIT, 1]))
    code, reply = waiting.result()
    assert (code, reply["outputs"]["y"]) == (200, plus_one([1, 2, 3, 4]))
    assert [status.workers[0].restarts for status in running.supervisor.models()] == [1, 0, 1]
    assert pids(running)[1] == [other]


def test_only_the_culprits_model_is_quarantined(
    run: Callable[..., Running], pair: list[ModelConfig], scripted: Scripted
) -> None:
    running = run(pair)
    held = running.predict_later([WAIT, 1])
    scripted.wait_until_inside()
    suspects = [running.predict_later(row) for row in ([WAIT_ALONE, 1], [DIE, 1])]
    until(lambda: running.queued("m") == 2, "both rows wait")
    scripted.let_go()
    assert held.result()[0] == 200
    scripted.wait_until_inside()
    code, reply = running.predict([1, 2, 3, 4], "affine")
    assert (code, reply["outputs"]["y"]) == (200, plus_one([1, 2, 3, 4]))
    both = [WorkerState.READY, WorkerState.QUARANTINE]
    until(lambda: worker_states(running) == [both, both[:1], both[:1]], "the supervisor knows that the worker is ready")
    scripted.let_go()
    assert [answer.result()[0] for answer in suspects] == [200, 500]


@pytest.mark.parametrize("scribble", [SCRIBBLE, *SCRIBBLE_ONE])
def test_rings_full_of_nonsense_are_replaced(
    run: Callable[..., Running], pair: list[ModelConfig], scribble: float
) -> None:
    """A worker that writes all over its memory spoils the rings of its group, and no other.

    One of them is enough: workers sleep in the first.
    """
    running = run(pair)
    before = [status.ring for status in running.supervisor.models()]
    code, reply = running.predict([scribble, 1])
    assert code in (500, 503), reply
    until(lambda: running.predict([1, 2]) == (200, doubled([1, 2])), "the model answers again")
    until(lambda: running.predict([1, 2, 3, 4], "affine")[0] == 200, "so does its neighbour")
    m, alone, affine = (status.ring for status in running.supervisor.models())
    assert alone == before[1]
    assert m not in before
    assert affine not in before
    assert running.predict([1, 2, 3, 4], "alone")[0] == 200
    new = {ring["ring"]: ring for ring in running.engine.stats()["rings"]}
    assert new[m]["lost_wakeups"] == new[affine]["lost_wakeups"] == 0


def test_a_failed_member_fails_the_group_and_is_named(
    run: Callable[..., Running], pair: list[ModelConfig], scripted: Scripted
) -> None:
    running = run(pair, policy=RestartPolicy(delay_min_s=0.01, delay_max_s=0.02, deaths_max=2))
    source = scripted.path.read_text()
    scripted.path.write_text("raise RuntimeError('the disk is gone')")
    pid = running.supervisor.models()[0].workers[0].pid
    assert pid is not None
    os.kill(pid, signal.SIGKILL)
    until(lambda: states(running) == [ModelState.FAILED, ModelState.READY, ModelState.FAILED], "the group has failed")
    affine = running.supervisor.models()[2]
    assert "model 'm': " in (affine.detail or "")
    assert "the disk is gone" in (affine.detail or "")
    code, reply = running.predict([1, 2, 3, 4], "affine")
    assert (code, reply["code"]) == (503, "model_unavailable")
    assert running.predict([1, 2, 3, 4], "alone")[0] == 200

    scripted.path.write_text(source)
    until(lambda: states(running) == [ModelState.READY] * 3, "the group is tried again")
    assert running.predict([1, 2, 3, 4], "affine")[0] == 200


def test_a_member_that_cannot_be_loaded_stops_the_start(
    run: Callable[..., Running], pair: list[ModelConfig], scripted: Scripted
) -> None:
    scripted.path.write_text("x = 1")
    with pytest.raises(ModelLoadError, match=r"group 'both' \(models 'm', 'affine'\): model 'm': .*has no class Model"):
        run(pair)


def test_paths_that_fit_no_message_stop_the_start(run: Callable[..., Running], tmp_path: Path) -> None:
    path = tmp_path.joinpath(*["x" * 250] * 15)
    with pytest.raises(ModelLoadError, match=r"no worker process can be started: a message of .* is too large"):
        run([ModelConfig(name=f"m{number}", path=path, group="g") for number in range(64)])
