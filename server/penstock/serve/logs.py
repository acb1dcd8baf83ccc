"""Structured log records, as text or JSON, written by a thread of their own.

Whoever logs formats one line and puts it into a bounded queue: neither the hub nor the supervisor ever waits for a
terminal, a pipe or a disk. When the queue is full, records are dropped and counted.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
from typing import TextIO

from penstock.core.config import LogFormat, LogLevel
from penstock.core.log_lines import formatter_of

__all__ = ["LogWriter"]

_QUEUE_RECORDS_MAX = 10_000
_STOP_SECONDS = 2.0


class LogWriter:
    """Takes the records of all loggers and writes them to a stream from its own thread."""

    def __init__(
        self,
        log_format: LogFormat,
        level: LogLevel,
        stream: TextIO | None = None,
        queue_records_max: int = _QUEUE_RECORDS_MAX,
    ) -> None:
        self._stream = stream or sys.stderr
        self._level = level.upper()
        self._lines: queue.Queue[str | None] = queue.Queue(queue_records_max)
        self._handler = _EnqueueHandler(self._lines)
        self._handler.setFormatter(formatter_of(log_format))
        self._thread = threading.Thread(target=self._write, name="penstock-log", daemon=True)

    @property
    def dropped(self) -> int:
        """Records lost because the queue was full or the stream was broken."""
        return self._handler.dropped

    def start(self) -> None:
        """Take the records from now on: our own from the given level, other libraries' warnings and errors."""
        logging.getLogger("penstock").setLevel(self._level)
        logging.getLogger().addHandler(self._handler)
        logging.captureWarnings(True)
        self._thread.start()

    def stop(self) -> None:
        """Write what is queued and end; a stream that does not move is given up after two seconds."""
        logging.captureWarnings(False)
        logging.getLogger().removeHandler(self._handler)
        try:
            self._lines.put(None, timeout=_STOP_SECONDS)
        except queue.Full:
            return
        self._thread.join(_STOP_SECONDS)

    def _write(self) -> None:
        while (line := self._lines.get()) is not None:
            try:
                self._stream.write(line + "\n")
                self._stream.flush()
            except (OSError, ValueError):  # a pipe that nobody reads any more, a closed file
                self._handler.dropped += 1


class _EnqueueHandler(logging.Handler):
    def __init__(self, lines: queue.Queue[str | None]) -> None:
        super().__init__()
        self._lines = lines
        self.dropped = 0

    def emit(self, record: logging.LogRecord) -> None:
        try:
            # Rendered here, not in the thread: arguments may change after the call.
            self._lines.put_nowait(self.format(record))
        except queue.Full:
            self.dropped += 1
        except Exception:
            self.handleError(record)
