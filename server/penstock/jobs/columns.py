"""Arrow and Parquet: record batches in, rows through the fast path, record batches (or lines) out.

Run as a process: a line of JSON on standard input says what to do, behind it comes the body. The answer goes to
standard output, behind a line of JSON that says whether there is one. The one door to pyarrow.
"""

from __future__ import annotations

import json
import math
import os
import resource
import shutil
import sys
import tempfile
from base64 import b64encode
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import IO, Any

from penstock.core.errors import RequestError
from penstock.core.problems import PROBLEMS
from penstock.jobs.fast_path import FastPath

__all__ = ["main"]

_BATCHES_UNDER_WAY = 4
# Of the process: what a file unpacks to is for its sender to say.
_MEMORY_BYTES_MAX = 4 << 30
_SPOOL_BYTES_MAX = 64 << 30
_PIECE_BYTES = 1 << 20
_FAULTS_OF_ROWS = ("malformed_body", "invalid_input", "body_too_large", "contradiction")

_Json = dict[str, Any]


def main() -> None:
    """Do what standard input says; exit with 0 when the answer is complete."""
    body, answer = sys.stdin.buffer, sys.stdout.buffer
    order: _Json = json.loads(body.readline())
    resource.setrlimit(resource.RLIMIT_DATA, (_MEMORY_BYTES_MAX, _MEMORY_BYTES_MAX))
    resource.setrlimit(resource.RLIMIT_FSIZE, (_SPOOL_BYTES_MAX, _SPOOL_BYTES_MAX))
    status = 1
    try:
        _Job(order, answer).run(body)
        status = 0
    except BrokenPipeError:
        pass  # nobody wants the answer any more
    # Threads that still wait for a reply would hold the process up.
    os._exit(status)


class _Job:
    def __init__(self, order: _Json, answer: IO[bytes]) -> None:
        self._order = order
        self._answer = answer
        self._began = False

    def run(self, body: IO[bytes]) -> None:
        try:
            self._run(body)
            self._answer.flush()
        except RequestError as error:
            self._fail(error)
        except MemoryError:
            self._fail(RequestError("body_too_large", "a batch of the file takes more memory than there is for one"))

    def _run(self, body: IO[bytes]) -> None:
        try:
            import pyarrow
        except ImportError:
            raise RequestError(
                "unsupported_media_type",
                "this server reads neither Arrow nor Parquet: pip install 'penstock[arrow]', or send "
                "application/x-ndjson",
            ) from None
        try:
            batches = _parquet(body, self._order["spool"]) if self._order["format"] == "parquet" else _stream(body)
            self._predict(batches)
        except pyarrow.ArrowMemoryError:
            raise MemoryError from None
        except (pyarrow.ArrowException, OSError, EOFError) as error:
            if isinstance(error, BrokenPipeError):
                raise
            reason = str(error).splitlines()[0][:300] if str(error) else type(error).__name__
            raise RequestError("malformed_body", f"not {self._order['format']}: {reason}") from None

    def _predict(self, batches: Iterator[Any]) -> None:
        order = self._order
        fast_path = FastPath(order["socket"], order["target"], order["headers"])
        writer = _Lines(self._answer) if order["answer"] == "lines" else _Arrow(self._answer, order["outputs"])
        under_way: deque[Future[_Json]] = deque()
        first = 0
        with ThreadPoolExecutor(_BATCHES_UNDER_WAY) as threads:
            for rows in _rows(batches, order["inputs"], order["rows_max"]):
                under_way.append(threads.submit(_run, fast_path, rows))
                while under_way and (len(under_way) == _BATCHES_UNDER_WAY or under_way[0].done()):
                    first = self._write(writer, under_way.popleft(), first)
            while under_way:
                first = self._write(writer, under_way.popleft(), first)
            if not self._began:
                self._begin(writer)
            writer.end()

    def _write(self, writer: _Lines | _Arrow, running: Future[_Json], first: int) -> int:
        reply = running.result()
        if "refusal" in reply and not self._began:
            raise RequestError(*reply["refusal"])
        if not self._began:
            self._begin(writer)
        errors = {error["row"]: {**error, "row": first + error["row"]} for error in reply.get("errors", ())}
        writer.write(reply["outputs"], errors)
        self._answer.flush()
        return first + len(reply["outputs"])

    def _begin(self, writer: _Lines | _Arrow) -> None:
        self._began = True
        self._answer.write(json.dumps({"media_type": writer.media_type}).encode() + b"\n")
        writer.begin()

    def _fail(self, error: RequestError) -> None:
        """Say what is wrong, where that is still possible; else the answer ends without its end."""
        if self._began:
            sys.stderr.write(f"{error.code}: {error.detail}\n")
            self._answer.flush()
            os._exit(1)
        self._answer.write(json.dumps({"code": error.code, "detail": error.detail}).encode() + b"\n")
        self._answer.flush()


def _stream(body: IO[bytes]) -> Iterator[Any]:
    import pyarrow.ipc

    with pyarrow.ipc.open_stream(body) as reader:
        yield from reader


def _parquet(body: IO[bytes], folder: str) -> Iterator[Any]:
    """Yield the batches of a file, whose footer comes last: so all of it is written to disk first."""
    import pyarrow.parquet

    with tempfile.TemporaryFile(dir=folder, prefix="spool-") as file:
        shutil.copyfileobj(body, file, _PIECE_BYTES)
        file.seek(0)
        yield from pyarrow.parquet.ParquetFile(file).iter_batches(batch_size=1024)


