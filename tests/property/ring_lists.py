"""A batch ring as lists and dictionaries: what the words, bitmaps and lanes of the real one must amount to.

Costs are not known here, so everything seems to take no time: rows are late only when their deadline is past.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field

from penstock.native._batcher import Claim

BATCH_ROWS = 4
BLOCK_ROWS = 2
FIXED_ROWS = 3  # of a reproducible batch
# Twice the rows of a batch, in whole blocks: with so little memory a lane gets no more.
BUFFERS = {"interactive": 4, "normal": 4, "batch": 4, "reproducible": 3}
RANKS = {"interactive": 1, "normal": 2, "batch": 3, "reproducible": 2}
# The word keeps 36 bits of a block's number: start where they wrap.
FIRST_BLOCK = 2**36 - 2
PAST = 1
FAR = 2**62
NEVER = 2**64 - 1


@dataclass(eq=False)
class Row:
    identity: int
    loop: int
    deadline: int  # 0, PAST or FAR
    claim: Claim | None = None
    place: int = 0  # in its claim
    cancelled: bool = False
    word: str | None = None  # 'final', or the error it was given
    answered: bool = False


@dataclass(eq=False)
class Block:
    ring: int
    lane: str
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

    @property
    def buffer(self) -> int:
        first = 0
        for lane, buffers in BUFFERS.items():
            if lane == self.lane:
                break
            first += buffers
        return first + self.sequence % BUFFERS[self.lane]


@dataclass
class Lane:
    ring: int
    name: str
    tail: int = FIRST_BLOCK
    blocks: dict[int, Block] = field(default_factory=dict)

    def may_open(self, sequence: int) -> bool:
        before = self.blocks.get(sequence - BUFFERS[self.name])
        return before is None or before.free

    def room_for(self, count: int) -> Block | None:
        """The block that the next claim goes to."""
        tail = self.blocks.setdefault(self.tail, Block(self.ring, self.name, self.tail))
        if tail.state == "open" and len(tail.rows) + count <= BLOCK_ROWS:
            return tail
        if not self.may_open(self.tail + 1):
            return None
        self.tail += 1
        return self.blocks.setdefault(self.tail, Block(self.ring, self.name, self.tail))

    def open_blocks(self, gone: frozenset[Block]) -> list[Block]:
        """With rows, oldest first."""
        return [block for block in self.blocks.values() if block.state == "open" and block.rows and block not in gone]

    def takeable(self, gone: frozenset[Block]) -> Block | None:
        for block in self.open_blocks(gone):
            full = len(block.rows) == BLOCK_ROWS
            return block if full or self.tail > block.sequence or self.may_open(block.sequence + 1) else None
        return None

    def view(self, gone: frozenset[Block]) -> tuple[int, tuple[int, int, int]]:
        """Rows that a batch may reach, and what decides between lanes: the smaller goes first."""
        rows, deadline, oldest = 0, NEVER, 0
        for block in self.open_blocks(gone):
            oldest = oldest or block.rows[0].identity
            deadline = min([deadline, *(row.deadline for row in block.rows if row.deadline)])
            rows += len(block.rows)
            if rows >= self.rows_max:
                break
        return min(rows, self.rows_max), (RANKS[self.name], deadline, oldest)

    @property
    def rows_max(self) -> int:
        return FIXED_ROWS if self.name == "reproducible" else BATCH_ROWS


@dataclass
class Take:
    """What one call of take() may have done: blocks taken, rows shed, and the batch, unless nothing was left to run."""

    blocks: list[Block] = field(default_factory=list)
    shed: list[Row] = field(default_factory=list)
    ring: int = -1
    lane: str = ""
    batch: list[Block] = field(default_factory=list)
    rows: list[Row] = field(default_factory=list)

    def after(self, before: Take) -> Take:
        blocks, shed = before.blocks + self.blocks, before.shed + self.shed
        return Take(blocks, shed, self.ring, self.lane, self.batch, self.rows)


class RingLists:
    def __init__(self, ring: int) -> None:
        self.ring = ring
        self.lanes = {name: Lane(ring, name) for name in BUFFERS}

    @property
    def blocks(self) -> list[Block]:
        return [block for lane in self.lanes.values() for block in lane.blocks.values()]

    def block_of(self, buffer: int, sequence: int) -> Block:
        return next(block for block in self.blocks if (block.buffer, block.sequence) == (buffer, sequence))

    def queued(self, quarantine: bool, gone: frozenset[Block] = frozenset()) -> list[Block]:
        found = [block for block in self.blocks if block.state == "queued" and (block.attempt >= 2) == quarantine]
        return sorted((block for block in found if block not in gone), key=lambda block: block.buffer)

    def lanes_first(self, gone: frozenset[Block], any_order: bool) -> list[Lane]:
        lanes = [lane for lane in self.lanes.values() if lane.takeable(gone)]
        lanes.sort(key=lambda lane: lane.view(gone)[1])
        return lanes if any_order else lanes[:1]

    def rows_queued(self) -> int:
        return sum(len(block.rows) for block in self.blocks if block.state in ("open", "queued"))

    # ---- one batch ---------------------------------------------------------------------------------------------------

    def rerun(self, block: Block) -> Iterator[Take]:
        for rows, shed in kept(block.rows, again=True):
            yield Take([block], shed, self.ring, block.lane, [block] if rows else [], rows)

    def batches(self, lane: Lane, gone: frozenset[Block]) -> Iterator[Take]:
        """Blocks from the lane's head, lower classes to fill them up, others in place of what is dropped."""
        lane_rows = lane.rows_max if lane.name == "reproducible" else lane.view(gone)[0]
        blocks = self.from_head(lane, gone, 0, lane_rows)
        riders = [other for other in self.lanes.values() if RANKS[lane.name] < RANKS[other.name] < 4]
        riders = [other for other in riders if "reproducible" not in (lane.name, other.name)]
        filling = sum(other.view(gone)[0] for other in riders if other.takeable(gone))
        most = min(lane_rows + filling, max(lane_rows, lane.rows_max))
        for other in riders:
            rows = sum(len(block.rows) for block in blocks)
            if rows < most:
                blocks += self.from_head(other, gone.union(blocks), rows, most - rows)
        yield from self.refilled(lane, gone, lane_rows, Take(blocks), blocks, [])

    def refilled(
        self, lane: Lane, gone: frozenset[Block], lane_rows: int, so_far: Take, new: list[Block], rows: list[Row]
    ) -> Iterator[Take]:
        there = rows + [row for block in new for row in block.rows]
        for staying, shed in kept(there):
            take = Take(so_far.blocks, so_far.shed + shed)
            more: list[Block] = []
            if len(staying) < len(there) and len(staying) < lane_rows:
                more = self.from_head(lane, gone.union(take.blocks), len(staying), lane_rows - len(staying))
            if more:
                take.blocks = take.blocks + more
                yield from self.refilled(lane, gone, lane_rows, take, more, staying)
                continue
            batch = [block for block in take.blocks if any(row in staying for row in block.rows)]
            yield Take(take.blocks, take.shed, self.ring, lane.name, batch, staying)

    @staticmethod
    def from_head(lane: Lane, gone: frozenset[Block], rows: int, rows_max: int) -> list[Block]:
        """Whole blocks; a first one always when there are no rows yet."""
        taken: list[Block] = []
        mine = 0
        while mine < rows_max and (block := lane.takeable(gone.union(taken))):
            if rows + mine > 0 and mine + len(block.rows) > rows_max:
                break
            taken.append(block)
            mine += len(block.rows)
        return taken


