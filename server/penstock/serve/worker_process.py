"""One worker process as the supervisor holds it: the process, its pidfd, and one end of the control socket."""

from __future__ import annotations

import errno
import logging
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import suppress

from penstock.worker.messages import Load, Message, ProtocolError
from penstock.worker.priority import back_to_normal, become_idle
from penstock.worker.protocol import receive, send

__all__ = ["WorkerProcess"]

logger = logging.getLogger("penstock.supervisor")

# How long a model loads at idle priority at most. A machine without time to spare must not keep it for ever.
IDLE_SECONDS_MAX = 10.0


class WorkerProcess:
    """A started worker. Used by the supervisor's thread alone.

    That thread must outlive the process: the kernel kills a worker when the thread that started it ends.
    """

    def __init__(self, load: Load) -> None:
        """Start the process and ask it to load its models; OSError when that cannot be, for want of room or else."""
        self.hung_up = False
        self.idle_until: float | None = None  # monotonic: when end_idleness() is due
        self.control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            self.control.setblocking(False)
            try:
                self._process = _spawn(theirs.fileno(), max(model.intra_op_threads for model in load.models))
            except BaseException:
                self.control.close()
                raise
        # At once: until it reads the message its interpreter starts, and that takes 0.1 s of a core.
        if load.idle and become_idle(self._process.pid):
            self.idle_until = time.monotonic() + IDLE_SECONDS_MAX
        # The process is not reaped before reap(), so its id cannot have passed to another one yet.
        self.pidfd = os.pidfd_open(self._process.pid)
        try:
            self.send(load)
        except ProtocolError as error:  # paths of many models that fit no packet
            self.kill()
            self.reap()
            raise OSError(errno.EMSGSIZE, str(error)) from error

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def end_idleness(self) -> None:
        """Let it load at normal priority from now on. A worker that is ready has come back by itself."""
        self.idle_until = None
        try:
            back_to_normal(self.pid)
        except OSError as error:  # it has ended, or a container does not let it come back
            logger.debug("a worker goes on loading at idle priority: %s", error.strerror)

    def send(self, message: Message, descriptors: Sequence[int] = ()) -> None:
        """Send a message; a worker that is gone or does not listen is left to its pidfd."""
        with suppress(OSError):
            send(self.control, message, descriptors)

    def received(self) -> Iterator[Message]:
        """Yield the messages that have arrived; ProtocolError for what is none.

        Sets `hung_up` when the worker has closed its end, of which there are no more messages.
        """
        while not self.hung_up:
            try:
                packet = receive(self.control)
            except BlockingIOError:
                return
            except OSError:
                packet = None
            if packet is None:
                self.hung_up = True
                return
            message, descriptors = packet
            for descriptor in descriptors:  # workers have none to give
                os.close(descriptor)
            yield message

    def kill(self) -> None:
        """Send SIGKILL; the pidfd tells when it is over."""
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(self.pidfd, signal.SIGKILL)

    def reap(self) -> str:
        """Collect the exit status of a process that has ended, close what belongs to it, and say how it ended."""
        status = self._process.wait()
        os.close(self.pidfd)
        self.control.close()
        if status >= 0:
            return f"exit status {status}"
        try:
            return f"signal {signal.Signals(-status).name}"
        except ValueError:
            return f"signal {-status}"


def _spawn(control: int, threads: int) -> subprocess.Popen[bytes]:
    environment = dict(os.environ)
    environment.setdefault("OMP_NUM_THREADS", str(threads))
    environment.setdefault("PYTHONUNBUFFERED", "1")
    return subprocess.Popen(
        # -P: a worker started in a folder that holds, say, a json.py must not import it.
        [sys.executable, "-P", "-m", "penstock.worker", "--control-fd", str(control), "--parent", str(os.getpid())],
        stdin=subprocess.DEVNULL,
        stdout=2,  # what a model prints belongs to the log, never into the output of `penstock`
        env=environment,
        pass_fds=(control,),
    )
