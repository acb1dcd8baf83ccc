"""Many rows: cut into chunks, sent some at a time, put together again with an error for each row that failed."""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from penstock_client.core import Call, Core, Request, row_refusal
from penstock_client.errors import ArgumentError, BatchError, ClientError, PenstockError
from penstock_client.messages import Reply
from penstock_client.packages import installed
from penstock_client.plain import (
    from_msgpack,
    holds_named_floats,
    is_array,
    is_bytes,
    to_json,
    to_msgpack,
    with_floats,
)
from penstock_client.predicting import Encoding, Predictor, by_name, check_names, holds_array, unreadable
from penstock_client.problems import BodyTooLargeError, RequestTimeoutError, TooManyRequestsError
from penstock_client.steps import Steps
from penstock_client.tables import columns_of, inputs_of, is_table, records_of
from penstock_client.tensors import read_outputs

__all__ = ["BatchResult", "Batches", "Chunk", "Progress", "Source", "Watch", "put_together"]

# Together with its answer a chunk stays well below what any model's limit on bodies can be.
_CHUNK_BYTES_MAX = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class Progress:
    """How far a batch has come. `total` is None for rows that nobody has counted."""

    rows: int
    failed: int
    total: int | None
    elapsed_s: float

    @property
    def rate(self) -> float:
        """Rows in a second."""
        return self.rows / self.elapsed_s if self.elapsed_s > 0 else 0.0

    @property
    def left_s(self) -> float | None:
        """How long the rest takes at this rate; None where that cannot be said."""
        return None if self.total is None or not self.rate else (self.total - self.rows) / self.rate


@dataclass(frozen=True, slots=True)
class BatchResult:
    """The answers to many rows, in their order.

    Attributes:
        model: The model's name.
        versions: The versions that answered; several when another one was promoted meanwhile.
        first: The number of the first row, for a part of a batch.
        outputs: A column for each output: an array where the rows were arrays or a table, else a list. Where a row
            failed, a list has None, and an array NaN or, of whole numbers, 0.
        errors: The exception of each row that failed, by the row's number.
    """

    model: str
    versions: tuple[str, ...]
    first: int
    rows: int
    outputs: dict[str, Any]
    errors: dict[int, PenstockError] = field(default_factory=dict)

    def __len__(self) -> int:
        return self.rows

    def __getitem__(self, row: int) -> dict[str, Any]:
        """Return the outputs of a row by its number; raises its error when it failed."""
        if not self.first <= row < self.first + self.rows:
            raise IndexError(f"there is no row {row}")
        if row in self.errors:
            raise self.errors[row]
        return {name: column[row - self.first] for name, column in self.outputs.items()}

    def __iter__(self) -> Iterator[dict[str, Any] | None]:
        """Give the outputs of each row, None for those that failed."""
        for row in range(self.first, self.first + self.rows):
            yield None if row in self.errors else self[row]

    def raise_for_errors(self) -> BatchResult:
        """Raise a BatchError when a row failed; return the result itself otherwise."""
        if self.errors:
            row, error = next(iter(self.errors.items()))
            raise BatchError(f"{len(self.errors)} of {self.rows} rows failed; row {row}: {error}", self) from error
        return self

    def to_pandas(self) -> Any:
        """Return a data frame with a column for each output, and `error` where a row failed."""
        pandas = installed("pandas", "pandas")
        columns = {name: list(column) if _ndim(column) > 1 else column for name, column in self.outputs.items()}
        frame = pandas.DataFrame(columns, index=range(self.first, self.first + self.rows))
        if self.errors:
            frame["error"] = [str(self.errors[row]) if row in self.errors else None for row in frame.index]
        return frame

    def to_arrow(self) -> Any:
        """Return a table of Arrow with a column for each output, and `error` where a row failed."""
        pyarrow = installed("pyarrow", "arrow")
        columns = {
            name: pyarrow.array(column.tolist() if _ndim(column) > 1 else column)
            for name, column in self.outputs.items()
        }
        if self.errors:
            numbers = range(self.first, self.first + self.rows)
            texts = [str(self.errors[row]) if row in self.errors else None for row in numbers]
            columns["error"] = pyarrow.array(texts, pyarrow.string())
        return pyarrow.table(columns)


def _ndim(column: Any) -> int:
    return getattr(column, "ndim", 1)


