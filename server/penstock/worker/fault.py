"""What is said about a model's exception: a short line to the client, the stack to the log."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Iterable
from pathlib import Path

from penstock.core.errors import ModelLoadError

__all__ = ["DETAIL_BYTES_MAX", "FaultLog", "ModelFaultError", "describe", "without_paths"]

DETAIL_BYTES_MAX = 125  # of a completion record (batcher/row.hpp)

# Two or more parts, or a leading "~" or dot: "/srv/models/a.bin", "~/a", "../a"; not "and/or", not "1 / 2".
_PATH = re.compile(r"(?<![\w.])(?:(?:~|\.{1,2})(?=/))?(?:/[\w.@%+~-]+)+/?")


def without_paths(text: str, folders: Iterable[Path] = ()) -> str:
    """Return the text with each absolute path replaced: it may be shown to clients.

    Files in `folders`, those of models, keep their names: an error is no help that does not say which file it means.
    """
    for folder in folders:
        text = re.sub(rf"(?<![\w./~-]){re.escape(str(folder))}/", "", text)
    return _PATH.sub("<path>", text)


def describe(error: BaseException) -> str:
    """Return the exception's type and the first line of its message, without paths, in at most 125 bytes of UTF-8."""
    name = type(error).__name__
    try:
        message = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    except BaseException:  # a user's __str__
        message = ""
    line = without_paths(str(message).strip().partition("\n")[0])
    text = f"{name}: {line}" if line else name
    return text.encode("utf-8", "replace")[:DETAIL_BYTES_MAX].decode("utf-8", "ignore")


class ModelFaultError(ModelLoadError):
    """What is wrong with the model of this number among a worker's."""

    def __init__(self, model: int, error: Exception) -> None:
        super().__init__(str(error))
        self.model = model


class FaultLog:
    """Writes stacks to the log, at most one a second: a client that sends bad rows must not fill the disk."""

    INTERVAL_SECONDS = 1.0

    def __init__(self, logger: logging.Logger) -> None:
        self._logger = logger
        self._next = 0.0
        self._left_out = 0

    def write(self, text: str, error: BaseException) -> None:
        """Log `text` with the error's stack, or count it when one was logged just now."""
        now = time.monotonic()
        if now < self._next:
            self._left_out += 1
            return
        left_out = f" ({self._left_out} more since the last one)" if self._left_out else ""
        self._logger.error("%s%s", text, left_out, exc_info=error)
        self._next = now + self.INTERVAL_SECONDS
        self._left_out = 0
