"""From pieces of a body to pieces of an answer: rows in batches, several under way, answers in the rows' order."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import gevent
import gevent.event
import gevent.queue

from penstock.control.streams.fast_path import Reply
from penstock.control.streams.lines import Fault, LineReader, LineWriter, Rows
from penstock.core.errors import RequestError
from penstock.core.problems import PROBLEMS

__all__ = ["Pipeline"]

# Under way at a time: one is formed and one is written while others run.
_BATCHES_UNDER_WAY = 4
# Of a batch. Bodies up to here are decoded on the I/O loop, without a change of threads.
_BATCH_BYTES = 192 * 1024
# Read ahead while batches are under way.
_READ_AHEAD_BYTES = 512 * 1024
_LINE_BYTES_MAX = 16 << 20
# What a whole batch is refused for when one of its rows is at fault: it is run in parts, to find that row.
_FAULTS_OF_ROWS = ("malformed_body", "invalid_input", "body_too_large", "contradiction")
# There is no room at the moment. A stream can wait, which is what sets it apart from other clients.
_PASSING = ("queue_full", "memory_exhausted")
_WAITS_S = (0.01, 0.02, 0.05, 0.1, 0.2, 0.5, *[1.0] * 30)

_Post = Callable[[bytes], Reply]


@dataclass(slots=True)
class _Answer:
    """What the data plane said of the rows of a batch, part by part."""

    parts: list[tuple[bytes, int]] = field(default_factory=list)  # a reply, and how many rows it is for
    refusal: RequestError | None = None  # of a batch that was refused for what it is not to blame for


class Pipeline:
    """One streamed request. Its greenlets start with answers() and end with it."""

    def __init__(
        self, pieces: Iterator[bytes], reader: LineReader, writer: LineWriter, post: _Post, *, rows_max: int
    ) -> None:
        self._pieces = pieces
        self._reader = reader
        self._writer = writer
        self._post = post
        self._rows_max = rows_max
        self._waiting = bytearray()
        self._ended = False
        self._starving = False  # not even one row is complete in what has come
        self._failure: BaseException | None = None
        self._came = gevent.event.Event()
        self._taken = gevent.event.Event()
        self._batches: gevent.queue.Queue[tuple[Rows, gevent.Greenlet[..., _Answer]] | BaseException | None]
        self._batches = gevent.queue.Queue(_BATCHES_UNDER_WAY)

    def answers(self) -> Iterator[bytes]:
        """Yield the answer, piece by piece. RequestError before the first one when nothing of it can be served."""
        greenlets = [gevent.spawn(self._receive), gevent.spawn(self._send)]
        rows = 0
        try:
            while (item := self._batches.get()) is not None:
                if isinstance(item, BaseException):
                    raise item
                batch, running = item
                greenlets.append(running)
                answer = running.get()
                greenlets.pop()
                if answer.refusal is not None and not rows:
                    raise answer.refusal
                head = b"" if rows else self._writer.head()
                yield head + b"".join(self._lines(batch, answer, rows))
                rows += len(batch)
            if end := (b"" if rows else self._writer.head()) + self._writer.end(rows):
                yield end
        finally:
            while not self._batches.empty():
                if isinstance(item := self._batches.get_nowait(), tuple):
                    greenlets.append(item[1])
            gevent.killall(greenlets)

    def _lines(self, batch: Rows, answer: _Answer, first: int) -> Iterator[bytes]:
        start = 0
        for reply, count in answer.parts:
            faults: list[Fault] = [
                (row - start, code, status, detail)
                for row, code, status, detail in batch.faults
                if start <= row < start + count
            ]
            yield self._writer.write(reply, count, first + start, faults)
            start += count

    def _receive(self) -> None:
        """Take what comes, as long as there is not too much of it."""
        try:
            for piece in self._pieces:
                self._waiting += piece
                # A long row is looked at when it may be complete, not with each piece of it.
                if not self._starving or b"\n" in piece or len(self._waiting) > _LINE_BYTES_MAX:
                    self._came.set()
                # A long row, too, has an end: whoever looks at it says so when it has none.
                while len(self._waiting) > (_LINE_BYTES_MAX if self._starving else _READ_AHEAD_BYTES):
                    self._taken.clear()
                    self._taken.wait()
        except Exception as failure:
            self._failure = failure
        self._ended = True
        self._came.set()

    def _send(self) -> None:
        """Make batches of what has come. While others are under way more comes, so that they grow with the load."""
        try:
            while (batch := self._next()) is not None:
                self._batches.put((batch, gevent.spawn(self._run, batch.text, batch.ends, 0)))
            self._batches.put(None)
        except Exception as failure:
            self._batches.put(failure)

    def _next(self) -> Rows | None:
        """Return the next rows; None at the end."""
        while True:
            if self._failure is not None:
                raise self._failure
            # More than a batch when one row is longer than that.
            take = len(self._waiting) if self._starving else _BATCH_BYTES
            text = bytes(memoryview(self._waiting)[:take])
            last = self._ended and len(text) == len(self._waiting)
            rows, consumed = self._reader.read(text, last=last, rows_max=self._rows_max)
            if consumed:
                del self._waiting[:consumed]
                self._starving = False
                self._taken.set()
            if len(rows):
                return rows
            if last and len(self._waiting) == 0:
                return None
            if consumed:
                continue
            self._wait_for_more(len(text))

    def _wait_for_more(self, seen: int) -> None:
        if seen < len(self._waiting):
            self._starving = True
            return
        if seen > _LINE_BYTES_MAX:
            raise RequestError(
                "body_too_large", f"one row has more than {_LINE_BYTES_MAX} bytes; is a line's end missing?"
            )
        self._starving = True
        self._taken.set()
        self._came.clear()
        if not self._ended:
            self._came.wait()

    def _run(self, text: bytes, ends: memoryview, base: int) -> _Answer:
        """Run rows, of which the first begins at `base`; in parts when one of them fails them all."""
        reply = self._ask(text)
        if reply.status == 200:
            return _Answer([(reply.body, len(ends))])
        problem = reply.problem()
        if problem.code in _FAULTS_OF_ROWS and len(ends) > 1:
            half = len(ends) // 2
            cut = ends[half - 1] - base
            parts = [
                self._run(text[:cut], ends[:half], base),
                self._run(text[cut + 1 :], ends[half:], ends[half - 1] + 1),
            ]
            return _Answer([part for each in parts for part in each.parts])
        refusal = None if problem.code in _FAULTS_OF_ROWS else problem
        return _Answer([(_failed(len(ends), problem), len(ends))], refusal)

    def _ask(self, text: bytes) -> Reply:
        body = b'{"inputs":[' + text + b"]}"
        for wait_s in _WAITS_S:
            reply = self._post(body)
            if reply.status != 503 or reply.problem().code not in _PASSING:
                return reply
            gevent.sleep(wait_s)
        return reply


def _failed(rows: int, problem: RequestError) -> bytes:
    """Return the reply that a batch would have whose rows all fail for the same reason."""
    status = PROBLEMS[problem.code].status
    errors = [{"row": row, "code": problem.code, "status": status, "detail": problem.detail} for row in range(rows)]
    return json.dumps({"outputs": [None] * rows, "errors": errors}).encode()
