"""Workers and their supervisor with the real engine: loading, deaths, culprits, restarts, stopping."""

import os
import select
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import psutil
import pytest

from penstock.core.config import ModelConfig, OnWorkerDeath
from penstock.core.errors import ModelLoadError
from penstock.core.status import ModelState, WorkerState
from penstock.native._dataplane import Engine
from penstock.serve import RestartPolicy, Supervisor
from tests import models
from tests.integration.supervised import (
    DEADLINE_SECONDS,
    DIE,
    EXIT,
    RAISE,
    SCRIBBLE,
    SHORTEN,
    WAIT,
    Running,
    Scripted,
    doubled,
    one_batch,
    until,
)

# --- serving ----------------------------------------------------------------------------------------------------------


def test_an_onnx_model_is_served(run: Callable[..., Running], tmp_path: Path) -> None:
    running = run(models.affine(tmp_path), instances=2)
    assert running.get("/health/ready") == 200
    status = running.status()
    assert (status.state, status.backend, status.rerun_on_worker_death) == (ModelState.READY, "onnx", True)
    assert status.inputs == (("x", "float32", (4,)),)
    assert [worker.state for worker in status.workers] == [WorkerState.READY] * 2
    code, reply = running.predict([1, 2, 3, 4])
    assert (code, reply["outputs"]) == (200, {"y": [3, 5, 7, 9]})


def test_several_models_and_versions(run: Callable[..., Running], tmp_path: Path, scripted: Scripted) -> None:
    affine = models.affine(tmp_path)
    running = run(
        [
            ModelConfig(name="a", path=affine, version="2"),
            ModelConfig(name="a", path=affine, version="1"),
            ModelConfig(name="m", path=scripted.path),
        ]
    )
    assert running.predict([1, 2, 3, 4], "a")[1]["version"] == "2"
    assert running.predict([1, 2]) == (200, doubled([1, 2]))
    assert [status.latest for status in running.supervisor.models()] == [True, False, True]


# --- rows that fail alone ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("culprit", "text"),
    [
        (RAISE, "ValueError: minus one, see <path>"),
        (SHORTEN, "output 'y' has shape"),
        (EXIT, "SystemExit: bye"),
    ],
)
def test_only_the_culprit_fails(run: Callable[..., Running], scripted: Scripted, culprit: float, text: str) -> None:
    running = run(scripted.path)
    pid = running.pid()
    rows: list[list[float]] = [[value, 1] for value in range(1, 17)]
    rows[11] = [culprit, 1]
    answers = one_batch(running, scripted, rows)
    for row, (code, reply) in zip(rows, answers, strict=True):
        if row[0] == culprit:
            assert (code, reply["code"]) == (500, "model_error")
            assert text in reply["detail"]
        else:
            assert (code, reply) == (200, doubled(row))
    # The whole, then a good and a bad half at each of four levels.
    assert sorted(scripted.runs(), reverse=True) == [16, 8, 8, 4, 4, 2, 2, 1, 1]
    assert running.pid() == pid


def test_every_row_of_a_batch_may_be_a_culprit(run: Callable[..., Running], scripted: Scripted) -> None:
    running = run(scripted.path)
    answers = one_batch(running, scripted, [[RAISE, 0]] * 5)
    assert [code for code, _ in answers] == [500] * 5
    assert running.predict([1, 2]) == (200, doubled([1, 2]))


# --- deaths -----------------------------------------------------------------------------------------------------------


def test_a_killed_workers_batch_runs_again(run: Callable[..., Running], scripted: Scripted) -> None:
    running = run(scripted.path, on_worker_death=OnWorkerDeath.RERUN)
    pid = running.pid()
    answer = running.predict_later([WAIT, 5])
    scripted.wait_until_inside()
    os.kill(pid, signal.SIGKILL)
    scripted.wait_until_inside()  # the successor has it
    scripted.let_go()
    assert answer.result() == (200, doubled([WAIT, 5]))
    assert running.pid() != pid
    assert running.status().workers[0].restarts == 1


