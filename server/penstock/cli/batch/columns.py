"""The door to Arrow and Parquet: files read as tables of some rows each, and answers written as record batches."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

import numpy as np
import pyarrow
import pyarrow.ipc
import pyarrow.parquet

from penstock.cli.served import Tensor
from penstock.core.errors import ConfigError
from penstock.jobs.nested import nested_lists

__all__ = ["ColumnChunk", "ColumnChunks", "ColumnWriter", "whole_file"]

# Of the finished file: small row groups make Parquet large and slow.
_GROUP_ROWS = 65_536
_END_OF_STREAM = b"\xff\xff\xff\xff\x00\x00\x00\x00"
_FAULT = pyarrow.struct(
    [("row", pyarrow.int64()), ("code", pyarrow.utf8()), ("status", pyarrow.int16()), ("detail", pyarrow.utf8())]
)


@dataclass(frozen=True, slots=True)
class ColumnChunk:
    """Some rows as a table, and the number of the row behind them."""

    payload: Any
    end: int


class ColumnChunks:
    """Cuts a file of columns into chunks of `rows_max` rows. `total` is None for a stream, which does not tell."""

    def __init__(self, file: IO[bytes], name: str, form: str, rows_max: int) -> None:
        self._rows_max = rows_max
        self.total: int | None = None
        try:
            if form == "parquet":
                self._parquet = pyarrow.parquet.ParquetFile(file)
                self.total = self._parquet.metadata.num_rows
            elif form == "arrow" and file.peek(6)[:6] == b"ARROW1":  # type: ignore[attr-defined]
                self._parquet = None
                self._batches = self._from_file(pyarrow.ipc.open_file(file))
            else:
                self._parquet = None
                self._batches = iter(pyarrow.ipc.open_stream(file))
        except (OSError, pyarrow.ArrowInvalid) as error:
            raise ConfigError(f"{name} is no {form} file: {error}") from error

    @staticmethod
    def _from_file(reader: Any) -> Iterator[Any]:
        for number in range(reader.num_record_batches):
            yield reader.get_batch(number)

    def chunks(self, start: int) -> Iterator[ColumnChunk]:
        """Give the chunks from the row `start` on."""
        at, waiting, held = start, [], 0
        for batch in self._from(start):
            while batch.num_rows:
                taken = batch.slice(0, self._rows_max - held)
                waiting.append(taken)
                held += taken.num_rows
                batch = batch.slice(taken.num_rows)
                if held == self._rows_max:
                    at += held
                    yield ColumnChunk(pyarrow.Table.from_batches(waiting), at)
                    waiting, held = [], 0
        if waiting:
            yield ColumnChunk(pyarrow.Table.from_batches(waiting), at + held)

    def _from(self, start: int) -> Iterator[Any]:
        groups: list[int] = []
        if self._parquet is not None:
            metadata = self._parquet.metadata
            groups = list(range(metadata.num_row_groups))
            while groups and start >= metadata.row_group(groups[0]).num_rows:
                start -= metadata.row_group(groups.pop(0)).num_rows
            batches = self._parquet.iter_batches(self._rows_max, groups) if groups else iter(())
        else:
            batches = self._batches
        for batch in batches:
            if start >= batch.num_rows:
                start -= batch.num_rows
                continue
            yield batch.slice(start)
            start = 0


class ColumnWriter:
    """Makes the bytes of an Arrow stream, a piece at a time: the stream may be cut behind any piece and go on."""

    def __init__(self, outputs: Sequence[Tensor], with_errors: bool) -> None:
        fields = [(tensor.name, _type(tensor)) for tensor in outputs]
        self._schema = pyarrow.schema([*fields, ("error", _FAULT)] if with_errors else fields)
        self._outputs = outputs
        self._with_errors = with_errors

    def head(self) -> bytes:
        """Return what the stream begins with."""
        return bytes(self._schema.serialize())

    def rows(self, answers: Sequence[Mapping[str, Any]]) -> bytes:
        """Return a piece for answers as the server writes them, a line each."""
        floats = {tensor.name for tensor in self._outputs if tensor.dtype.startswith("float")}
        rows = []
        for answer in answers:
            if "outputs" in answer:
                row = {name: _numbers(value) if name in floats else value for name, value in answer["outputs"].items()}
                rows.append(row)
            elif self._with_errors:
                rows.append({"error": answer["error"]})
        return self._piece(pyarrow.RecordBatch.from_pylist(rows, self._schema))

    def arrays(self, count: int, outputs: Mapping[str, Any], errors: Mapping[int, Mapping[str, Any]]) -> bytes:
        """Return a piece for columns of `count` rows; `errors` by their place in it."""
        failed = np.zeros(count, bool)
        failed[list(errors)] = True
        if self._with_errors:
            kept = pyarrow.array(np.arange(count), mask=failed)
        else:
            kept = pyarrow.array(np.flatnonzero(~failed))
        columns = []
        for tensor in self._outputs:
            kind = self._schema.field(tensor.name).type
            if tensor.name not in outputs:
                columns.append(pyarrow.nulls(len(kept), kind))
            elif isinstance(outputs[tensor.name], list):
                columns.append(pyarrow.array(outputs[tensor.name], kind).take(kept))
            else:
                columns.append(nested_lists(outputs[tensor.name], kind).take(kept))
        if self._with_errors:
            columns.append(pyarrow.array([errors.get(place) for place in range(count)], _FAULT))
        return self._piece(pyarrow.record_batch(columns, schema=self._schema))

    @staticmethod
    def _piece(batch: Any) -> bytes:
        return bytes(batch.serialize()) if batch.num_rows else b""


def whole_file(stream: Path, target: Path, form: str) -> None:
    """Write a finished file of the stream's bytes, with larger batches, and have it on the disk."""
    with open(stream, "rb") as source, open(target, "wb") as file:
        reader = pyarrow.ipc.open_stream(_Ended(source))
        if form == "parquet":
            writer = pyarrow.parquet.ParquetWriter(file, reader.schema)
        elif form == "arrow":
            writer = pyarrow.ipc.new_file(file, reader.schema)
        else:
            writer = pyarrow.ipc.new_stream(file, reader.schema)
        with writer:
            for table in _grouped(reader):
                writer.write_table(table)
        file.flush()
        os.fsync(file.fileno())


