"""The batch ring against a plain model of it: lists and dictionaries in place of words and bitmaps."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass

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

from penstock.native._batcher import Batch, DoneBlock, Ring, Taker
from tests.property.ring_lists import (
    BATCH_ROWS,
    BLOCK_ROWS,
    BUFFERS,
    FAR,
    FIRST_BLOCK,
    FIXED_ROWS,
    PAST,
    Block,
    RingLists,
    Row,
    padded,
    takes,
)

WORKERS = 3
QUARANTINE = WORKERS  # number of the worker that takes nothing but what has killed two
LOOPS = 2
# RowMeta, Completion, and one padded tensor each way.
ROW_BYTES = 128 + 128 + 64 + 64
# A lane that has waited for a second goes before its class: from then on any order of lanes is right.
AGEING_S = 0.9
RECOVERY = {"blocks_requeued": 0, "blocks_quarantined": 0, "blocks_failed": 0, "rows_failed": 0, "corrupt": False}


def answer(identity: int) -> int:
    return identity * 3 + 1


@dataclass(eq=False)
class Hold:
    """A batch in a worker's hands."""

    worker: int
    taken: Batch
    blocks: list[Block]
    rows: list[Row]


Report = tuple[int, int, DoneBlock]  # ring, loop


class RingMachine(RuleBasedStateMachine):
    """Claims, takes, deaths, answers and the end, in any order, on one ring or two of a group."""

    reports = Bundle("reports")

    @initialize(rerun=st.booleans(), rings=st.integers(1, 2), sizes=st.sampled_from([(), (2, 4), (4,)]))
    def start(self, rerun: bool, rings: int, sizes: Sequence[int]) -> None:
        self.rerun = rerun
        self.sizes = sizes
        self.rings: list[Ring] = []
        for _ in range(rings):
            ring = Ring(
                [("id", "uint64", ())],
                [("answer", "uint64", ())],
                max_batch_size=BATCH_ROWS,
                block_rows=BLOCK_ROWS,
                queue_bytes=ROW_BYTES * 2 * BATCH_ROWS,
                loops=LOOPS,
                rerun_on_worker_death=rerun,
                first_block=FIRST_BLOCK,
                batch_sizes=sizes,
                reproducible_batch_size=FIXED_ROWS,
                group=self.rings[0] if self.rings else None,
            )
            assert (ring.max_batch_size, ring.buffers) == (BATCH_ROWS, sum(BUFFERS.values()))
            self.rings.append(ring)
        self.lists = [RingLists(ring) for ring in range(rings)]
        self.events = [os.eventfd(0, os.EFD_NONBLOCK) for _ in range(LOOPS)]
        fds = [ring.fd for ring in self.rings]
        self.takers = [Taker(fds, self.events, worker) for worker in range(WORKERS)]
        self.takers.append(Taker(fds, self.events, QUARANTINE, quarantine=True))
        self.holds: dict[int, Hold] = {}
        self.identities = 0
        self.closed = False
        self.started = time.monotonic()

    def teardown(self) -> None:
        for event in getattr(self, "events", []):
            os.close(event)

    def ring_of(self, index: int) -> int:
        return index % len(self.rings)

    # ---- producers ---------------------------------------------------------------------------------------------------

    @rule(
        ring=st.integers(0, 1),
        lane=st.sampled_from([*BUFFERS, "normal"]),
        count=st.integers(0, BLOCK_ROWS + 1),
        loop=st.integers(0, LOOPS - 1),
        deadline=st.sampled_from([0, 0, FAR, PAST]),
    )
    def submit(self, ring: int, lane: str, count: int, loop: int, deadline: int) -> None:
        ring = self.ring_of(ring)
        possible = not self.closed and 0 < count <= BLOCK_ROWS
        expected = self.lists[ring].lanes[lane].room_for(count) if possible else None
        claim = self.rings[ring].claim(count, lane)
        if expected is None:
            assert claim is None
            return
        assert claim is not None
        assert (claim.sequence, claim.row, claim.count) == (expected.sequence, len(expected.rows), count)
        assert claim.buffer == expected.buffer
        rows = [Row(self.identities + k + 1, loop, deadline, claim, k) for k in range(count)]
        self.identities += count
        expected.rows += rows
        self.rings[ring].publish(claim, [row.identity.to_bytes(64, "little") for row in rows], loop, deadline)

    @rule(ring=st.integers(0, 1), which=st.integers(0, 1000))
    def cancel(self, ring: int, which: int) -> None:
        ring = self.ring_of(ring)
        rows = [row for block in self.lists[ring].blocks for row in block.rows if not row.answered]
        if not rows:
            return
        row = rows[which % len(rows)]
        assert row.claim is not None
        row.cancelled = True
        self.rings[ring].cancel(row.claim, row.place)

    # ---- workers -----------------------------------------------------------------------------------------------------

    @precondition(lambda self: not self.closed)
    @rule(worker=st.integers(0, WORKERS - 1))
    def take(self, worker: int) -> None:
        self.take_now(worker)

    def take_now(self, worker: int) -> Hold | None:
        """One batch at a time: what a taker has copied together lasts until it takes again."""
        if worker in self.holds:
            return None
        taken = self.takers[worker].take(0)
        rows = taken.inputs[0].tolist()[: taken.rows] if taken else []
        left = [ring.counters()["rows_queued"] for ring in self.rings]
        any_order = time.monotonic() - self.started > AGEING_S
        before = [lists.rows_queued() for lists in self.lists]
        for take in takes(self.lists, any_order):
            gone = [sum(len(block.rows) for block in take.blocks if block.ring == ring) for ring in range(len(left))]
            after = [rows_before - rows_gone for rows_before, rows_gone in zip(before, gone, strict=True)]
            if [row.identity for row in take.rows] == rows and left == after and (not taken or take.ring == taken.ring):
                break
        else:
            raise AssertionError(f"took {rows}, left {left}")
        for row in take.shed:
            row.word = "shed"
        for block in take.blocks:
            block.state, block.owner = ("taken" if block in take.batch else "done"), worker
        if taken is None:
            return None
        assert taken.blocks == [block.sequence for block in take.batch]
        assert (taken.attempt, taken.singly) == (max(block.attempt for block in take.batch), False)
        assert taken.fixed_rows == (FIXED_ROWS if take.lane == "reproducible" else 0)
        assert taken.run_rows == (taken.fixed_rows or padded(self.sizes, taken.rows))
        assert taken.inputs[0].tolist()[taken.rows :] == [rows[0]] * (taken.run_rows - taken.rows)
        return self.hold(worker, taken, take.batch, take.rows)

    def hold(self, worker: int, taken: Batch, blocks: list[Block], rows: list[Row]) -> Hold:
        for index, row in enumerate(rows):
            assert taken.is_completed(index) == (row.word is not None)
            assert taken.is_cancelled(index) == row.cancelled
        self.holds[worker] = Hold(worker, taken, blocks, rows)
        return self.holds[worker]

    @precondition(lambda self: not self.closed and QUARANTINE not in self.holds)
    @rule()
    def take_quarantined(self) -> None:
        self.take_quarantined_now()

    def take_quarantined_now(self) -> Hold | None:
        waiting = [block for lists in self.lists for block in lists.queued(quarantine=True)]
        taken = self.takers[QUARANTINE].take(0)
        assert (taken is None) == (not waiting)
        if taken is None:
            return None
        block = waiting[0]
        block.state, block.owner = "taken", QUARANTINE
        assert (taken.ring, taken.blocks) == (block.ring, [block.sequence])
        assert (taken.attempt, taken.singly, taken.rows) == (block.attempt, True, len(block.rows))
        assert taken.inputs[0].tolist() == [row.identity for row in block.rows]
        return self.hold(QUARANTINE, taken, [block], block.rows)

    @precondition(lambda self: not self.closed and self.holds)
    @rule(
        which=st.integers(0, WORKERS),
        index=st.integers(0, BATCH_ROWS - 1),
        word=st.sampled_from(["final", "model_raised", "bad_output", "invalid_input"]),
    )
    def finish_row(self, which: int, index: int, word: str) -> None:
        hold = list(self.holds.values())[which % len(self.holds)]
        if index >= len(hold.rows) or hold.rows[index].word is not None:
            return
        row = hold.rows[index]
        hold.taken.outputs[0][index] = answer(row.identity)
        if word == "final":
            hold.taken.complete_row(index)
        else:
            hold.taken.fail_row(index, word, f"row {row.identity}: é" * 30)
        row.word = word

    @precondition(lambda self: not self.closed and self.holds)
    @rule(which=st.integers(0, WORKERS), index=st.integers(0, BATCH_ROWS - 1), again=st.sampled_from([0, 2, 4]))
    def die_running(self, which: int, index: int, again: int) -> None:
        """A row kills its worker, and the successors in quarantine that run its block again."""
        hold = list(self.holds.values())[which % len(self.holds)]
        self.mark_running(hold, index)
        self.kill(hold.worker)
        for _ in range(again):
            successor = self.holds.get(QUARANTINE) or self.take_quarantined_now()
            if successor:
                self.mark_running(successor, index)
                self.kill(QUARANTINE)

    @staticmethod
    def mark_running(hold: Hold, index: int) -> None:
        row = hold.rows[index % len(hold.rows)]
        hold.taken.mark_running(index % len(hold.rows))
        block = next(block for block in hold.blocks if row in block.rows)
        block.running = block.rows.index(row)

    @precondition(lambda self: not self.closed and self.holds)
    @rule(which=st.integers(0, WORKERS))
    def complete(self, which: int) -> None:
        self.complete_hold(list(self.holds.values())[which % len(self.holds)])

    def complete_hold(self, hold: Hold) -> None:
        outputs = hold.taken.outputs[0]
        outputs[:] = 0xDEAD  # what padding computes is nobody's
        for index, row in enumerate(hold.rows):
            outputs[index] = answer(row.identity)
        hold.taken.complete()
        for block in hold.blocks:
            block.state = "done"
        for row in hold.rows:
            row.word = row.word or "final"
        del self.holds[hold.worker]
        with pytest.raises(RuntimeError, match="completed"):
            hold.taken.complete()

    @precondition(lambda self: not self.closed)
    @rule(worker=st.integers(0, WORKERS))
    def kill(self, worker: int) -> None:
        self.holds.pop(worker, None)
        for ring, lists in zip(self.rings, self.lists, strict=True):
            expected = dict(RECOVERY)
            for block in lists.blocks:
                if block.state == "taken" and block.owner == worker:
                    self.lose(block, expected)
            assert ring.recover(worker) == expected

    def lose(self, block: Block, expected: dict[str, int]) -> None:
        """Its worker has died."""
        if self.rerun and block.attempt >= 2 and block.running is not None:
            culprit = block.rows[block.running]
            if culprit.word is None:
                culprit.word = "culprit"
                expected["rows_failed"] += 1
        left = [row for row in block.rows if row.word is None]
        give_up = not self.rerun or (block.attempt >= 2 and not left)
        block.running = None
        if not give_up:
            block.state = "queued"
            block.attempt += 1
            expected["blocks_requeued" if block.attempt < 2 else "blocks_quarantined"] += 1
            return
        for row in left:
            row.word = "worker_died"
        expected["rows_failed"] += len(left)
        block.state = "done"
        expected["blocks_failed"] += 1

    # ---- answers -----------------------------------------------------------------------------------------------------

    @rule(target=reports, ring=st.integers(0, 1), loop=st.integers(0, LOOPS - 1))
    def poll(self, ring: int, loop: int) -> object:
        return multiple(*self.poll_all(self.ring_of(ring), loop))

    def poll_all(self, ring: int, loop: int) -> list[Report]:
        found = []
        while (done := self.rings[ring].poll_done(loop)) is not None:
            block = self.lists[ring].block_of(done.buffer, done.sequence)
            assert loop not in block.reported
            block.reported.add(loop)
            if self.closed:
                assert done.rows >= len(block.rows)
            else:
                assert block.state == "done"
                assert done.rows == len(block.rows)
            found.append((ring, loop, done))
        for block in self.lists[ring].blocks:
            owes = any(row.loop == loop and not row.answered for row in block.rows)
            if owes and (block.state == "done" or self.closed):
                assert loop in block.reported
        return found

    @rule(report=consumes(reports))
    def answer_rows(self, report: Report) -> None:
        ring, loop, done = report
        block = self.lists[ring].block_of(done.buffer, done.sequence)
        mine = [index for index, row in enumerate(block.rows) if row.loop == loop]
        for index in mine:
            row = block.rows[index]
            assert not row.answered
            row.answered = True
            self.check_answer(ring, done, block, index)
        self.rings[ring].handled(done, mine)

    def check_answer(self, ring: int, done: DoneBlock, block: Block, index: int) -> None:
        row = block.rows[index]
        error = self.rings[ring].error(done, index)
        if row.word == "final" and block.state == "done":
            assert error is None
            assert int.from_bytes(self.rings[ring].outputs(done, index)[0], "little") == answer(row.identity)
            return
        assert error is not None
        name, detail = error
        assert name == (row.word if block.state == "done" else "worker_died")
        if name in ("model_raised", "bad_output", "invalid_input"):
            assert detail == (f"row {row.identity}: é" * 30).encode()[:125]

    @precondition(lambda self: not self.closed)
    @rule(worker=st.integers(0, WORKERS - 1), laps=st.integers(1, 6), lane=st.sampled_from([*BUFFERS]))
    def serve(self, worker: int, laps: int, lane: str) -> None:
        """Whole lives of blocks, so that buffers are used again and again."""
        if worker in self.holds:
            self.complete_hold(self.holds[worker])
        for _ in range(laps):
            for ring in range(len(self.rings)):
                self.submit(ring, lane, 1, 0, 0)
                self.submit(ring, lane, BLOCK_ROWS, 1, 0)
            while hold := self.take_now(worker):
                self.complete_hold(hold)
            for ring in range(len(self.rings)):
                for loop in range(LOOPS):
                    for report in self.poll_all(ring, loop):
                        self.answer_rows(report)

    # ---- the end -----------------------------------------------------------------------------------------------------

    @precondition(lambda self: self.identities > 2 * BATCH_ROWS)
    @rule(really=st.integers(0, 4))
    def close(self, really: int) -> None:
        if really > 0:
            return  # the end comes seldom: nothing much can happen after it
        for ring in self.rings:
            ring.close()
        self.closed = True

    @invariant()
    def counts_agree(self) -> None:
        if not hasattr(self, "rings"):
            return
        counters = [ring.counters() for ring in self.rings]
        assert sum(ring["rows_claimed"] for ring in counters) == self.identities
        assert all(ring["lost_wakeups"] == 0 for ring in counters)
        if self.closed:
            return
        for ring, lists, counted in zip(self.rings, self.lists, counters, strict=True):
            assert counted["rows_queued"] == lists.rows_queued()
            blocks = [block for block in lists.blocks if block.attempt >= 2 and block.state in ("queued", "taken")]
            assert ring.quarantined() == len(blocks)


TestRing = RingMachine.TestCase
TestRing.settings = settings(max_examples=300, stateful_step_count=100, deadline=None)
