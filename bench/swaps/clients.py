"""Clients that check every answer while versions are swapped: a row in JSON, many rows at once, and back again."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

import numpy as np

from bench.swaps.answers import PROBLEMS_MAX, KnownAnswers
from bench.swaps.seconds import Swap
from bench.wire import ClosedError, Reply, Wire, request_bytes
from penstock.load.dialects import PenstockJson
from penstock.load.recording import HTTP_OK

__all__ = ["Checked", "Seen", "checking", "outdated"]

ROWS_AT_ONCE = 48
# Between two questions of a client: it is there to check, not to be a load.
PAUSE_SECONDS = 0.01
OCTETS = "application/octet-stream"


@dataclass(frozen=True, slots=True)
class Seen:
    """The version that answered a request. Times are of the monotonic clock, in ns."""

    sent_ns: int
    done_ns: int
    version: str


@dataclass(slots=True)
class Checked:
    """What the clients saw, together. One that failed counts as failed, whatever the reason."""

    answers: int = 0
    failed: int = 0
    mixed: int = 0
    problems: list[str] = field(default_factory=list)
    seen: list[Seen] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def right(self, seen: Seen) -> None:
        """Count an answer that is all of one version."""
        with self.lock:
            self.answers += 1
            self.seen.append(seen)

    def wrong(self, problem: str, *, failed: bool) -> None:
        """Count a request that failed, or an answer that is not what its version answers."""
        with self.lock:
            self.failed += failed
            self.mixed += not failed
            if len(self.problems) < PROBLEMS_MAX:
                self.problems.append(problem)

    def first_of(self, version: str, after_ns: int) -> int | None:
        """Return when the first answer of a version came that was asked for after a time; None so far."""
        with self.lock:
            done = [each.done_ns for each in self.seen if each.sent_ns >= after_ns and each.version == version]
        return min(done, default=None)


@contextmanager
def checking(
    port: int, model: str, known: KnownAnswers, clients: int, pause_seconds: float = PAUSE_SECONDS
) -> Iterator[Checked]:
    """Ask and check until the block ends, each client over a connection of its own that is kept."""
    stop = threading.Event()
    checked = Checked()
    asking = [_Client(port, model, known, checked, number) for number in range(clients)]
    threads = [threading.Thread(target=client.run, args=[stop, pause_seconds]) for client in asking]
    for thread in threads:
        thread.start()
    try:
        yield checked
    finally:
        stop.set()
        for thread in threads:
            thread.join()


def outdated(seen: Sequence[Seen], swaps: Sequence[Swap]) -> int:
    """Count answers of another version than the one that the API had said answers, with no other swap begun."""
    count = 0
    for swap, following in zip(swaps, [*swaps[1:], None], strict=True):
        until = following.began_ns if following is not None else max((each.done_ns for each in seen), default=0) + 1
        during = [each for each in seen if each.sent_ns >= swap.returned_ns and each.done_ns < until]
        count += sum(each.version != swap.version for each in during)
    return count


class _Client:
    """One connection, one request at a time."""

    def __init__(self, port: int, model: str, known: KnownAnswers, checked: Checked, number: int) -> None:
        self._port = port
        self._known = known
        self._checked = checked
        self._turn = number
        self._json = [PenstockJson().request(model, row) for row in known.rows]
        self._matrix = np.stack([row["x"] for row in known.rows]).astype("<f4")
        self._raw_target = f"/predict?model={model}"

    def run(self, stop: threading.Event, pause_seconds: float) -> None:
        """Ask until told to stop. A connection that breaks is a failed request."""
        while not stop.is_set():
            try:
                with Wire.connect("127.0.0.1", self._port) as wire:
                    while not stop.wait(pause_seconds):
                        self._turn += 1
                        (self._ask_many if self._turn % 4 == 0 else self._ask_one)(wire)
            except (ClosedError, OSError, ValueError) as error:
                self._checked.wrong(f"{type(error).__name__}: {error}", failed=True)

    def _ask_one(self, wire: Wire) -> None:
        index = self._turn * 7 % len(self._json)
        request = self._json[index]
        sent_ns = time.monotonic_ns()
        reply = _asked(wire, request_bytes("POST", request.target, request.body, request.headers))
        if self._is_refused(reply):
            return
        version, problem = self._known.judge_one(index, reply.body)
        self._count(sent_ns, version, problem)

    def _ask_many(self, wire: Wire) -> None:
        """Send a request of many rows, which are spread over batches and must all be answered by one version."""
        first = self._turn * 13 % (len(self._matrix) - ROWS_AT_ONCE)
        rows = range(first, first + ROWS_AT_ONCE)
        headers = {"Content-Type": OCTETS, "Accept": OCTETS, "X-Penstock-Receipt": "true"}
        sent_ns = time.monotonic_ns()
        reply = _asked(
            wire, request_bytes("POST", self._raw_target, self._matrix[rows.start : rows.stop].tobytes(), headers)
        )
        if self._is_refused(reply):
            return
        version = reply.headers.get("x-penstock-model-version", "")
        self._count(sent_ns, version, self._known.judge_many(version, rows, reply.body))

    def _is_refused(self, reply: Reply) -> bool:
        if reply.status != HTTP_OK:
            self._checked.wrong(f"{reply.status}: {reply.body[:300]!r}", failed=True)
        return reply.status != HTTP_OK

    def _count(self, sent_ns: int, version: str, problem: str | None) -> None:
        if problem is None:
            self._checked.right(Seen(sent_ns, time.monotonic_ns(), version))
        else:
            self._checked.wrong(problem, failed=False)


def _asked(wire: Wire, data: bytes) -> Reply:
    wire.send(data)
    return wire.reply()