def _rows(batches: Iterator[Any], inputs: Sequence[Any], rows_max: int) -> Iterator[list[Any]]:
    """Yield rows as JSON has them, at most so many at a time."""
    names = [name for name, _, _ in inputs]
    for batch in batches:
        columns = batch.schema.names
        by_name = set(names) <= set(columns)
        extents = inputs[0][2]
        if not by_name and (len(inputs) != 1 or (None not in extents and math.prod(extents) != len(columns))):
            raise RequestError(
                "invalid_input",
                f"the columns are {', '.join(columns)[:200]}; expected one for each input ({', '.join(names)})"
                + ("" if len(inputs) != 1 else f", or one for each element of {names[0]}"),
            )
        for start in range(0, batch.num_rows, rows_max):
            part = batch.slice(start, rows_max)
            if by_name:
                yield part.select(names).to_pylist()
            else:
                columns_of = [column.to_pylist() for column in part.columns]
                yield [_nested(list(row), extents) for row in zip(*columns_of, strict=True)]


def _nested(row: list[Any], extents: Sequence[int | None]) -> Any:
    """Give a flat row the shape of the input."""
    if not extents:
        return row[0]
    for extent in reversed([extent or 1 for extent in extents[1:]]):
        row = [row[start : start + extent] for start in range(0, len(row), extent)]
    return row


def _run(fast_path: FastPath, rows: list[Any]) -> _Json:
    """Run rows, in halves when one of them fails them all; never raises for what a row may be blamed for."""
    try:
        return fast_path.predict(b'{"inputs":' + _text(rows) + b"}")
    except RequestError as error:
        if error.code in _FAULTS_OF_ROWS and len(rows) > 1:
            half = len(rows) // 2
            first, second = _run(fast_path, rows[:half]), _run(fast_path, rows[half:])
            later = [{**each, "row": each["row"] + half} for each in second.get("errors", ())]
            return {"outputs": first["outputs"] + second["outputs"], "errors": [*first.get("errors", ()), *later]}
        status = PROBLEMS[error.code].status if error.code in PROBLEMS else 500
        fault = {"code": error.code, "status": status, "detail": error.detail}
        reply: _Json = {"outputs": [None] * len(rows), "errors": [{"row": row, **fault} for row in range(len(rows))]}
        if error.code not in _FAULTS_OF_ROWS:
            reply["refusal"] = (error.code, error.detail)
        return reply


def _text(rows: list[Any]) -> bytes:
    try:
        return json.dumps(rows, default=_bytes_as_base64, allow_nan=False).encode()
    except ValueError:  # a number that JSON does not have
        return json.dumps(_named_numbers(rows), default=_bytes_as_base64).encode()


def _bytes_as_base64(value: object) -> object:
    if isinstance(value, bytes):
        return {"base64": b64encode(value).decode()}
    return str(value)  # a date, a decimal: refused by name where the input is no string


def _named_numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [_named_numbers(item) for item in value]
    if isinstance(value, dict):
        return {name: _named_numbers(item) for name, item in value.items()}
    if isinstance(value, float) and not math.isfinite(value):
        return "NaN" if value != value else "Infinity" if value > 0 else "-Infinity"
    return value


class _Lines:
    """NDJSON, as other streams have it."""

    media_type = "application/x-ndjson"

    def __init__(self, answer: IO[bytes]) -> None:
        self._answer = answer

    def begin(self) -> None:
        pass

    def write(self, outputs: list[Any], errors: dict[int, _Json]) -> None:
        for row, values in enumerate(outputs):
            line = {"outputs": values} if values is not None else {"error": errors[row]}
            self._answer.write(json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode() + b"\n")

    def end(self) -> None:
        pass


class _Arrow:
    """A column for each output, and `error`, which is null for a row that has outputs."""

    media_type = "application/vnd.apache.arrow.stream"

    def __init__(self, answer: IO[bytes], outputs: Sequence[Any]) -> None:
        import pyarrow

        self._pyarrow = pyarrow
        self._answer = answer
        fault = pyarrow.struct(
            [
                ("row", pyarrow.int64()),
                ("code", pyarrow.utf8()),
                ("status", pyarrow.int16()),
                ("detail", pyarrow.utf8()),
            ]
        )
        fields = [(name, _arrow_type(pyarrow, dtype, shape)) for name, dtype, shape in outputs]
        self._schema = pyarrow.schema([*fields, ("error", fault)])
        self._floats = {name for name, dtype, _ in outputs if dtype.startswith("float")}
        self._writer: Any = None

    def begin(self) -> None:
        self._writer = self._pyarrow.ipc.new_stream(self._answer, self._schema)

    def write(self, outputs: list[Any], errors: dict[int, _Json]) -> None:
        rows = [
            {"error": errors.get(row)}
            if values is None
            else {name: self._value(name, value) for name, value in values.items()}
            for row, values in enumerate(outputs)
        ]
        self._writer.write_batch(self._pyarrow.RecordBatch.from_pylist(rows, self._schema))

    def end(self) -> None:
        self._writer.close()

    def _value(self, name: str, value: Any) -> Any:
        return _numbers(value) if name in self._floats else value


def _numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return float(value) if isinstance(value, str) else value


def _arrow_type(pyarrow: Any, dtype: str, shape: Sequence[int | None]) -> Any:
    named = {"bool": pyarrow.bool_(), "float16": pyarrow.float32(), "str": pyarrow.utf8(), "bytes": pyarrow.utf8()}
    found = named.get(dtype) or pyarrow.type_for_alias(dtype)
    for _ in shape:
        found = pyarrow.list_(found)
    return found


if __name__ == "__main__":
    main()
