"""Rows that several tasks predict at the same time, sent together: one request for many."""

from __future__ import annotations

import asyncio
from typing import Any

from penstock_client.errors import PenstockError
from penstock_client.gathering import Answers, Gathers, answer_of
from penstock_client.predicting import Prediction
from penstock_client.steps import AsyncRun

__all__ = ["AsyncCoalescer"]


class AsyncCoalescer:
    """Sends rows of several tasks together: `client.coalescer("digits")`. To be used in one event loop."""

    def __init__(self, gathers: Gathers, run: AsyncRun) -> None:
        self._gathers = gathers
        self._run = run
        self._rows: list[Any] = []
        self._ended: asyncio.Future[Answers | BaseException] | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._sending: set[asyncio.Task[None]] = set()

    async def predict(self, inputs: object) -> Prediction:
        """Predict one row, together with those that other tasks predict now."""
        loop = asyncio.get_running_loop()
        if self._ended is None or self._ended.get_loop() is not loop:
            self._rows = []  # what a loop has left that ended
            self._ended = loop.create_future()
            self._timer = loop.call_later(self._gathers.delay_s, self._flush)
        ended, row = self._ended, len(self._rows)
        self._rows.append(inputs)
        if row + 1 == self._gathers.rows_max:
            self._flush()
        # A caller that is cancelled takes nobody's answer along.
        return answer_of(await asyncio.shield(ended), row)

    def _flush(self) -> None:
        assert self._ended is not None
        assert self._timer is not None
        self._timer.cancel()
        task = asyncio.ensure_future(self._send(self._rows, self._ended))
        self._sending.add(task)
        task.add_done_callback(self._sending.discard)
        self._rows, self._ended, self._timer = [], None, None

    async def _send(self, rows: list[Any], ended: asyncio.Future[Answers | BaseException]) -> None:
        try:
            ended.set_result(await self._run(self._gathers.steps(rows)))
        except PenstockError as error:
            ended.set_result(error)
        except BaseException as error:
            ended.set_result(error)
            raise
