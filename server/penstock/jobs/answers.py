"""What the data plane says of rows, and how it is written: as lines, or as record batches."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import IO, Any, Protocol

import numpy as np
import pyarrow
import pyarrow.ipc
from numpy.typing import NDArray

from penstock.core.errors import RequestError
from penstock.core.events import EVENT_STREAM, end_of, events_of
from penstock.jobs.dense import datatype_of
from penstock.jobs.nested import nested_lists
from penstock.native import _dataplane

__all__ = ["Answer", "ArrowWriter", "Columns", "Replied", "Rows", "Writer", "columns_of", "writer_of"]

_Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Columns:
    """Outputs as tensors of all rows, and the errors of those that have none. Texts are objects."""

    rows: int
    outputs: Mapping[str, NDArray[Any]]
    errors: Sequence[_Json]


@dataclass(frozen=True, slots=True)
class Replied:
    """A reply in JSON, as it came."""

    rows: int
    body: bytes


@dataclass(frozen=True, slots=True)
class Rows:
    """Outputs row by row, null where there are none, and errors."""

    outputs: list[Any]
    errors: list[_Json] = field(default_factory=list)

    @property
    def rows(self) -> int:
        """How many."""
        return len(self.outputs)


Answer = Columns | Replied | Rows


def columns_of(body: bytes, header_bytes: int | None, dtypes: Mapping[str, str]) -> Columns:
    """Read a reply of the Open Inference Protocol whose numbers are binary.

    RequestError (`model_unavailable`) when its outputs are of other types than those asked for.
    """
    header_bytes = len(body) if header_bytes is None else header_bytes
    document: _Json = json.loads(body[:header_bytes])
    outputs: dict[str, NDArray[Any]] = {}
    rows, at = 0, header_bytes
    for output in document["outputs"]:
        rows = output["shape"][0]
        if output["datatype"] != datatype_of(dtypes[output["name"]]):
            raise _replaced(f"{output['name']} is {output['datatype']} now")
        size = output.get("parameters", {}).get("binary_data_size")
        if size is None:
            outputs[output["name"]] = np.array(output["data"], object).reshape(output["shape"])
            continue
        dtype = np.dtype(dtypes[output["name"]])
        values = np.frombuffer(body, dtype, size // dtype.itemsize, at)
        outputs[output["name"]] = values.reshape(output["shape"])
        at += size
    return Columns(rows, outputs, document["parameters"]["row_errors"])


def _replaced(how: str) -> RequestError:
    return RequestError(
        "model_unavailable", f"another version answers than when the stream began: {how}; send the rows again"
    )


class Writer(Protocol):
    """Makes an answer of what is said of rows."""

    media_type: str

    def begin(self) -> None:
        """Write what stands before the first row."""

    def write(self, answer: Answer, first: int) -> None:
        """Write rows, of which the first has the number `first`."""

    def end(self) -> None:
        """Write what stands behind the last row."""


def writer_of(kind: str, answer: IO[bytes], outputs: Sequence[Any]) -> Writer:
    """Return what writes an answer as `arrow`, `events` or `lines`."""
    if kind == "arrow":
        return ArrowWriter(answer, outputs)
    return EventWriter(answer) if kind == "events" else LineWriter(answer)


class LineWriter:
    """NDJSON, as other streams have it."""

    media_type = "application/x-ndjson"

    def __init__(self, answer: IO[bytes]) -> None:
        self._answer = answer

    def begin(self) -> None:
        """Write nothing."""

    def write(self, answer: Answer, first: int) -> None:
        """Write a line for each row."""
        self._answer.write(_lines(answer, first))

    def end(self) -> None:
        """Write nothing."""


class EventWriter:
    """Server-sent events, as other streams have them."""

    media_type = EVENT_STREAM

    def __init__(self, answer: IO[bytes]) -> None:
        self._answer = answer
        self._rows = 0

    def begin(self) -> None:
        """Write nothing."""

    def write(self, answer: Answer, first: int) -> None:
        """Write an event for each row."""
        self._answer.write(events_of(_lines(answer, first)))
        self._rows = first + answer.rows

    def end(self) -> None:
        """Write the last event."""
        self._answer.write(end_of(self._rows))


class ArrowWriter:
    """A column for each output, and `error`, which is null for a row that has outputs."""

    media_type = "application/vnd.apache.arrow.stream"

    def __init__(self, answer: IO[bytes], outputs: Sequence[Any]) -> None:
        self._answer = answer
        self._fault = pyarrow.struct(
            [
                ("row", pyarrow.int64()),
                ("code", pyarrow.utf8()),
                ("status", pyarrow.int16()),
                ("detail", pyarrow.utf8()),
            ]
        )
        fields = [(name, _arrow_type(dtype, shape)) for name, dtype, shape in outputs]
        self._schema = pyarrow.schema([*fields, ("error", self._fault)])
        self._names = [name for name, _ in fields]
        self._floats = {name for name, dtype, _ in outputs if dtype.startswith("float")}
        self._writer: Any = None

    def begin(self) -> None:
        """Write the schema."""
        self._writer = pyarrow.ipc.new_stream(self._answer, self._schema)

    def write(self, answer: Answer, first: int) -> None:
        """Write a record batch."""
        if isinstance(answer, Columns):
            self._writer.write_batch(self._batch(answer, first))
            return
        assert isinstance(answer, Rows)
        errors = _numbered(answer.errors, first)
        rows = [
            {"error": errors.get(row)}
            if values is None
            else {name: _numbers(value) if name in self._floats else value for name, value in values.items()}
            for row, values in enumerate(answer.outputs)
        ]
        for values in answer.outputs:
            if values is not None and values.keys() != set(self._names):
                raise _replaced(f"its outputs are {', '.join(values)}")
        self._writer.write_batch(pyarrow.RecordBatch.from_pylist(rows, self._schema))

    def end(self) -> None:
        """Write the end of the stream."""
        self._writer.close()

    def _batch(self, answer: Columns, first: int) -> Any:
        arrays = [nested_lists(answer.outputs[name], self._schema.field(name).type) for name in self._names]
        if not answer.errors:
            return pyarrow.record_batch([*arrays, pyarrow.nulls(answer.rows, self._fault)], schema=self._schema)
        failed = np.zeros(answer.rows, bool)
        failed[[error["row"] for error in answer.errors]] = True
        kept = pyarrow.array(np.arange(answer.rows), mask=failed)
        errors = [{**error, "row": first + error["row"]} for error in answer.errors]
        places = pyarrow.array(np.cumsum(failed) - 1, mask=~failed)
        faults = pyarrow.array(errors, self._fault).take(places)
        return pyarrow.record_batch([*(array.take(kept) for array in arrays), faults], schema=self._schema)


def _lines(answer: Answer, first: int) -> bytes:
    """Return a line for each row; replies are cut into lines natively."""
    if isinstance(answer, Replied):
        return _dataplane.json_answers(answer.body, answer.rows, first, [])
    assert isinstance(answer, Rows)
    errors = _numbered(answer.errors, first)
    lines: list[str] = []
    for row, values in enumerate(answer.outputs):
        line = {"outputs": values} if values is not None else {"error": errors[row]}
        lines.append(json.dumps(line, ensure_ascii=False, separators=(",", ":")) + "\n")
    return "".join(lines).encode()


def _numbered(errors: Sequence[_Json], first: int) -> dict[int, _Json]:
    return {error["row"]: {**error, "row": first + error["row"]} for error in errors}


def _numbers(value: Any) -> Any:
    if isinstance(value, list):
        return [_numbers(item) for item in value]
    return float(value) if isinstance(value, str) else value


def _arrow_type(dtype: str, shape: Sequence[int | None]) -> Any:
    named = {"bool": pyarrow.bool_(), "float16": pyarrow.float32(), "str": pyarrow.utf8(), "bytes": pyarrow.utf8()}
    found = named.get(dtype) or pyarrow.type_for_alias(dtype)
    for _ in shape:
        found = pyarrow.list_(found)
    return found
