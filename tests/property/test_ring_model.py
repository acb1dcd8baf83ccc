"""The batch ring against a plain model of it: lists and dictionaries in place of words and bitmaps."""

from __future__ import annotations

import os
from dataclasses import dataclass, field

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import (
    Bundle,
    RuleBasedStateMachine,
    consumes,
    initialize,
    invariant,
    multiple,
    precondition,
    rule,
)

from penstock.native._batcher import Batch, DoneBatch, Ring, Taker

ROWS = 3  # of a batch
BUFFERS = 3
WORKERS = 3
LOOPS = 2
# RowMeta, Completion, and one padded tensor each way.
ROW_BYTES = 128 + 128 + 64 + 64
# The word keeps 36 bits of a batch's number: start where they wrap.
FIRST_BATCH = 2**36 - 2


def answer(identity: int) -> int:
    return identity * 3 + 1


@dataclass
class Row:
    identity: int
    loop: int
    word: str | None = None  # 'final', or the error it was given
    answered: bool = False


@dataclass
class Model:
    """One batch."""

    sequence: int
    rows: list[Row] = field(default_factory=list)
    state: str = "open"
    owner: int = -1
    attempt: int = 0
    running: int | None = None
    reported: set[int] = field(default_factory=set)

    @property
    def free(self) -> bool:
        """Its buffer may be used again."""
        return self.state == "done" and all(row.answered for row in self.rows)


