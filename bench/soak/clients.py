"""Clients of the soak, each a thread with one connection at a time and a seed of its own."""

import random
import select
import socket
import threading
from collections import Counter, deque
from collections.abc import Callable
from dataclasses import dataclass, field

from bench.soak.requests import Expectation, Request, RequestMaker, Verdict
from bench.wire import ClosedError, Wire

__all__ = ["Client", "Tally"]

DEPTH_MAX = 24
SESSION_REQUESTS_MAX = 400
COMPLAINTS_MAX = 20
REPLY_SECONDS = 60.0


@dataclass(slots=True)
class Tally:
    """What clients saw, together."""

    counts: Counter[str] = field(default_factory=Counter)
    complaints: list[str] = field(default_factory=list)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def add(self, name: str, amount: int = 1) -> None:
        """Count something."""
        with self.lock:
            self.counts[name] += amount

    def complain(self, name: str, text: str) -> None:
        """Count something that must not be, and keep the first few."""
        with self.lock:
            self.counts[name] += 1
            if len(self.complaints) < COMPLAINTS_MAX:
                self.complaints.append(f"{name}: {text}")


class Client:
    """Sends requests in pipelines of random depth, cut at random bytes, and judges every reply in its order."""

    def __init__(self, connect: Callable[[], Wire], maker: RequestMaker, tally: Tally) -> None:
        self._connect = connect
        self._maker = maker
        self._random: random.Random = maker.random
        self._tally = tally

    def run(self, stop: threading.Event) -> None:
        """One connection after the other, until told to stop. Whatever goes wrong is in the tally."""
        while not stop.is_set():
            try:
                self._session(stop)
            except (ClosedError, OSError, ValueError, KeyError) as error:
                self._tally.complain("lost", f"{type(error).__name__}: {error}")

    def _session(self, stop: threading.Event) -> None:
        """Use one connection. Some end in the middle of a request or of its replies, as clients do that crash."""
        end = self._random.choice(["orderly", "orderly", "orderly", "mid_body", "mid_reply"])
        with self._connect() as wire:
            wire.socket.settimeout(REPLY_SECONDS)
            for _ in range(self._random.randint(1, SESSION_REQUESTS_MAX // DEPTH_MAX)):
                if stop.is_set():
                    return
                self._pipeline(wire)
            if end == "mid_body":
                wire.send(self._maker.make().data[: self._random.randint(1, 60)])
                wire.abort()
            elif end == "mid_reply":
                wire.send(b"".join(self._maker.make().data for _ in range(self._random.randint(1, DEPTH_MAX))))
                wire.abort()
            self._tally.add(f"ended {end}")

    def _pipeline(self, wire: Wire) -> None:
        requests = [self._maker.make() for _ in range(self._random.randint(1, DEPTH_MAX))]
        waiting = deque(request.expected for request in requests)
        for piece in self._cut(requests):
            self._send(wire, piece, waiting)
        while waiting:
            self._take(wire, waiting)

    def _cut(self, requests: list[Request]) -> list[bytes]:
        """Cut a pipeline at random places, most often nowhere."""
        data = b"".join(request.data for request in requests)
        cuts = sorted(self._random.randrange(len(data)) for _ in range(self._random.choice([0, 0, 0, 1, 3, 9])))
        return [data[start:end] for start, end in zip([0, *cuts], [*cuts, len(data)], strict=True)]

    def _send(self, wire: Wire, data: bytes, waiting: deque[Expectation]) -> None:
        """Send, reading replies whenever the server takes no more: it may wait for its replies to be read."""
        view = memoryview(data)
        while view:
            readable, writable, _ = select.select([wire.socket], [wire.socket], [], REPLY_SECONDS)
            if writable:
                view = view[wire.socket.send(view, socket.MSG_DONTWAIT) :]
            elif readable:
                self._take(wire, waiting)
            else:
                raise ClosedError("the server neither reads nor answers")

    def _take(self, wire: Wire, waiting: deque[Expectation]) -> None:
        expected = waiting.popleft()
        reply = wire.reply()
        verdict = expected.judge(reply)
        if verdict is Verdict.WRONG:
            self._tally.complain("wrong", f"expected {expected}, got {reply}")
        else:
            self._tally.add(verdict)