@dataclass(frozen=True, slots=True)
class Chunk:
    """Some rows: a list of them, or an array for each input or column."""

    first: int
    rows: int
    listed: Sequence[Any] | None = None
    arrays: Mapping[str, Any] | None = None  # the name "" stands for a model's only input
    table: bool = False  # names are columns, not inputs

    def halves(self) -> tuple[Chunk, Chunk]:
        """Cut it in two."""
        middle = self.rows // 2
        return self.part(0, middle), self.part(middle, self.rows)

    def part(self, begin: int, end: int) -> Chunk:
        """Return the rows from `begin` to before `end`."""
        listed = None if self.listed is None else self.listed[begin:end]
        arrays = None if self.arrays is None else {name: array[begin:end] for name, array in self.arrays.items()}
        return Chunk(self.first + begin, end - begin, listed, arrays, self.table)


class Source:
    """The rows of a batch, whatever holds them, as chunks. `total` is None when only the last one tells."""

    def __init__(self, rows: Any, encoding: Encoding, chunk_rows: int) -> None:
        if chunk_rows < 1:
            raise ArgumentError(f"chunk_rows is {chunk_rows}: it is 1 or more")
        self._chunk_rows = chunk_rows
        self._iterable: Iterable[Any] = ()
        self._whole: Chunk | None = None
        if is_table(rows):
            columns = columns_of(rows) if encoding in ("auto", "binary") else None
            if columns is None:
                records = records_of(rows)
                self._whole = Chunk(0, len(records), listed=records)
            else:
                self._whole = _counted(columns, table=True)
        elif holds_array(rows) and encoding in ("auto", "binary"):
            self._whole = _counted(rows if isinstance(rows, Mapping) else {"": rows}, table=False)
        elif isinstance(rows, Mapping):
            raise ArgumentError("a batch is rows: a list of dicts, or one dict of arrays that have a row in each place")
        else:
            self._iterable = rows.tolist() if is_array(rows) else rows
        sized = isinstance(self._iterable, Sequence)
        self.total = self._whole.rows if self._whole is not None else len(self._iterable) if sized else None  # type: ignore[arg-type]

    def chunks(self) -> Iterator[Chunk]:
        """Give the chunks, none of them empty."""
        if self._whole is not None:
            whole = self._whole
            size = self._chunk_rows
            if whole.arrays is not None:
                row_bytes = sum(array.nbytes for array in whole.arrays.values()) // max(whole.rows, 1)
                size = max(min(size, _CHUNK_BYTES_MAX // max(row_bytes, 1)), 1)
            for begin in range(0, whole.rows, size):
                yield whole.part(begin, min(begin + size, whole.rows))
            return
        rows, first = iter(self._iterable), 0
        while listed := list(itertools.islice(rows, self._chunk_rows)):
            yield Chunk(first, len(listed), listed=listed)
            first += len(listed)


def _counted(arrays: Mapping[str, Any], *, table: bool) -> Chunk:
    import numpy as np

    made = {name: np.asarray(array) for name, array in arrays.items()}
    counts = {name: len(array) if array.ndim else -1 for name, array in made.items()}
    if len(set(counts.values())) > 1 or -1 in counts.values():
        raise ArgumentError(f"a row is a place in each array, and these have different numbers of them: {counts}")
    return Chunk(0, next(iter(counts.values()), 0), arrays=made, table=table)


class Batches:
    """Makes the steps of chunks."""

    def __init__(self, core: Core, predictor: Predictor) -> None:
        self._core = core
        self._predictor = predictor

    def predict(
        self, model: str, chunk: Chunk, version: str | None, encoding: Encoding, call: Call
    ) -> Steps[BatchResult]:
        """Predict a chunk; raises only what every other chunk would meet, too."""
        check_names(model, version)
        try:
            if chunk.arrays is None:
                return (yield from self._listed(model, chunk, version, encoding, call))
            return (yield from self._columns(model, chunk, version, call))
        except BodyTooLargeError as error:
            if chunk.rows == 1:
                return failed(model, chunk, error)
            # More than the model takes at a time. It was refused, so nothing runs twice.
            left, right = chunk.halves()
            first = yield from self.predict(model, left, version, encoding, call)
            second = yield from self.predict(model, right, version, encoding, call)
            return put_together(model, [first, second])
        except PenstockError as error:
            everybodys = isinstance(error, (ClientError, ArgumentError))
            if chunk.first == 0 or (everybodys and not isinstance(error, (RequestTimeoutError, TooManyRequestsError))):
                raise
            return failed(model, chunk, error)

    def _listed(
        self, model: str, chunk: Chunk, version: str | None, encoding: Encoding, call: Call
    ) -> Steps[BatchResult]:
        packed = encoding == "msgpack"
        media = "application/msgpack" if packed else "application/json"
        listed = chunk.listed
        if not packed and listed is not None and any(map(is_bytes, listed)):
            # Asked anew for each batch: a name that has changed since would be an error of each row.
            wanted = yield from self._predictor.schema(model, version, call, anew=chunk.first == 0)
            listed = [by_name(row, wanted) for row in listed]
        document = {"model": model, "inputs": listed, **({} if version is None else {"version": version})}
        body = to_msgpack(document) if packed else to_json(document)
        reply = yield from self._core.send(Request("POST", "/predict/batch", body, media, media), call)
        try:
            answer = from_msgpack(reply.body) if packed else json.loads(reply.text())
            rows = answer["outputs"]
            if len(rows) != chunk.rows:
                raise ValueError(f"{len(rows)} answers to {chunk.rows} rows")
            errors = _errors(answer.get("errors") or (), chunk, reply)
            answered = answer["version"]
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise unreadable(reply, error) from error
        if not packed and holds_named_floats(reply.text()):
            schema = yield from self._predictor.schema(model, answered, call)
            rows = [None if row is None else with_floats(row, schema) for row in rows]
        names = next((list(row) for row in rows if row is not None), [])
        outputs = {name: [None if row is None else row[name] for row in rows] for name in names}
        return BatchResult(model, (answered,), chunk.first, chunk.rows, outputs, errors)

    def _columns(self, model: str, chunk: Chunk, version: str | None, call: Call) -> Steps[BatchResult]:
        assert chunk.arrays is not None
        inputs: object = chunk.arrays.get("", chunk.arrays)
        fit = inputs_of if chunk.table else None
        reply = yield from self._predictor.infer(inputs, model, version, call, one=False, fit=fit)
        try:
            head, outputs = read_outputs(reply)
            listed = (head.get("parameters") or {}).get("row_errors") or ()
            errors = _errors(listed, chunk, reply)
            answered = head["model_version"]
            if any(len(array) != chunk.rows for array in outputs.values()):
                raise ValueError(f"another number of rows than {chunk.rows}")
        except (AttributeError, KeyError, TypeError, ValueError, RecursionError) as error:
            raise unreadable(reply, error) from error
        for row in errors:
            for array in outputs.values():
                if array.dtype.kind == "f":
                    array[row - chunk.first] = float("nan")
                elif array.dtype.kind == "O":
                    array[row - chunk.first] = None
        return BatchResult(model, (answered,), chunk.first, chunk.rows, outputs, errors)


def _errors(entries: Iterable[Mapping[str, Any]], chunk: Chunk, reply: Reply) -> dict[int, PenstockError]:
    request_id = reply.field("x-request-id") or ""
    return {chunk.first + int(entry["row"]): row_refusal(entry, request_id) for entry in entries}


def failed(model: str, chunk: Chunk, error: PenstockError) -> BatchResult:
    """Return the result of a chunk that has no answer: every row has its error."""
    errors = dict.fromkeys(range(chunk.first, chunk.first + chunk.rows), error)
    return BatchResult(model, (), chunk.first, chunk.rows, {}, errors)


def put_together(model: str, parts: Sequence[BatchResult]) -> BatchResult:
    """Make one result of parts that follow each other."""
    rows = sum(part.rows for part in parts)
    errors = {row: error for part in parts for row, error in part.errors.items()}
    versions = tuple(dict.fromkeys(version for part in parts for version in part.versions))
    names = list(dict.fromkeys(name for part in parts for name in part.outputs))
    outputs = {name: _joined(name, parts) for name in names}
    return BatchResult(model, versions, parts[0].first if parts else 0, rows, outputs, errors)


def _joined(name: str, parts: Sequence[BatchResult]) -> Any:
    known = [part.outputs[name] for part in parts if name in part.outputs]
    if isinstance(known[0], list):
        return [value for part in parts for value in part.outputs.get(name, [None] * part.rows)]
    import numpy as np

    if len({(array.shape[1:], array.dtype) for array in known}) > 1:
        text = f"outputs.{name} has not the same shape and dtype in all chunks: take iter_batch, which keeps them apart"
        raise ArgumentError(text)
    filler = float("nan") if known[0].dtype.kind == "f" else None if known[0].dtype.kind == "O" else 0
    return np.concatenate(
        [
            part.outputs[name]
            if name in part.outputs
            else np.full((part.rows, *known[0].shape[1:]), filler, known[0].dtype)
            for part in parts
        ]
    )


class Watch:
    """Counts rows as they come and tells the caller."""

    def __init__(self, tell: Callable[[Progress], object] | None, total: int | None) -> None:
        self._tell = tell
        self._total = total
        self._began = time.monotonic()
        self._rows = self._failed = 0

    def saw(self, part: BatchResult) -> None:
        """Note a part that is done."""
        self._rows += part.rows
        self._failed += len(part.errors)
        if self._tell is not None:
            self._tell(Progress(self._rows, self._failed, self._total, time.monotonic() - self._began))
