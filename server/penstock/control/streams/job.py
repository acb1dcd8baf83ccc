"""A process that reads a stream in the control plane's place, with libraries that this process does not load."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from typing import Any, NoReturn

import gevent
from gevent.os import make_nonblocking, nb_read, nb_write

from penstock.control.streams.body import ClientGoneError
from penstock.core.errors import RequestError
from penstock.core.problems import PROBLEMS

__all__ = ["Job"]

# Under way at a time: each is a process with its libraries.
_JOBS_MAX = 4
_PIECE_BYTES = 64 * 1024
_END_S = 5.0

_under_way = 0


class Job:
    """One stream's process: bytes of the body in, bytes of the answer out, both with back-pressure."""

    def __init__(self, module: str, order: Mapping[str, object], pieces: Iterator[bytes]) -> None:
        self._module = module
        self._order = order
        self._pieces = pieces
        self._failure: Exception | None = None

    def answers(self) -> Iterator[bytes]:
        """Yield the answer's media type, and then its pieces. RequestError before the first one for a refusal."""
        global _under_way
        if _under_way >= _JOBS_MAX:
            raise RequestError(
                "memory_exhausted", f"{_JOBS_MAX} streams of this format are under way already; try again"
            )
        _under_way += 1
        try:
            yield from self._answers()
        finally:
            _under_way -= 1

    def _answers(self) -> Iterator[bytes]:
        # -P: not what happens to lie in the folder that the server was started in.
        process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-P", "-m", self._module], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        feeding = gevent.spawn(self._feed, process)
        try:
            assert process.stdout is not None
            make_nonblocking(process.stdout.fileno())
            head, rest = self._head(process)
            if "code" in head:
                code = str(head["code"])
                raise RequestError(code if code in PROBLEMS else "internal_error", str(head["detail"]))
            yield str(head["media_type"]).encode()
            while rest:
                yield rest
                rest = nb_read(process.stdout.fileno(), _PIECE_BYTES)
            self._finish(process)
        finally:
            feeding.kill()
            process.kill()
            _await_end(process)

    def _head(self, process: subprocess.Popen[bytes]) -> tuple[dict[str, Any], bytes]:
        assert process.stdout is not None
        text = b""
        while b"\n" not in text:
            piece = nb_read(process.stdout.fileno(), _PIECE_BYTES)
            if not piece:
                self._fail(process)
            text += piece
        line, _, rest = text.partition(b"\n")
        head: dict[str, Any] = json.loads(line)
        # What follows a head begins at once.
        return head, rest or (b"" if "code" in head else nb_read(process.stdout.fileno(), _PIECE_BYTES))

    def _fail(self, process: subprocess.Popen[bytes]) -> NoReturn:
        """Say why there is no answer at all: the client, or the server."""
        if self._failure is not None:
            raise self._failure
        _await_end(process)
        if process.returncode < 0:
            raise RequestError(
                "memory_exhausted", f"signal {-process.returncode} has ended the process that read the body; try again"
            )
        raise RequestError("internal_error", "the process that read the body has ended without an answer")

    def _finish(self, process: subprocess.Popen[bytes]) -> None:
        """Raise unless the answer that ended was complete."""
        if self._failure is not None:
            raise self._failure
        _await_end(process)
        if process.returncode != 0:
            raise ClientGoneError  # whose response ends without its end, too; the job has said why in the log

    def _feed(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin is not None
        number = process.stdin.fileno()
        try:
            make_nonblocking(number)
            _write(number, json.dumps(self._order).encode() + b"\n")
            for piece in self._pieces:
                _write(number, piece)
            process.stdin.close()
        except BrokenPipeError as error:
            if isinstance(error, ClientGoneError):  # half a body is none
                self._failure = error
                process.kill()
        except Exception as error:
            self._failure = error
            process.kill()


def _write(number: int, piece: bytes) -> None:
    view = memoryview(piece)
    while view:
        view = view[nb_write(number, view) :]


def _await_end(process: subprocess.Popen[bytes]) -> None:
    """Reap it, without holding up the hub."""
    waited_s = 0.0
    while process.poll() is None:
        gevent.sleep(0.005)
        waited_s += 0.005
        if waited_s > _END_S:
            process.kill()
    for pipe in (process.stdin, process.stdout):
        if pipe is not None and not pipe.closed:
            pipe.close()
