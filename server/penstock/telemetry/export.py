"""Sends OTLP over HTTP, and again as OTLP says when the collector could not take it."""

from __future__ import annotations

import email.utils
import gzip
import http.client
import logging
import math
import random
import time
import zlib
from collections.abc import Callable
from contextlib import suppress

from penstock import __version__
from penstock.telemetry.connection import Connection
from penstock.telemetry.environment import Destination

__all__ = ["Collector"]

_log = logging.getLogger("penstock.telemetry")

_RETRYABLE = frozenset({429, 502, 503, 504})
_ATTEMPTS_MAX = 6
_JITTER = 0.2
# The fastest: a thread of the server's machine pays for it.
_GZIP_LEVEL = 1
_COMPRESS: dict[str, Callable[[bytes], bytes]] = {
    "none": lambda body: body,
    "gzip": lambda body: gzip.compress(body, _GZIP_LEVEL),
    "deflate": lambda body: zlib.compress(body, _GZIP_LEVEL),
}


class Collector:
    """Whoever takes our spans. One thread."""

    def __init__(self, destination: Destination, clock: Callable[[], float] = time.monotonic) -> None:
        """Nothing is sent yet. OSError when a certificate cannot be read, ValueError for no URL."""
        self._timeout_s = destination.timeout_s
        self._compress = _COMPRESS[destination.compression]
        self._clock = clock
        self._is_away = False
        headers = {"Content-Type": "application/x-protobuf", "User-Agent": f"penstock/{__version__}"}
        if destination.compression != "none":
            headers["Content-Encoding"] = destination.compression
        given = {name.title(): value for name, value in destination.headers.items()}
        self._connection = Connection(destination, headers | given)

    def send(self, body: bytes) -> bool:
        """Whether it arrived; tries for as long as the destination's timeout says."""
        body = self._compress(body)
        deadline = self._clock() + self._timeout_s
        why = ""
        for attempt in range(_ATTEMPTS_MAX):
            wait_s = 2**attempt * random.uniform(1 - _JITTER, 1 + _JITTER)
            try:
                response = self._connection.post(body, max(deadline - self._clock(), 0.001))
            except (OSError, http.client.HTTPException) as error:
                why = str(error) or type(error).__name__
            else:
                if 200 <= response.status < 300:
                    self._note_success()
                    return True
                why = f"it answered {response.status}"
                if response.status not in _RETRYABLE:
                    break
                wait_s = _seconds_of(response.retry_after, wait_s)
            if wait_s > deadline - self._clock():
                break
            time.sleep(wait_s)
        self._note_failure(why)
        return False

    def close(self) -> None:
        """End the connection."""
        self._connection.close()

    def _note_success(self) -> None:
        if self._is_away:
            _log.warning("the collector of traces takes them again")
        self._is_away = False

    def _note_failure(self, why: str) -> None:
        # Once, however long it lasts: the counters say how much is lost.
        if not self._is_away:
            _log.warning("traces are lost: the collector at %s does not take them: %s", self._connection.address, why)
        self._is_away = True


def _seconds_of(retry_after: str | None, otherwise: float) -> float:
    """Read Retry-After (RFC 9110, section 10.2.3)."""
    if retry_after is None:
        return otherwise
    with suppress(ValueError):
        seconds = float(retry_after)
        return max(seconds, 0.0) if math.isfinite(seconds) else otherwise
    with suppress(TypeError, ValueError):
        return max(email.utils.parsedate_to_datetime(retry_after).timestamp() - time.time(), 0.0)
    return otherwise
