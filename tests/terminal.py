"""A program in a terminal of its own: what it draws, and how it leaves the terminal."""

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time
from collections.abc import Mapping, Sequence
from typing import Any

__all__ = ["Terminal"]

_SECONDS = 300.0
_ESCAPE = re.compile(r"\x1b\[[0-9;?]*[A-Za-z]|\x1b[()][A-Z0-9]|\r")


class Terminal:
    """Runs a command as the foreground job of a pseudo-terminal."""

    def __init__(
        self, command: Sequence[str], environment: Mapping[str, str], *, columns: int = 120, lines: int = 30
    ) -> None:
        self._master, self._slave = pty.openpty()
        self.resize(columns, lines)
        self.before = self.settings()
        self.raw = ""
        self.process = subprocess.Popen(
            command,
            stdin=self._slave,
            stdout=self._slave,
            stderr=self._slave,
            env={**environment, "TERM": "xterm-256color"},
            start_new_session=True,
            preexec_fn=_take_terminal,
        )

    def resize(self, columns: int, lines: int) -> None:
        fcntl.ioctl(self._slave, termios.TIOCSWINSZ, struct.pack("HHHH", lines, columns, 0, 0))

    def settings(self) -> list[Any]:
        return termios.tcgetattr(self._slave)

    def press(self, keys: str) -> None:
        os.write(self._master, keys.encode())

    def send(self, number: signal.Signals) -> None:
        self.process.send_signal(number)

    def text(self) -> str:
        """Return what has been drawn, without the sequences that move and colour."""
        return _ESCAPE.sub("", self.raw)

    def until(self, pattern: str, *, after: int = 0) -> int:
        """Read until the text behind `after` holds the pattern; where it ends."""
        deadline = time.monotonic() + _SECONDS
        while (found := re.compile(pattern).search(self.text(), after)) is None:
            if not self._read(deadline):
                raise AssertionError(f"{pattern!r} did not come:\n{self.text()[after:][-3000:]}")
        return found.end()

    def ended(self) -> int:
        """Read to the end; the exit status."""
        deadline = time.monotonic() + _SECONDS
        while self.process.poll() is None and time.monotonic() < deadline:
            self._read(time.monotonic() + 0.05)
        assert self.process.poll() is not None, f"it goes on:\n{self.text()[-2000:]}"
        while self._read(time.monotonic()):
            pass
        return self.process.returncode

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
            self.process.wait()
        os.close(self._slave)
        os.close(self._master)

    def _read(self, deadline: float) -> bool:
        readable, _, _ = select.select([self._master], [], [], max(0.0, deadline - time.monotonic()))
        if not readable:
            return False
        self.raw += os.read(self._master, 65536).decode(errors="replace")
        return True


def _take_terminal() -> None:
    fcntl.ioctl(0, termios.TIOCSCTTY, 0)