def test_a_killed_workers_batch_fails_when_it_may_not_run_twice(
    run: Callable[..., Running], scripted: Scripted
) -> None:
    running = run(scripted.path)
    answer = running.predict_later([WAIT, 5])
    scripted.wait_until_inside()
    os.kill(running.pid(), signal.SIGKILL)
    code, reply = answer.result()
    assert (code, reply["code"]) == (503, "worker_died")
    assert running.predict([1, 2]) == (200, doubled([1, 2]))


def test_a_row_that_kills_is_found_and_its_neighbours_are_answered(
    run: Callable[..., Running], scripted: Scripted
) -> None:
    running = run(scripted.path, on_worker_death=OnWorkerDeath.RERUN)
    rows: list[list[float]] = [[value, 1] for value in range(1, 9)]
    rows[2] = [RAISE, 1]
    rows[5] = [DIE, 1]
    answers = one_batch(running, scripted, rows)
    for row, (code, reply) in zip(rows, answers, strict=True):
        if row[0] in (RAISE, DIE):
            assert (code, reply["code"]) == (500, "model_error")
            assert ("ValueError: minus one" in reply["detail"]) == (row[0] == RAISE)
        else:
            assert (code, reply) == (200, doubled(row))
    # The whole batch; then its blocks of four rows each for itself, of which the first runs in halves and the second
    # kills again; then the second's rows one by one: those before the culprit are not run again after its death.
    assert scripted.runs() == [8, *(4, 2, 2, 1, 1), 4, *(1, 1, 1, 1)]
    until(lambda: running.status().state is ModelState.READY, "the second successor is ready")
    assert running.status().workers[0].restarts == 2


def test_a_ring_full_of_nonsense_is_replaced(run: Callable[..., Running], scripted: Scripted) -> None:
    running = run(scripted.path, on_worker_death=OnWorkerDeath.RERUN)
    ring = running.status().ring
    code, reply = running.predict([SCRIBBLE, 1])
    assert code in (500, 503), reply
    until(lambda: running.status().ring != ring, "the model has another ring")
    until(lambda: running.predict([1, 2]) == (200, doubled([1, 2])), "the model answers again")
    assert running.get("/health/live") == 200


def test_another_instance_goes_on(run: Callable[..., Running], scripted: Scripted) -> None:
    slow = RestartPolicy(delay_min_s=DEADLINE_SECONDS, delay_max_s=DEADLINE_SECONDS)
    running = run(scripted.path, instances=2, policy=slow)
    os.kill(running.pid(), signal.SIGKILL)
    until(lambda: running.status().workers[0].state is WorkerState.BACKING_OFF, "the death is noticed")
    assert running.status().state is ModelState.READY
    assert running.predict([1, 2]) == (200, doubled([1, 2]))
    assert running.get("/health/ready") == 200


def test_deaths_in_a_row_fail_the_model_until_a_worker_is_ready_again(
    run: Callable[..., Running], scripted: Scripted
) -> None:
    running = run(scripted.path, policy=RestartPolicy(delay_min_s=0.01, delay_max_s=0.02, deaths_max=3))
    source = scripted.path.read_text()
    scripted.path.write_text("raise RuntimeError('the disk is gone, see /srv/secret.txt')")
    os.kill(running.pid(), signal.SIGKILL)
    until(lambda: running.status().state is ModelState.FAILED, "the model counts as failed")
    assert "RuntimeError: the disk is gone, see <path>" in (running.status().detail or "")
    assert running.get("/health/ready") == 503
    code, reply = running.predict([1, 2])
    assert (code, reply["code"]) == (503, "model_unavailable")

    scripted.path.write_text(source)
    until(lambda: running.status().state is ModelState.READY, "the model is tried again")
    assert running.predict([1, 2]) == (200, doubled([1, 2]))
    assert running.get("/health/ready") == 200


def test_a_restarted_worker_must_load_the_same_schema(run: Callable[..., Running], scripted: Scripted) -> None:
    running = run(scripted.path, policy=RestartPolicy(delay_min_s=0.01, delay_max_s=0.02, deaths_max=2))
    scripted.path.write_text(
        scripted.path.read_text().replace('"y": Tensor("float32", (2,))', '"y": Tensor("float64", (2,))')
    )
    os.kill(running.pid(), signal.SIGKILL)
    until(lambda: running.status().state is ModelState.FAILED, "the other schema is refused")
    assert "another schema" in (running.status().detail or "")


