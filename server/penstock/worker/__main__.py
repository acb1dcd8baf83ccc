"""`python -m penstock.worker --control-fd N --parent PID`: started by the supervisor, never by hand."""

from __future__ import annotations

import argparse
import ctypes
import os
import signal
import socket
import sys

from penstock.core.log_lines import log_to_stderr
from penstock.worker.life import work

__all__ = ["main"]

PR_SET_PDEATHSIG = 1


def main() -> int:
    """Run one worker; its exit status."""
    parser = argparse.ArgumentParser(prog="python -m penstock.worker", description=__doc__)
    parser.add_argument("--control-fd", type=int, required=True, help="socket to the supervisor")
    parser.add_argument("--parent", type=int, required=True, help="process id of the supervisor")
    arguments = parser.parse_args()
    _die_with(arguments.parent)
    # Ctrl-C and SIGTERM reach the whole process group; when workers stop is the main process's decision.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    log_to_stderr()
    with socket.socket(fileno=arguments.control_fd) as control:
        return work(control)


def _die_with(parent: int) -> None:
    """Ask the kernel for SIGKILL when the thread that started this process ends."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_PDEATHSIG)")
    if os.getppid() != parent:  # it died before the call above
        os._exit(1)


if __name__ == "__main__":
    sys.exit(main())