def _grouped(reader: Any) -> Iterator[Any]:
    waiting, rows = [], 0
    for batch in reader:
        waiting.append(batch)
        rows += batch.num_rows
        if rows >= _GROUP_ROWS:
            yield pyarrow.Table.from_batches(waiting).combine_chunks()
            waiting, rows = [], 0
    if waiting:
        yield pyarrow.Table.from_batches(waiting).combine_chunks()


class _Ended:
    """A stream with its end, which the partial file does not have: more may be written behind it."""

    def __init__(self, source: IO[bytes]) -> None:
        self._source = source
        self._tail = _END_OF_STREAM
        self.closed = False

    def read(self, count: int = -1) -> bytes:
        """Read so many bytes."""
        found = self._source.read(count)
        if len(found) < count or count < 0:
            rest = len(self._tail) if count < 0 else count - len(found)
            found, self._tail = found + self._tail[:rest], self._tail[rest:]
        return found


def _type(tensor: Tensor) -> Any:
    named = {"bool": pyarrow.bool_(), "float16": pyarrow.float32(), "str": pyarrow.utf8(), "bytes": pyarrow.utf8()}
    found = named.get(tensor.dtype) or pyarrow.type_for_alias(tensor.dtype)
    for _ in tensor.shape:
        found = pyarrow.list_(found)
    return found


def _numbers(value: Any) -> Any:
    """Return floats in the place of the strings that JSON has for some."""
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return float(value) if isinstance(value, str) else value
