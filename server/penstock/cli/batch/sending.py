"""A chunk on its way: what is sent of it, asked until it is answered."""

from __future__ import annotations

import random
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import penstock_client
from penstock.cli.batch.answers import codes_of
from penstock.cli.batch.carried import Carried, Cut, Cutter, with_faults
from penstock.cli.batch.plain_rows import plain_rows
from penstock.cli.batch.progress import Told
from penstock.cli.served import Served
from penstock_client.lines import LineFormat
from penstock_client.problems import CLASSES

__all__ = ["Answered", "Sending"]

# A worker that died of something else is another one now. One that died of the row would die again.
_DEATHS_MAX = 2
_WAIT_S_MAX = 2.0
_Once = Callable[[], tuple["Answered", list[str]]]


@dataclass(frozen=True, slots=True)
class Answered:
    """A chunk's answer: lines, or columns."""

    end: int
    carried: Carried | None
    lines: bytes = b""
    result: penstock_client.BatchResult | None = None


@dataclass(frozen=True, slots=True)
class Sending:
    """How chunks are sent. `sent_as` and `answer` are formats of lines; columns have none."""

    client: penstock_client.Client
    served: Served
    cutter: Cutter | None
    sent_as: LineFormat | None
    answer: LineFormat
    chunk_rows: int
    timeout_s: float
    told: Told

    def ask(self, chunk: Any) -> Answered:
        """Ask until a chunk is answered."""
        cut = Cut(chunk.payload) if self.cutter is None else self.cutter.cut(chunk.payload)
        once = self._columns if self.sent_as is None else self._lines
        return self._until_answered(lambda: once(cut, chunk.end))

    def _lines(self, cut: Cut, end: int) -> tuple[Answered, list[str]]:
        text = self.client.predict_lines(
            self.served.name,
            cut.payload,
            version=self.served.version,
            form=self.sent_as or "ndjson",
            answer=self.answer,
        )
        text = with_faults(text, cut.faults, self.answer)
        return Answered(end, cut.carried, lines=text), codes_of(text, self.answer)

    def _columns(self, cut: Cut, end: int) -> tuple[Answered, list[str]]:
        result = self._predicted(cut.payload)
        codes = [getattr(error, "code", "") or "model_unavailable" for error in result.errors.values()]
        return Answered(end, cut.carried, result=result), codes

    def _predicted(self, table: Any) -> penstock_client.BatchResult:
        """Predict a table as arrays, or row by row where it does not fit into them."""
        rows: Any = table
        if any(column.null_count for column in table.columns):
            rows = plain_rows(self.served, table)
        try:
            return self._batch(rows)
        except penstock_client.ArgumentError:
            if rows is not table:
                raise
        return self._batch(plain_rows(self.served, table))

    def _batch(self, rows: Any) -> penstock_client.BatchResult:
        return self.client.predict_batch(
            self.served.name, rows, version=self.served.version, chunk_rows=self.chunk_rows, concurrency=1
        )

    def _until_answered(self, ask: _Once) -> Answered:
        """Ask again while rows fail for what has nothing to do with them, such as a server that is being replaced."""
        deadline, deaths, wait_s = time.monotonic() + self.timeout_s, 0, 0.1
        while True:
            answered, codes = ask()
            passing = [code for code in codes if code in CLASSES and CLASSES[code].retryable]
            if "worker_died" in codes and deaths < _DEATHS_MAX:
                deaths += 1
                passing.append("worker_died")
            if not passing or time.monotonic() + wait_s > deadline:
                return answered
            self.told.again(passing[0])
            time.sleep(random.uniform(0.5, 1.0) * wait_s)
            wait_s = min(2 * wait_s, _WAIT_S_MAX)
