"""kill -9 of Python workers on a ring: no row is lost, none gets another's answer."""

from __future__ import annotations

import os
import random
import select
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from penstock.native._batcher import Ring

WORKER = """
import sys
from penstock.native._batcher import Taker

ring, loop, worker = map(int, sys.argv[1:])
# Not what the server does, whose quarantine is a worker of its own: here one process does both.
taker = Taker([ring], [loop], worker)
quarantine = Taker([ring], [loop], worker, quarantine=True)
while True:
    batch = quarantine.take(0) or taker.take(1000)
    if batch is None:
        continue
    if batch.singly:
        for row in range(batch.rows):
            if not batch.is_completed(row):
                batch.mark_running(row)
                batch.outputs[0][row] = batch.inputs[0][row] * 3 + 1
                batch.complete_row(row)
    else:
        batch.outputs[0][:] = batch.inputs[0] * 3 + 1
    batch.complete()
"""
KILLS = 6
DEADLINE_MS = 30_000


class Host:
    """The main process of one ring: submits rows, checks answers, buries workers."""

    def __init__(self, rerun: bool, workers: int) -> None:
        self.ring = Ring(
            [("id", "int64", ())],
            [("answer", "int64", ())],
            max_batch_size=8,
            queue_bytes=64 * 384,
            rerun_on_worker_death=rerun,
        )
        self.event = os.eventfd(0, os.EFD_NONBLOCK)
        self.waiting: dict[tuple[int, int], int] = {}
        self.answers: dict[str, int] = {"right": 0, "worker_died": 0, "culprit": 0}
        self.submitted = 0
        self.workers = [self.start(worker) for worker in range(workers)]

    def start(self, worker: int) -> subprocess.Popen[bytes]:
        arguments = [sys.executable, "-c", WORKER, str(self.ring.fd), str(self.event), str(worker)]
        return subprocess.Popen(arguments, pass_fds=[self.ring.fd, self.event])

    def submit(self) -> bool:
        claim = self.ring.claim()
        if claim is None:
            return False
        self.submitted += 1
        self.waiting[claim.sequence, claim.row] = self.submitted
        self.ring.publish(claim, [self.submitted.to_bytes(64, "little")])
        return True

    def collect(self) -> int:
        rows = 0
        while (done := self.ring.poll_done()) is not None:
            for row in range(done.rows):
                identity = self.waiting.pop((done.sequence, row))
                error = self.ring.error(done, row)
                if error is None:
                    assert int.from_bytes(self.ring.outputs(done, row)[0], "little") == identity * 3 + 1
                self.answers["right" if error is None else error[0]] += 1
            self.ring.handled(done, list(range(done.rows)))
            rows += done.rows
        return rows

    def sleep(self) -> None:
        if not self.ring.prepare_wait():
            return
        ready, _, _ = select.select([self.event], [], [], DEADLINE_MS / 1000)
        self.ring.finish_wait()
        assert ready, "rows are under way, and no worker woke the loop"
        os.eventfd_read(self.event)

    def kill(self, worker: int) -> None:
        self.workers[worker].send_signal(signal.SIGKILL)
        assert self.workers[worker].wait() == -signal.SIGKILL
        assert not self.ring.recover(worker)["corrupt"]
        self.workers[worker] = self.start(worker)


@contextmanager
def host(rerun: bool, workers: int) -> Iterator[Host]:
    made = Host(rerun, workers)
    try:
        yield made
    finally:
        for worker in made.workers:
            worker.kill()
            worker.wait()
        os.close(made.event)


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("rerun", [True, False])
def test_every_row_is_answered_once(rerun: bool, workers: int) -> None:
    moments = random.Random(workers)
    with host(rerun, workers) as main:
        for kill in range(KILLS):
            target = main.submitted + moments.randrange(1, 400)
            while main.submitted < target:
                for _ in range(moments.randrange(1, 20)):
                    main.submit()
                main.ring.ring_bell()
                if main.collect() == 0 and main.waiting:
                    main.sleep()
            for _ in range(moments.randrange(1, 20)):
                main.submit()
            main.ring.ring_bell()
            main.kill(kill % workers)
        while main.waiting:
            if main.collect() == 0:
                main.sleep()
        assert sum(main.answers.values()) == main.submitted
        assert main.answers["right"] > main.submitted / 2
        assert main.answers["worker_died" if rerun else "culprit"] == 0
        counters = main.ring.counters()
        assert (counters["rows_claimed"], counters["rows_queued"]) == (main.submitted, 0)
        assert counters["lost_wakeups"] == 0