class RingMachine(RuleBasedStateMachine):
    """Claims, takes, deaths, answers and the end, in any order."""

    held = Bundle("held")
    reports = Bundle("reports")

    @initialize(rerun=st.booleans())
    def start(self, rerun: bool) -> None:
        self.rerun = rerun
        self.ring = Ring(
            [("id", "uint64", ())],
            [("answer", "uint64", ())],
            max_batch_size=ROWS,
            queue_bytes=ROW_BYTES * ROWS * BUFFERS,
            loops=LOOPS,
            rerun_on_worker_death=rerun,
            first_batch=FIRST_BATCH,
        )
        assert (self.ring.max_batch_size, self.ring.buffers) == (ROWS, BUFFERS)
        self.events = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(LOOPS)]
        self.takers = [Taker(self.ring.fd, self.events, worker) for worker in range(WORKERS)]
        self.batches = {FIRST_BATCH: Model(FIRST_BATCH)}
        self.tail = FIRST_BATCH
        self.identities = 0
        self.closed = False

    def teardown(self) -> None:
        for event in getattr(self, "events", []):
            os.close(event)

    # ---- producers ---------------------------------------------------------------------------------------------------

    def may_open(self, sequence: int) -> bool:
        before = self.batches.get(sequence - BUFFERS)
        return before is None or before.free

    def room_for(self, count: int) -> Model | None:
        tail = self.batches[self.tail]
        if tail.state == "open" and len(tail.rows) + count <= ROWS:
            return tail
        if not self.may_open(self.tail + 1):
            return None
        self.tail += 1
        return self.batches.setdefault(self.tail, Model(self.tail))

    @rule(count=st.integers(0, ROWS + 1), loop=st.integers(0, LOOPS - 1))
    def submit(self, count: int, loop: int) -> None:
        expected = None if self.closed or not 0 < count <= ROWS else self.room_for(count)
        claim = self.ring.claim(count)
        if expected is None:
            assert claim is None
            return
        assert claim is not None
        assert (claim.sequence, claim.row, claim.count) == (expected.sequence, len(expected.rows), count)
        assert claim.buffer == claim.sequence % BUFFERS
        rows = [Row(self.identities + k + 1, loop) for k in range(count)]
        self.identities += count
        expected.rows += rows
        self.ring.publish(claim, [row.identity.to_bytes(64, "little") for row in rows], loop)

    # ---- workers -----------------------------------------------------------------------------------------------------

    def takeable(self) -> list[Model]:
        queued = [batch for batch in self.batches.values() if batch.state == "queued"]
        if queued:
            return queued
        for batch in sorted(self.batches.values(), key=lambda batch: batch.sequence):
            if batch.state == "open" and batch.rows:
                full = len(batch.rows) == ROWS
                return [batch] if full or self.tail > batch.sequence or self.may_open(batch.sequence + 1) else []
        return []

    @precondition(lambda self: not self.closed)
    @rule(target=held, worker=st.integers(0, WORKERS - 1))
    def take(self, worker: int) -> object:
        candidates = {batch.sequence: batch for batch in self.takeable()}
        taken = self.takers[worker].take(0)
        if not candidates:
            assert taken is None
            return multiple()
        assert taken is not None
        batch = candidates[taken.sequence]
        batch.state, batch.owner = "taken", worker
        assert (taken.rows, taken.attempt, taken.singly) == (len(batch.rows), batch.attempt, batch.attempt >= 2)
        assert taken.inputs[0].tolist() == [row.identity for row in batch.rows]
        for index, row in enumerate(batch.rows):
            assert taken.is_completed(index) == (row.word is not None)
        return (worker, batch.attempt, taken)

    def is_held(self, worker: int, attempt: int, taken: Batch) -> bool:
        batch = self.batches[taken.sequence]
        return (batch.state, batch.owner, batch.attempt) == ("taken", worker, attempt)

    @rule(held=held, index=st.integers(0, ROWS - 1), word=st.sampled_from(["final", "model_raised", "bad_output"]))
    def finish_row(self, held: tuple[int, int, Batch], index: int, word: str) -> None:
        _, _, taken = held
        if self.closed or not self.is_held(*held) or index >= taken.rows:
            return
        row = self.batches[taken.sequence].rows[index]
        if row.word is not None:
            return
        taken.outputs[0][index] = answer(row.identity)
        if word == "final":
            taken.complete_row(index)
        else:
            taken.fail_row(index, word, f"row {index}: é" * 30)
        row.word = word

    @rule(held=consumes(held), index=st.integers(0, ROWS - 1), again=st.sampled_from([0, 2, 4]))
    def die_running(self, held: tuple[int, int, Batch], index: int, again: int) -> None:
        """A row kills its worker, and the successors that run the batch again."""
        worker, _, taken = held
        if self.closed or not self.is_held(*held) or index >= taken.rows:
            return
        batch = self.batches[taken.sequence]
        taken.mark_running(index)
        batch.running = index
        self.kill(worker)
        while again > 0 and batch.state == "queued" and self.takeable() == [batch]:
            again -= 1
            successor = self.takers[worker].take(0)
            assert successor is not None
            assert successor.sequence == batch.sequence
            assert successor.singly == (batch.attempt >= 2)
            batch.state, batch.owner = "taken", worker
            successor.mark_running(index)
            batch.running = index
            self.kill(worker)

    @rule(held=consumes(held))
    def complete(self, held: tuple[int, int, Batch]) -> None:
        _, _, taken = held
        batch = self.batches[taken.sequence]
        if self.closed:
            return
        if not self.is_held(*held):
            return  # its worker is dead
        taken.outputs[0][:] = [answer(row.identity) for row in batch.rows]
        taken.complete()
        batch.state = "done"
        for row in batch.rows:
            row.word = row.word or "final"
        with pytest.raises(RuntimeError, match="completed"):
            taken.complete()

    @precondition(lambda self: not self.closed)
    @rule(worker=st.integers(0, WORKERS - 1))
    def kill(self, worker: int) -> None:
        expected = {"batches_requeued": 0, "batches_failed": 0, "rows_failed": 0, "corrupt": False}
        for batch in self.batches.values():
            if batch.state == "taken" and batch.owner == worker:
                self.lose(batch, expected)
        assert self.ring.recover(worker) == expected

    def lose(self, batch: Model, expected: dict[str, int]) -> None:
        """Its worker has died."""
        if self.rerun and batch.attempt >= 2 and batch.running is not None:
            culprit = batch.rows[batch.running]
            if culprit.word is None:
                culprit.word = "culprit"
                expected["rows_failed"] += 1
        left = [row for row in batch.rows if row.word is None]
        give_up = not self.rerun or (batch.attempt >= 2 and not left)
        batch.running = None
        if not give_up:
            batch.state = "queued"
            batch.attempt += 1
            expected["batches_requeued"] += 1
            return
        for row in left:
            row.word = "worker_died"
        expected["rows_failed"] += len(left)
        batch.state = "done"
        expected["batches_failed"] += 1

    # ---- answers -----------------------------------------------------------------------------------------------------

    @rule(target=reports, loop=st.integers(0, LOOPS - 1))
    def poll(self, loop: int) -> object:
        return multiple(*self.poll_all(loop))

    def poll_all(self, loop: int) -> list[tuple[int, DoneBatch]]:
        found = []
        while (done := self.ring.poll_done(loop)) is not None:
            batch = self.batches[done.sequence]
            assert loop not in batch.reported
            batch.reported.add(loop)
            if self.closed:
                assert done.rows >= len(batch.rows)
            else:
                assert batch.state == "done"
                assert done.rows == len(batch.rows)
            found.append((loop, done))
        for batch in self.batches.values():
            owes = any(row.loop == loop and not row.answered for row in batch.rows)
            if owes and (batch.state == "done" or self.closed):
                assert loop in batch.reported
        return found

    @rule(report=consumes(reports))
    def answer_rows(self, report: tuple[int, DoneBatch]) -> None:
        loop, done = report
        batch = self.batches[done.sequence]
        mine = [index for index, row in enumerate(batch.rows) if row.loop == loop]
        for index in mine:
            row = batch.rows[index]
            assert not row.answered
            row.answered = True
            error = self.ring.error(done, index)
            if row.word == "final" and batch.state == "done":
                assert error is None
                assert int.from_bytes(self.ring.outputs(done, index)[0], "little") == answer(row.identity)
            else:
                assert error is not None
                name, detail = error
                assert name == (row.word if batch.state == "done" else "worker_died")
                if name in ("model_raised", "bad_output"):
                    assert detail == (f"row {index}: é" * 30).encode()[:125]
        self.ring.handled(done, mine)

    @precondition(lambda self: not self.closed)
    @rule(worker=st.integers(0, WORKERS - 1), laps=st.integers(1, 2 * BUFFERS))
    def serve(self, worker: int, laps: int) -> None:
        """Whole lives of batches, so that buffers are used again and again."""
        for _ in range(laps):
            self.submit(1, 0)
            self.submit(ROWS - 1, 1)
            while self.takeable():
                self.complete(self.take(worker))
            for loop in range(LOOPS):
                for report in self.poll_all(loop):
                    self.answer_rows(report)

    # ---- the end -----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.tail > FIRST_BATCH + BUFFERS)
    @rule(really=st.integers(0, 4))
    def close(self, really: int) -> None:
        if really > 0:
            return  # the end comes seldom: nothing much can happen after it
        self.ring.close()
        self.closed = True

    @invariant()
    def counts_agree(self) -> None:
        if not hasattr(self, "ring"):
            return
        counters = self.ring.counters()
        assert counters["rows_claimed"] == self.identities
        assert counters["lost_wakeups"] == 0
        if not self.closed:
            waiting = [batch for batch in self.batches.values() if batch.state in ("open", "queued")]
            assert counters["rows_queued"] == sum(len(batch.rows) for batch in waiting)


TestRing = RingMachine.TestCase
TestRing.settings = settings(max_examples=300, stateful_step_count=100, deadline=None)
