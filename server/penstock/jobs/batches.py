"""Rows of record batches through the fast path: as tensors where they are such, as JSON where not."""

from __future__ import annotations

import json
import math
from base64 import b64encode
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from penstock.core.errors import RequestError
from penstock.core.problems import PROBLEMS
from penstock.jobs.answers import Answer, Replied, Rows, columns_of
from penstock.jobs.dense import Dense, Layout, NotDenseError
from penstock.jobs.fast_path import FastPath

__all__ = ["Model", "Part", "parts_of", "run"]

# Of rows as tensors, in and out together, and how many at a time.
_TENSOR_BYTES = 1 << 20
_DENSE_ROWS_MAX = 8192
# Between rows with faults; what is shorter goes with them, as JSON.
_DENSE_ROWS_MIN = 32
_FAULTS_OF_ROWS = ("malformed_body", "invalid_input", "body_too_large", "contradiction")
_TEXTS = ("str", "bytes")
_BYTES_OF_TEXT = 64
_LENGTH = 128  # of what varies

_Json = dict[str, Any]
_Tensor = tuple[str, str, Sequence[int | None]]


@dataclass(frozen=True, slots=True)
class Model:
    """What a stream's rows are for. Targets: where rows go, and where tensors do that are answered with tensors."""

    inputs: Sequence[_Tensor]
    outputs: Sequence[_Tensor]
    rows_target: str
    tensors_target: str
    rows_max: int  # of JSON at a time
    answers_columns: bool
    optional: frozenset[str] = frozenset()  # inputs that a row may lack
    nullable: frozenset[str] = frozenset()  # that may be null

    def given(self, columns: Sequence[str]) -> Sequence[_Tensor]:
        """Return the inputs without the optional ones that have no column."""
        return [tensor for tensor in self.inputs if tensor[0] in columns or tensor[0] not in self.optional]

    @property
    def dense_rows_max(self) -> int:
        """How many rows are run at a time as tensors."""
        row_bytes = sum(_bytes_of(tensor) for tensor in [*self.inputs, *self.outputs])
        # An answer in JSON is bounded as ever.
        most = _DENSE_ROWS_MAX if self.answers_columns else self.rows_max
        return max(1, min(most, _TENSOR_BYTES // max(row_bytes, 1)))


@dataclass(frozen=True, slots=True)
class Part:
    """Rows that are run together: as tensors, or else one by one."""

    batch: Any
    layout: Layout
    tensors: list[Dense] | None


def parts_of(batch: Any, layout: Layout, model: Model) -> Iterator[Part]:
    """Cut a record batch into what is run at a time; rows that the model does not take are apart from the others."""
    rows_max = model.dense_rows_max
    for start in range(0, batch.num_rows, rows_max):
        yield from _parts(batch.slice(start, rows_max), layout, model)


def _parts(batch: Any, layout: Layout, model: Model) -> Iterator[Part]:
    try:
        tensors, faults = layout.tensors(batch)
        if faults is None:
            yield Part(batch, layout, tensors)
            return
        for start, end, has_faults in _runs(faults):
            part = batch.slice(start, end - start)
            if has_faults:
                yield from _one_by_one(part, layout, model)
            else:
                yield Part(part, layout, layout.tensors(part)[0])
    except NotDenseError:
        yield from _one_by_one(batch, layout, model)


def _one_by_one(batch: Any, layout: Layout, model: Model) -> Iterator[Part]:
    for start in range(0, batch.num_rows, model.rows_max):
        yield Part(batch.slice(start, model.rows_max), layout, None)


def _runs(faults: NDArray[np.bool_]) -> Iterator[tuple[int, int, bool]]:
    """Yield begin and end of rows without faults, where many lie together, and of what lies between."""
    at = 0
    ends = [*np.flatnonzero(faults).tolist(), len(faults)]
    begin = 0  # of rows without a fault
    for end in ends:
        if end - begin >= _DENSE_ROWS_MIN:
            if at < begin:
                yield at, begin, True
            yield begin, end, False
            at = end
        begin = end + 1
    if at < len(faults):
        yield at, len(faults), True


def run(fast_path: FastPath, model: Model, part: Part) -> tuple[Answer, RequestError | None]:
    """Run rows; and return a refusal that is not the rows' fault. Raises for nothing that a row may be blamed for."""
    if part.tensors is not None:
        try:
            return _run_tensors(fast_path, model, part), None
        except RequestError as error:
            if error.code not in _FAULTS_OF_ROWS:
                return _failed(part.batch.num_rows, error), error
            # Nothing has run. Which row it is and why is what JSON says.
    return _run_rows(fast_path, model, _without_missing(part.layout.rows(part.batch), model))


def _run_tensors(fast_path: FastPath, model: Model, part: Part) -> Answer:
    assert part.tensors is not None
    inputs = [
        {
            "name": tensor.name,
            "datatype": tensor.datatype,
            "shape": tensor.shape,
            "parameters": {"binary_data_size": len(tensor.content)},
        }
        for tensor in part.tensors
    ]
    contents = [tensor.content for tensor in part.tensors]
    if not model.answers_columns:
        reply = fast_path.post_tensors(model.rows_target, {"inputs": inputs}, contents)
        return Replied(part.batch.num_rows, reply.body)
    outputs = [{"name": name, "parameters": {"binary_data": dtype not in _TEXTS}} for name, dtype, _ in model.outputs]
    head = {"inputs": inputs, "outputs": outputs, "parameters": {"row_errors": True}}
    reply = fast_path.post_tensors(model.tensors_target, head, contents)
    return columns_of(reply.body, reply.header_bytes, {name: dtype for name, dtype, _ in model.outputs})


def _run_rows(fast_path: FastPath, model: Model, rows: list[Any]) -> tuple[Rows, RequestError | None]:
    """Run rows as JSON, in halves when one of them fails them all."""
    try:
        document: _Json = json.loads(fast_path.post_rows(model.rows_target, b'{"inputs":' + _text(rows) + b"}").body)
        return Rows(document["outputs"], list(document.get("errors", ()))), None
    except RequestError as error:
        if error.code in _FAULTS_OF_ROWS and len(rows) > 1:
            half = len(rows) // 2
            first, refusal = _run_rows(fast_path, model, rows[:half])
            second, other = _run_rows(fast_path, model, rows[half:])
            later = [{**each, "row": each["row"] + half} for each in second.errors]
            return Rows([*first.outputs, *second.outputs], [*first.errors, *later]), refusal or other
        return _failed(len(rows), error), None if error.code in _FAULTS_OF_ROWS else error


def _failed(rows: int, error: RequestError) -> Rows:
    status = PROBLEMS[error.code].status if error.code in PROBLEMS else 500
    fault = {"code": error.code, "status": status, "detail": error.detail}
    return Rows([None] * rows, [{"row": row, **fault} for row in range(rows)])


def _without_missing(rows: list[Any], model: Model) -> list[Any]:
    """Make null what may be, and leave out what may be absent, of the nulls and the NaN that records have."""
    missing = model.nullable | model.optional
    for row in rows if missing else ():
        for name in missing & row.keys() if isinstance(row, dict) else ():
            if row[name] is None or row[name] != row[name]:
                if name in model.nullable:
                    row[name] = None
                else:
                    del row[name]
    return rows


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


def _bytes_of(tensor: _Tensor) -> int:
    _, dtype, shape = tensor
    elements = math.prod(_LENGTH if extent is None else extent for extent in shape)
    return elements * (_BYTES_OF_TEXT if dtype in _TEXTS else np.dtype(dtype).itemsize)
