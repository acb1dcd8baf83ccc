"""The process that exports traces, as the server holds it: started, fed, started again when it dies."""

from __future__ import annotations

import json
import logging
import os
import select
import socket
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable
from contextlib import ExitStack

from penstock.telemetry.packets import PACKET_BYTES_MAX, RECORD_BYTES

__all__ = ["TraceProcess"]

_log = logging.getLogger("penstock.serve.traces")

_BUFFER_BYTES = 1 << 20
_UNSENT_MAX = 32  # packets, beside what the socket holds
_REPORT_BYTES_MAX = 4096
_BACKOFF_SECONDS = (0.5, 30.0)
# It was fine for so long: the next death is a new matter.
_STEADY_SECONDS = 60.0
_STOP_SECONDS = 5.0


class TraceProcess:
    """Used by one thread. Nothing here waits, but for send_until() and stop()."""

    def __init__(
        self, endpoint: str | None, service_name: str | None, clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`endpoint`, `service_name`: None leaves them to the standard variables of OpenTelemetry."""
        self._options = [
            *(("--endpoint", endpoint) if endpoint is not None else ()),
            *(("--service-name", service_name) if service_name is not None else ()),
        ]
        self._clock = clock
        self._process: subprocess.Popen[bytes] | None = None
        self._socket: socket.socket | None = None
        self._started_at = 0.0
        self._next_start_at = 0.0
        self._backoff_s = _BACKOFF_SECONDS[0]
        self._reported = {"exported": 0, "dropped": 0}  # by the one that runs
        self._before = {"exported": 0, "dropped": 0}  # by those before it
        self._unsent: deque[bytes] = deque()
        self._lost = 0
        self.restarts = 0

    @property
    def pid(self) -> int | None:
        """The process, while there is one."""
        return None if self._process is None else self._process.pid

    @property
    def exported(self) -> int:
        """Requests whose spans have arrived at the collector."""
        return self._before["exported"] + self._reported["exported"]

    @property
    def dropped(self) -> int:
        """Requests whose spans will not."""
        return self._before["dropped"] + self._reported["dropped"] + self._lost

    @property
    def is_behind(self) -> bool:
        """Whether there was no room for all that was handed over."""
        return bool(self._unsent) and self._socket is not None

    def tend(self) -> None:
        """Start it, and again when it has died; read what it reports. To be called now and then."""
        if self._process is None:
            if self._clock() >= self._next_start_at:
                self._start()
            return
        self._send_packets()
        self._read_reports()
        status = self._process.poll()
        if status is not None:
            self._ended(status)

    def send(self, records: bytes) -> None:
        """Hand over some records; those that it does not take in time are lost and counted."""
        for begin in range(0, len(records), PACKET_BYTES_MAX):
            packet = records[begin : begin + PACKET_BYTES_MAX]
            if len(self._unsent) < _UNSENT_MAX:
                self._unsent.append(packet)
            else:
                self._lost += len(packet) // RECORD_BYTES
        self._send_packets()

    def send_until(self, end: float) -> None:
        """Send what there was no room for as room comes, at the latest until then (of the clock)."""
        while self._unsent and self._socket is not None and (seconds := end - self._clock()) > 0:
            waiting = len(self._unsent)
            poll = select.poll()  # select() knows no descriptors beyond 1023
            poll.register(self._socket, select.POLLOUT)
            poll.poll(seconds * 1000)
            self._send_packets()
            if len(self._unsent) == waiting:
                return

    def stop(self) -> None:
        """Let it export what it has, for some seconds at most."""
        if self._process is None or self._socket is None:
            return
        self._socket.shutdown(socket.SHUT_WR)
        try:
            self._process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._read_reports()
        self._socket.close()

    def _send_packets(self) -> None:
        while self._unsent and self._socket is not None:
            try:
                self._socket.send(self._unsent[0], socket.MSG_NOSIGNAL)
            except OSError:  # it is behind, or gone
                return
            self._unsent.popleft()

    def _start(self) -> None:
        with ExitStack() as ends:
            try:
                ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
                ends.callback(theirs.close)
                ends.callback(ours.close)
                ours.setblocking(False)
                ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _BUFFER_BYTES)
                fd = theirs.fileno()
                own = ["--socket-fd", str(fd), "--parent", str(os.getpid())]
                self._process = subprocess.Popen(
                    [sys.executable, "-P", "-m", "penstock.telemetry", *own, *self._options],
                    stdin=subprocess.DEVNULL,
                    stdout=2,
                    pass_fds=(fd,),
                )
            except OSError as error:
                self._wait_longer()
                _log.warning("the export of traces cannot be started", extra={"reason": str(error)})
                return
            ends.pop_all()
            theirs.close()
        self._socket = ours
        self._started_at = self._clock()

    def _ended(self, status: int) -> None:
        assert self._socket is not None
        self._socket.close()
        self._process = self._socket = None
        for name, count in self._reported.items():
            self._before[name] += count
        self._reported = dict.fromkeys(self._reported, 0)
        self.restarts += 1
        if self._clock() - self._started_at > _STEADY_SECONDS:
            self._backoff_s = _BACKOFF_SECONDS[0]
        _log.warning("the export of traces has ended; it is started again", extra={"status": status})
        self._wait_longer()

    def _wait_longer(self) -> None:
        self._next_start_at = self._clock() + self._backoff_s
        self._backoff_s = min(self._backoff_s * 2, _BACKOFF_SECONDS[1])

    def _read_reports(self) -> None:
        assert self._socket is not None
        while True:
            try:
                report = self._socket.recv(_REPORT_BYTES_MAX)
            except OSError:
                return
            if not report:
                return
            self._reported = json.loads(report)