# --- starts that fail -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("x = 1", "has no class Model"),
        ("import os; os._exit(7)", "exit status 7"),
        ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", "signal SIGSEGV"),
    ],
)
def test_a_model_that_cannot_be_loaded_stops_the_start(
    run: Callable[..., Running], tmp_path: Path, source: str, text: str
) -> None:
    path = tmp_path / "broken.py"
    path.write_text(source)
    with pytest.raises(ModelLoadError, match=f"model 'm': .*{text}"):
        run(path)


def test_a_schema_that_no_ring_can_hold_stops_the_start(run: Callable[..., Running], scripted: Scripted) -> None:
    scripted.path.write_text(scripted.path.read_text().replace("(2,)", "(1 << 30, 1 << 10)"))
    with pytest.raises(ModelLoadError, match="no ring can hold"):
        run(scripted.path)


def test_a_model_that_takes_too_long_is_killed(run: Callable[..., Running], scripted: Scripted, tmp_path: Path) -> None:
    (tmp_path / "hang").touch()
    running = run(scripted.path, load_timeout_s=1, ready=False)
    with pytest.raises(ModelLoadError, match="not ready within 1 s"):
        running.supervisor.wait_ready(DEADLINE_SECONDS)
    assert running.get("/health/ready") == 503


# --- stopping ---------------------------------------------------------------------------------------------------------


def test_stop_lets_a_worker_finish_its_batch(run: Callable[..., Running], scripted: Scripted) -> None:
    running = run(scripted.path)
    worker = psutil.Process(running.pid())
    answer = running.predict_later([WAIT, 5])
    scripted.wait_until_inside()
    with ThreadPoolExecutor(1) as other:
        stopping = other.submit(running.supervisor.stop, DEADLINE_SECONDS)
        until(lambda: running.status().state is ModelState.STOPPED, "stop has begun")
        assert worker.is_running()
        scripted.let_go()
        assert answer.result() == (200, doubled([WAIT, 5]))
        stopping.result()
    assert not worker.is_running()
    assert running.status().workers[0].pid is None


def test_stop_kills_what_does_not_finish(run: Callable[..., Running], scripted: Scripted) -> None:
    running = run(scripted.path)
    worker = psutil.Process(running.pid())
    answer = running.predict_later([WAIT, 5])
    scripted.wait_until_inside()
    running.supervisor.stop(grace_s=0.1)
    assert not worker.is_running()
    assert answer.result()[0] == 503


def test_workers_leave_ctrl_c_and_sigterm_to_the_server(run: Callable[..., Running], scripted: Scripted) -> None:
    running = run(scripted.path)
    pid = running.pid()
    os.kill(pid, signal.SIGINT)
    os.kill(pid, signal.SIGTERM)
    assert running.predict([1, 2]) == (200, doubled([1, 2]))
    assert running.pid() == pid


def test_workers_die_with_the_server(scripted: Scripted) -> None:
    program = f"""
        import select, signal
        from penstock.serve.worker_process import WorkerProcess
        from penstock.worker.messages import Load, ModelToLoad

        worker = WorkerProcess(Load(0, (ModelToLoad("m", "1", {str(scripted.path)!r}, "auto"),)))
        select.select([worker.control], [], [])  # the model is loaded
        print(worker.pid, flush=True)
        signal.pause()
    """
    with subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(program)], stdout=subprocess.PIPE, text=True
    ) as server:
        assert server.stdout is not None
        pidfd = os.pidfd_open(int(server.stdout.readline()))
        try:
            server.kill()
            readable, _, _ = select.select([pidfd], [], [], DEADLINE_SECONDS)
            assert readable, "the worker outlived the server"
        finally:
            os.close(pidfd)


def test_a_fault_of_the_supervisor_is_told_to_who_runs_it() -> None:
    """A server that serves nothing any more must not look alive."""
    crashed = threading.Event()
    supervisor = Supervisor(Engine(), [], on_crash=crashed.set)
    supervisor.start()
    supervisor.wait_ready()
    supervisor._commands.post(lambda: 1 // 0)
    assert crashed.wait(DEADLINE_SECONDS)
    assert supervisor.crash == "the supervisor failed: ZeroDivisionError"
    supervisor.stop()
