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

loop, worker, quarantine, *rings = map(int, sys.argv[1:])
taker = Taker(rings, [loop], worker, quarantine=bool(quarantine))
while True:
    batch = taker.take(1000)
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
    """The main process of a group of two rings: submits rows, checks answers, buries workers.

    The last worker is in quarantine. Batches have several blocks.
    """

    def __init__(self, rerun: bool, workers: int) -> None:
        self.rings: list[Ring] = []
        for _ in range(2):
            ring = Ring(
                [("id", "int64", ())],
                [("answer", "int64", ())],
                max_batch_size=8,
                block_rows=2,
                queue_bytes=64 * 384,
                rerun_on_worker_death=rerun,
                group=self.rings[0] if self.rings else None,
            )
            self.rings.append(ring)
        self.event = os.eventfd(0, os.EFD_NONBLOCK)
        self.waiting: dict[tuple[int, int, int], int] = {}
        self.answers: dict[str, int] = {"right": 0, "worker_died": 0, "culprit": 0}
        self.submitted = 0
        self.quarantine = workers
        self.workers = [self.start(worker) for worker in range(workers + 1)]

    def start(self, worker: int) -> subprocess.Popen[bytes]:
        rings = [ring.fd for ring in self.rings]
        numbers = [self.event, worker, int(worker == self.quarantine), *rings]
        arguments = [sys.executable, "-c", WORKER, *map(str, numbers)]
        return subprocess.Popen(arguments, pass_fds=[self.event, *rings])

    def submit(self, index: int) -> bool:
        claim = self.rings[index].claim()
        if claim is None:
            return False
        self.submitted += 1
        self.waiting[index, claim.sequence, claim.row] = self.submitted
        self.rings[index].publish(claim, [self.submitted.to_bytes(64, "little")])
        return True

    def ring_bells(self) -> None:
        for ring in self.rings:
            ring.ring_bell()

    def collect(self) -> int:
        rows = 0
        for index, ring in enumerate(self.rings):
            while (done := ring.poll_done()) is not None:
                for row in range(done.rows):
                    identity = self.waiting.pop((index, done.sequence, row))
                    error = ring.error(done, row)
                    if error is None:
                        assert int.from_bytes(ring.outputs(done, row)[0], "little") == identity * 3 + 1
                    self.answers["right" if error is None else error[0]] += 1
                ring.handled(done, list(range(done.rows)))
                rows += done.rows
        return rows

    def sleep(self) -> None:
        quiet = all(ring.prepare_wait() for ring in self.rings)
        ready, _, _ = select.select([self.event], [], [], DEADLINE_MS / 1000 if quiet else 0)
        for ring in self.rings:
            ring.finish_wait()
        assert ready or not quiet, "rows are under way, and no worker woke the loop"
        if ready:
            os.eventfd_read(self.event)

    def kill(self, worker: int) -> None:
        self.workers[worker].send_signal(signal.SIGKILL)
        assert self.workers[worker].wait() == -signal.SIGKILL
        for ring in self.rings:
            assert not ring.recover(worker)["corrupt"]
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
                    main.submit(moments.randrange(2))
                main.ring_bells()
                if main.collect() == 0 and main.waiting:
                    main.sleep()
            for _ in range(moments.randrange(1, 20)):
                main.submit(moments.randrange(2))
            main.ring_bells()
            main.kill(kill % (workers + 1))
        while main.waiting:
            if main.collect() == 0:
                main.sleep()
        assert sum(main.answers.values()) == main.submitted
        assert main.answers["right"] > main.submitted / 2
        assert main.answers["worker_died" if rerun else "culprit"] == 0
        counters = [ring.counters() for ring in main.rings]
        assert sum(ring["rows_claimed"] for ring in counters) == main.submitted
        assert all((ring["rows_queued"], ring["lost_wakeups"]) == (0, 0) for ring in counters)
