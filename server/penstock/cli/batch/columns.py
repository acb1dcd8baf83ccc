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

from penstock.cli.batch.carried import Carried
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
                self.schema = self._parquet.schema_arrow
            elif form == "arrow" and file.peek(6)[:6] == b"ARROW1":  # type: ignore[attr-defined]
                self._parquet = None
                reader = pyarrow.ipc.open_file(file)
                self.schema, self._batches = reader.schema, self._from_file(reader)
            else:
                self._parquet = None
                reader = pyarrow.ipc.open_stream(file)
                self.schema, self._batches = reader.schema, iter(reader)
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
    """Makes the bytes of an Arrow stream, a piece at a time: the stream may be cut behind any piece and go on.

    `carried` are the names and types of what stands before the outputs; no type is text.
    """

    def __init__(
        self, outputs: Sequence[Tensor], with_errors: bool, form: str, carried: Sequence[tuple[str, Any]]
    ) -> None:
        first = [(name, pyarrow.utf8() if kind is None else kind) for name, kind in carried]
        own = [(tensor.name, _type(tensor)) for tensor in outputs]
        self._own = pyarrow.schema([*own, ("error", _FAULT)] if with_errors else own)
        self._schema = pyarrow.schema([*first, *self._own])
        self._outputs = outputs
        self._with_errors = with_errors
        _check_types(first, form)

    def head(self) -> bytes:
        """Return what the stream begins with."""
        return bytes(self._schema.serialize())

    def rows(self, answers: Sequence[Mapping[str, Any]], carried: Carried | None) -> bytes:
        """Return a piece for answers as the server writes them, a line each."""
        floats = {tensor.name for tensor in self._outputs if tensor.dtype.startswith("float")}
        rows, places = [], []
        for place, answer in enumerate(answers):
            if "outputs" in answer:
                row = {name: _numbers(value) if name in floats else value for name, value in answer["outputs"].items()}
                rows.append(row)
                places.append(place)
            elif self._with_errors:
                rows.append({"error": answer["error"]})
                places.append(place)
        own = pyarrow.RecordBatch.from_pylist(rows, self._own).columns
        return self._piece(pyarrow.array(places, pyarrow.int64()), carried, own)

    def arrays(
        self,
        count: int,
        outputs: Mapping[str, Any],
        errors: Mapping[int, Mapping[str, Any]],
        carried: Carried | None,
    ) -> bytes:
        """Return a piece for columns of `count` rows; `errors` by their place in it."""
        failed = np.zeros(count, bool)
        failed[list(errors)] = True
        if self._with_errors:
            kept = pyarrow.array(np.arange(count), mask=failed)
        else:
            kept = pyarrow.array(np.flatnonzero(~failed))
        columns = []
        for tensor in self._outputs:
            kind = self._own.field(tensor.name).type
            if tensor.name not in outputs:
                columns.append(pyarrow.nulls(len(kept), kind))
            elif isinstance(outputs[tensor.name], list):
                columns.append(pyarrow.array(outputs[tensor.name], kind).take(kept))
            else:
                columns.append(nested_lists(outputs[tensor.name], kind).take(kept))
        if self._with_errors:
            columns.append(pyarrow.array([errors.get(place) for place in range(count)], _FAULT))
            kept = pyarrow.array(np.arange(count))
        return self._piece(kept, carried, columns)

    def _piece(self, places: Any, carried: Carried | None, own: Sequence[Any]) -> bytes:
        """Return a batch of the rows at some places of the chunk, of which `own` has been made already."""
        first = [] if carried is None else carried.columns()
        taken = []
        for values, kind in zip(first, self._schema.types, strict=False):
            array = pyarrow.array(values, kind) if isinstance(values, list) else values
            taken.append(array if len(array) == len(places) else array.take(places))
        batch = pyarrow.record_batch([*taken, *own], schema=self._schema)
        return bytes(batch.serialize()) if batch.num_rows else b""


def _check_types(carried: Sequence[tuple[str, Any]], form: str) -> None:
    """ConfigError when the output has no place for values of a type: better now than when all rows have been run."""
    for name, kind in carried:
        schema = pyarrow.schema([(name, kind)])
        try:
            bytes(pyarrow.record_batch([pyarrow.nulls(1, kind)], schema=schema).serialize())
            if form == "parquet":
                pyarrow.parquet.ParquetWriter(pyarrow.BufferOutputStream(), schema).close()
        except (pyarrow.ArrowInvalid, pyarrow.ArrowNotImplementedError, pyarrow.ArrowTypeError) as error:
            raise ConfigError(f"--keep {name}: {form} output has no place for its type, {kind}: {error}") from error


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
