"""Rows that several threads predict at the same time, sent together: one request for many."""

from __future__ import annotations

import os
import threading
import weakref
from dataclasses import dataclass, field
from typing import Any

from penstock_client.errors import PenstockError
from penstock_client.gathering import Answers, Gathers, answer_of
from penstock_client.predicting import Prediction
from penstock_client.steps import Run

__all__ = ["Coalescer"]


@dataclass(slots=True)
class _Gathering:
    """Rows that will be one request. Whoever came first sends it; the others wait for `over`."""

    rows: list[Any] = field(default_factory=list)
    full: threading.Event = field(default_factory=threading.Event)
    over: threading.Event = field(default_factory=threading.Event)
    ended: Answers | BaseException | None = None


class Coalescer:
    """Sends rows of several threads together: `client.coalescer("digits")`. It has no thread of its own."""

    def __init__(self, gathers: Gathers, run: Run) -> None:
        self._gathers = gathers
        self._run = run
        self._renew()
        _living.add(self)

    def _renew(self) -> None:
        self._lock = threading.Lock()
        self._open: _Gathering | None = None

    def predict(self, inputs: object) -> Prediction:
        """Predict one row, together with those that other threads predict now."""
        with self._lock:
            gathering = self._open
            leads = gathering is None
            if gathering is None:
                gathering = self._open = _Gathering()
            row = len(gathering.rows)
            gathering.rows.append(inputs)
            if row + 1 == self._gathers.rows_max:
                self._open = None
                gathering.full.set()
        if leads:
            self._send(gathering)
        else:
            gathering.over.wait()
        return answer_of(gathering.ended, row)

    def _send(self, gathering: _Gathering) -> None:
        try:
            gathering.full.wait(self._gathers.delay_s)
            with self._lock:
                if self._open is gathering:
                    self._open = None
            gathering.ended = self._run(self._gathers.steps(gathering.rows))
        except PenstockError as error:
            gathering.ended = error
        except BaseException as error:
            gathering.ended = error
            raise
        finally:
            with self._lock:
                if self._open is gathering:  # interrupted while it waited
                    self._open = None
            gathering.over.set()


_living: weakref.WeakSet[Coalescer] = weakref.WeakSet()


def _after_fork() -> None:
    # The thread that would send what has been gathered, or give the lock back, is not here.
    for coalescer in list(_living):
        coalescer._renew()


os.register_at_fork(after_in_child=_after_fork)
