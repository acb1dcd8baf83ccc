"""`python -m penstock.cache`: the process between the data plane and Redis. The server starts it, and it ends with it.

It reads lookups and values from a socket. Whatever Redis does, the data plane waits for nothing here: it counts its own
time, and what it cannot hand over it drops.
"""

from __future__ import annotations

import argparse
import logging
import os
import signal
import socket
import threading
import time
from collections import deque
from collections.abc import Sequence

from penstock.cache import frames
from penstock.cache.frames import Asked, Inbox, Kept, Ping
from penstock.cache.store import Store, StoreError
from penstock.core.log_lines import log_to_stderr

URL_VARIABLE = "PENSTOCK_CACHE_REDIS"
PASSWORD_VARIABLE = "REDISCLI_AUTH"

_READ_BYTES = 1 << 18
_VALUES_MAX = 16_384
_VALUES_BYTES_MAX = 32 << 20
_VALUES_AT_ONCE = 256
# Of a command at least. A request has gone on by then; a connection that says nothing for so long is made anew.
_TIMEOUT_S_MIN = 1.0
# Between two lines of the log that say the same.
_SAID_AGAIN_S = 60.0

_log = logging.getLogger("penstock.cache")


class Link:
    """The socket to the data plane, which several threads write to."""

    def __init__(self, connection: socket.socket) -> None:
        self._socket = connection
        self._lock = threading.Lock()

    def receive(self) -> bytes:
        """Return what has come; nothing once the server is gone."""
        try:
            return self._socket.recv(_READ_BYTES)
        except OSError:
            return b""

    def send(self, frame: bytes) -> None:
        """Send the whole of it, or nothing to a server that is gone."""
        try:
            with self._lock:
                self._socket.sendall(frame)
        except OSError:
            return


class Complaints:
    """Says what is wrong with Redis once, and again when that has been mended meanwhile or some time is over."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._said = ""
        self._said_at = 0.0

    def say(self, error: StoreError) -> None:
        """Log it, unless it was said lately."""
        with self._lock:
            if str(error) == self._said and time.monotonic() < self._said_at + _SAID_AGAIN_S:
                return
            self._said, self._said_at = str(error), time.monotonic()
        _log.warning("Redis does not answer; models run: %s", error)

    def mended(self) -> None:
        """It answers."""
        with self._lock:
            said, self._said = self._said, ""
        if said:
            _log.info("Redis answers again")


class Keeper:
    """A thread that puts values into Redis, from a bounded queue."""

    def __init__(self, store: Store, link: Link, complaints: Complaints) -> None:
        self._store = store
        self._link = link
        self._complaints = complaints
        self._values: deque[Kept] = deque()
        self._bytes = 0
        self._changed = threading.Condition()

    def put(self, values: Sequence[Kept]) -> None:
        """Take values as far as there is room; the others are lost and counted."""
        lost = 0
        with self._changed:
            for each in values:
                if len(self._values) < _VALUES_MAX and self._bytes < _VALUES_BYTES_MAX:
                    self._values.append(each)
                    self._bytes += len(each.value)
                else:
                    lost += 1
            self._changed.notify()
        if lost:
            self._link.send(frames.lost(lost))

    def run(self) -> None:
        """Never returns."""
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._values)
                values = [self._values.popleft() for _ in range(min(_VALUES_AT_ONCE, len(self._values)))]
                self._bytes -= sum(len(each.value) for each in values)
            try:
                arrived = self._store.keep(values)
            except StoreError as error:
                self._complaints.say(error)
                arrived = 0
            if arrived:
                self._link.send(frames.kept(arrived))
            if arrived < len(values):
                self._link.send(frames.lost(len(values) - arrived))


def main() -> None:
    """Look up and keep until the other end of the socket is closed."""
    parser = argparse.ArgumentParser(prog="penstock.cache")
    parser.add_argument("--socket-fd", type=int, required=True)
    parser.add_argument("--lookup-ms", type=int, required=True, help="how long the data plane waits for a lookup")
    arguments = parser.parse_args()
    # The server's own signals reach its children, too; what it answers until it ends shall still be looked up.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    log_to_stderr()
    url, password = os.environ[URL_VARIABLE], os.environ.get(PASSWORD_VARIABLE)
    timeout_s = max(_TIMEOUT_S_MIN, arguments.lookup_ms / 1000)
    with socket.socket(fileno=arguments.socket_fd) as connection:
        link, complaints = Link(connection), Complaints()
        keeper = Keeper(Store(url, password, timeout_s), link, complaints)
        threading.Thread(target=keeper.run, daemon=True).start()
        _serve(link, Store(url, password, timeout_s), keeper, complaints)
    os._exit(0)  # whatever Redis does


def _serve(link: Link, store: Store, keeper: Keeper, complaints: Complaints) -> None:
    inbox = Inbox()
    while data := link.receive():
        found = inbox.feed(data)
        keeper.put([each for each in found if isinstance(each, Kept)])
        asked = [each for each in found if isinstance(each, Asked)]
        if asked:
            try:
                link.send(frames.answers(asked, store.look_up(asked)))
            except StoreError as error:
                complaints.say(error)
                link.send(frames.failed(asked[0].id))  # all that wait are released by it
        for ping in (each for each in found if isinstance(each, Ping)):
            try:
                store.ping()
                complaints.mended()
                link.send(frames.pong(ping.id))
            except StoreError as error:
                complaints.say(error)
                link.send(frames.failed(ping.id))


if __name__ == "__main__":
    main()
