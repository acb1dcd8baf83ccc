"""How long a rollback takes, from the call to the first answer of the version that is back."""

from __future__ import annotations

import time

from bench.server import Penstock
from bench.swaps.clients import Checked
from bench.swaps.versions import MODEL, VERSIONS, SwapError, post

__all__ = ["rollbacks"]

POLL_SECONDS = 0.002
ANSWER_SECONDS = 60.0
# Some ordinary seconds before the first, and between two.
PAUSE_SECONDS = 0.5


def rollbacks(server: Penstock, checked: Checked, count: int, ends_ns: int) -> list[float]:
    """Promote the later version and roll back to the earlier one, until the load ends; seconds of each rollback.

    The clients of `checked` ask meanwhile.
    """
    earlier, later = VERSIONS
    times: list[float] = []
    while len(times) < count and time.monotonic_ns() < ends_ns:
        if times:
            post(server, f"/models/{MODEL}/promote", {"version": later})
        time.sleep(PAUSE_SECONDS)
        began = time.monotonic_ns()
        post(server, f"/models/{MODEL}/rollback", {})
        times.append((_first_answer(checked, earlier, began) - began) / 1e9)
    return times


def _first_answer(checked: Checked, version: str, after_ns: int) -> int:
    deadline = time.monotonic() + ANSWER_SECONDS
    while (done := checked.first_of(version, after_ns)) is None:
        if time.monotonic() > deadline:
            raise SwapError(f"version {version} answers nothing {ANSWER_SECONDS:g} s after the rollback to it")
        time.sleep(POLL_SECONDS)
    return done
