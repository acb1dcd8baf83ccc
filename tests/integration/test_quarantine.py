"""Rows that kill worker after worker: found by a worker of their own, while everybody else is served."""

import os
import signal
from collections.abc import Callable

from penstock.core.config import OnWorkerDeath
from penstock.core.status import ModelState, WorkerState
from penstock.serve import RestartPolicy
from tests.integration.supervised import DIE, WAIT_ALONE, Running, Scripted, doubled, one_batch, send_one_batch, until

# A block has four rows, as max_batch_size / 16: suspects of a test are in one block, and go to quarantine together.


def states(running: Running) -> list[WorkerState]:
    return [worker.state for worker in running.status().workers]


def test_others_are_served_while_the_culprit_is_looked_for(run: Callable[..., Running], scripted: Scripted) -> None:
    running = run(scripted.path, on_worker_death=OnWorkerDeath.RERUN)
    suspects = send_one_batch(running, scripted, [[1, 1], [WAIT_ALONE, 2], [DIE, 3], [4, 4]])
    scripted.wait_until_inside()  # alone, hence in quarantine
    assert running.predict([5, 6]) == (200, doubled([5, 6]))
    until(lambda: states(running) == [WorkerState.READY, WorkerState.QUARANTINE], "the supervisor knows that both are")
    ordinary, ward = running.status().workers
    assert ordinary.pid != ward.pid
    assert not any(answer.done() for answer in suspects), "its neighbours are still in quarantine"

    scripted.let_go()
    good, waited, killer, other = (answer.result() for answer in suspects)
    assert (good, waited, other) == ((200, doubled([1, 1])), (200, doubled([WAIT_ALONE, 2])), (200, doubled([4, 4])))
    assert (killer[0], killer[1]["code"]) == (500, "model_error")


def test_quarantine_ends_when_its_rows_are_answered(run: Callable[..., Running], scripted: Scripted) -> None:
    running = run(scripted.path, on_worker_death=OnWorkerDeath.RERUN)
    ring = running.status().ring
    assert ring is not None
    one_batch(running, scripted, [[1, 1], [DIE, 1]])
    until(lambda: states(running) == [WorkerState.READY], "only the ordinary worker is left")
    assert running.engine.quarantined(ring) == 0
    assert running.status().workers[0].restarts == 2


def test_deaths_in_quarantine_count_against_nobody(run: Callable[..., Running], scripted: Scripted) -> None:
    policy = RestartPolicy(delay_min_s=0.01, delay_max_s=0.02, deaths_max=3)
    running = run(scripted.path, policy=policy, on_worker_death=OnWorkerDeath.RERUN)
    suspects = send_one_batch(running, scripted, [[DIE, 1], [DIE, 2], [DIE, 3], [WAIT_ALONE, 4]])
    scripted.wait_until_inside()  # three workers have died in quarantine by now, and two before
    until(lambda: states(running)[0] is WorkerState.READY, "the ordinary worker is back")
    assert running.status().state is ModelState.READY
    assert running.status().workers[0].restarts == 2
    assert running.get("/health/ready") == 200
    scripted.let_go()
    answers = [answer.result() for answer in suspects]
    assert [code for code, _ in answers] == [500] * 3 + [200]


def test_a_worker_that_is_killed_in_quarantine_is_no_rows_fault_twice(
    run: Callable[..., Running], scripted: Scripted
) -> None:
    """The row it was at is taken for the culprit, the others go on with the next worker."""
    running = run(scripted.path, on_worker_death=OnWorkerDeath.RERUN)
    suspects = send_one_batch(running, scripted, [[DIE, 1], [WAIT_ALONE, 2], [3, 3]])
    scripted.wait_until_inside()
    until(lambda: states(running)[-1] is WorkerState.QUARANTINE, "the supervisor knows that the worker is ready")
    ward = running.status().workers[-1]
    assert ward.pid is not None
    os.kill(ward.pid, signal.SIGKILL)
    killer, waited, other = (answer.result() for answer in suspects)
    assert (killer[0], waited[0]) == (500, 500)
    assert other == (200, doubled([3, 3]))


def test_nothing_is_quarantined_that_may_not_run_twice(run: Callable[..., Running], scripted: Scripted) -> None:
    running = run(scripted.path)
    answers = one_batch(running, scripted, [[1, 1], [DIE, 1]])
    assert [(code, reply["code"]) for code, reply in answers] == [(503, "worker_died")] * 2
    assert running.predict([1, 2]) == (200, doubled([1, 2]))
    until(lambda: states(running) == [WorkerState.READY], "only the ordinary worker is there")
    assert running.status().workers[0].restarts == 1


def test_stop_does_not_wait_for_quarantine(run: Callable[..., Running], scripted: Scripted) -> None:
    running = run(scripted.path, on_worker_death=OnWorkerDeath.RERUN)
    suspects = send_one_batch(running, scripted, [[DIE, 1], [WAIT_ALONE, 2]])
    scripted.wait_until_inside()
    running.supervisor.stop(grace_s=0.1)
    assert running.status().state is ModelState.STOPPED
    assert [answer.result()[0] for answer in suspects] == [500, 500]