def kept(rows: list[Row], again: bool = False) -> Iterator[tuple[list[Row], list[Row]]]:
    """Rows that stay in a batch and rows that are shed.

    When all of them are late, a taker that has run nothing for long runs them nevertheless.
    """
    wanted = [row for row in rows if not (again and row.word)]
    staying = [row for row in wanted if not row.cancelled]
    in_time = [row for row in staying if row.deadline != PAST]
    yield in_time, [row for row in wanted if row not in in_time]
    if staying and not in_time:
        yield staying, [row for row in wanted if row.cancelled]


def padded(batch_sizes: Sequence[int], rows: int) -> int:
    return batch_sizes[bisect_left(batch_sizes, rows)] if batch_sizes else rows


def takes(rings: list[RingLists], any_order: bool) -> Iterator[Take]:
    """Everything that take() may do now: it goes on until there is a batch to run or nothing to take."""

    def search(before: Take) -> Iterator[Take]:
        gone = frozenset(before.blocks)
        steps: list[Callable[[], Iterator[Take]]] = []
        for ring in rings:
            if queued := ring.queued(quarantine=False, gone=gone):
                steps = [lambda ring=ring, block=queued[0]: ring.rerun(block)]  # type: ignore[misc]
                break
            for lane in ring.lanes_first(gone, any_order):
                steps.append(lambda ring=ring, lane=lane: ring.batches(lane, gone))  # type: ignore[misc]
        if not steps:
            yield before
        for step in steps:
            for take in step():
                if take.rows:
                    yield take.after(before)
                else:
                    yield from search(take.after(before))

    yield from search(Take())
