"""From Arrow's columns to tensors: what a record batch is for a model, a whole batch at once."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pyarrow
import pyarrow.compute
from numpy.typing import NDArray

from penstock.core.errors import RequestError

__all__ = ["Dense", "Layout", "NotDenseError", "datatype_of", "fields_of"]

_TEXTS = ("str", "bytes")

_Tensor = tuple[str, str, Sequence[int | None]]


class NotDenseError(Exception):
    """The batch has no form as tensors, or none that is as long in every row: its rows are read one by one."""


@dataclass(frozen=True, slots=True)
class Dense:
    """A tensor of every row, side by side: its bytes as the Open Inference Protocol has them."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    content: bytes


class Layout:
    """Which columns of a file make up the inputs. RequestError (`invalid_input`) when they do not."""

    def __init__(self, inputs: Sequence[_Tensor], columns: Sequence[str]) -> None:
        names = [name for name, _, _ in inputs]
        for name in names:
            if columns.count(name) > 1:
                raise RequestError("invalid_input", f"several columns are called {name!r}; send one for each input")
        self._inputs = inputs
        self.by_name = set(names) <= set(columns)
        extents = inputs[0][2]
        if not self.by_name and (
            len(inputs) != 1 or (None not in extents and math.prod(_known(extents)) != len(columns))
        ):
            raise RequestError(
                "invalid_input",
                f"the columns are {', '.join(columns)[:200]}; expected one for each input ({', '.join(names)})"
                + ("" if len(inputs) != 1 else f", or one for each element of {names[0]}"),
            )

    def tensors(self, batch: Any) -> tuple[list[Dense], NDArray[np.bool_] | None]:
        """Return the tensors of a batch; or none, and which of its rows are not what the model takes.

        NotDenseError when that is for those to say who read values one by one.
        """
        faults = np.zeros(batch.num_rows, bool)
        found = []
        if self.by_name:
            for tensor in self._inputs:
                found.append(_tensor(batch.column(batch.schema.get_field_index(tensor[0])), tensor, faults))
        else:
            found.append(_matrix(batch.columns, self._inputs[0], faults))
        return ([], faults) if faults.any() else (found, None)

    def rows(self, batch: Any) -> list[Any]:
        """Return rows as JSON has them."""
        if self.by_name:
            rows: list[Any] = batch.select([name for name, _, _ in self._inputs]).to_pylist()
            return rows
        columns = [column.to_pylist() for column in batch.columns]
        return [_nested(list(row), self._inputs[0][2]) for row in zip(*columns, strict=True)]


def fields_of(batch: Any, inputs: Sequence[_Tensor]) -> Any:
    """Return the columns of a batch as the fields of a record, which `inputs` are.

    Members of structs are columns of their own, `address.city`. Moments and dates are text, as JSON has them; those
    without a time zone are in UTC.
    """
    while any(_has_members(field, inputs) for field in batch.schema):
        names: list[str] = []
        columns: list[Any] = []
        for field, column in zip(batch.schema, batch.columns, strict=True):
            if _has_members(field, inputs):
                names += [f"{field.name}.{member.name}" for member in field.type]
                columns += column.flatten()
            else:
                names.append(field.name)
                columns.append(column)
        batch = pyarrow.RecordBatch.from_arrays(columns, names)
    return pyarrow.RecordBatch.from_arrays([_without_moments(column) for column in batch.columns], batch.schema.names)


def _has_members(field: Any, inputs: Sequence[_Tensor]) -> bool:
    return pyarrow.types.is_struct(field.type) and any(name.startswith(f"{field.name}.") for name, _, _ in inputs)


def _without_moments(column: Any) -> Any:
    if pyarrow.types.is_timestamp(column.type):
        moments = column.cast(pyarrow.timestamp(column.type.unit, "UTC"))
        return pyarrow.compute.strftime(moments, "%Y-%m-%dT%H:%M:%SZ")
    return column.cast(pyarrow.string()) if pyarrow.types.is_date(column.type) else column


def _tensor(column: Any, tensor: _Tensor, faults: NDArray[np.bool_]) -> Dense:
    """Return one column as a tensor; sets `faults` of rows that do not fit, and then what it returns is nothing."""
    name, dtype, shape = tensor
    leaf, extents = _leaf(column, shape)
    if leaf is None:
        _note_faults(column, shape, faults)
        return Dense(name, datatype_of(dtype), (0,), b"")
    if dtype in _TEXTS:
        content = _texts(leaf)
    else:
        values, wrong = _cast(leaf, dtype)
        if wrong is not None:
            faults |= wrong.reshape(len(faults), -1).any(axis=1)
        content = values.tobytes()
    return Dense(name, datatype_of(dtype), (len(faults), *extents), content)


def _matrix(columns: Sequence[Any], tensor: _Tensor, faults: NDArray[np.bool_]) -> Dense:
    """Return the tensor whose elements are the columns."""
    name, dtype, shape = tensor
    if dtype in _TEXTS:
        raise NotDenseError
    matrix = np.empty((len(faults), len(columns)), dtype)
    for index, column in enumerate(columns):
        leaf, _ = _leaf(column, ())
        if leaf is None:
            _note_faults(column, (), faults)
            continue
        matrix[:, index], wrong = _cast(leaf, dtype)
        if wrong is not None:
            faults |= wrong
    known = math.prod(_known(shape[1:]))
    extents = [len(columns) // max(known, 1) if extent is None else extent for extent in shape]
    if math.prod(extents) != len(columns):
        raise NotDenseError
    return Dense(name, datatype_of(dtype), (len(faults), *extents), matrix.tobytes())


def _leaf(column: Any, shape: Sequence[int | None]) -> tuple[Any, list[int]]:
    """Return the elements of all rows and the shape of each; None when a row has another one, or holds nothing."""
    array = _plain(column)
    extents: list[int] = []
    for extent in shape:
        if not _is_list(array.type):
            raise NotDenseError
        if array.null_count:
            return None, []
        lengths = _lengths(array)
        if extent is None:
            # Rows of several lengths are of several shapes.
            if not len(lengths) or (lengths != lengths[0]).any():
                raise NotDenseError
            extent = int(lengths[0])
        elif (lengths != extent).any():
            return None, []
        extents.append(extent)
        array = _plain(array.flatten())
    return (None, []) if array.null_count else (array, extents)


def _note_faults(column: Any, shape: Sequence[int | None], faults: NDArray[np.bool_]) -> None:
    """Set those of the rows that hold nothing somewhere, or lists of another length."""
    array = _plain(column)
    owners = np.arange(len(faults))
    for extent in shape:
        nulls = array.is_null().to_numpy(zero_copy_only=False)
        faults[owners[nulls]] = True
        array, owners = array.filter(pyarrow.array(~nulls)), owners[~nulls]
        lengths = _lengths(array)
        if extent is None:
            raise NotDenseError
        faults[owners[lengths != extent]] = True
        array, owners = _plain(array.flatten()), np.repeat(owners, lengths)
    faults[owners[array.is_null().to_numpy(zero_copy_only=False)]] = True


def _plain(array: Any) -> Any:
    return array.dictionary_decode() if pyarrow.types.is_dictionary(array.type) else array


def _is_list(kind: Any) -> bool:
    types = pyarrow.types
    return bool(types.is_list(kind) or types.is_large_list(kind) or types.is_fixed_size_list(kind))


def _lengths(array: Any) -> NDArray[np.int64]:
    if pyarrow.types.is_fixed_size_list(array.type):
        return np.full(len(array), array.type.list_size)
    offsets: NDArray[np.int64] = array.offsets.to_numpy()
    return np.diff(offsets)


def _cast(leaf: Any, dtype: str) -> tuple[NDArray[Any], NDArray[np.bool_] | None]:
    """Return numbers as the tensor has them, and which of them it cannot have. Never rounds an integer's way in."""
    types, wanted = pyarrow.types, np.dtype(dtype)
    kind = leaf.type
    is_integer, is_float = types.is_integer(kind), types.is_floating(kind)
    if not (
        (types.is_boolean(kind) and wanted.kind == "b")
        or (is_integer and wanted.kind in "iuf")
        or (is_float and wanted.kind == "f")
    ):
        raise NotDenseError  # whoever reads them one by one says what is wrong with them
    values: NDArray[Any] = leaf.to_numpy(zero_copy_only=False)
    if values.dtype == wanted:
        return values, None
    if wanted.kind == "f":
        with np.errstate(over="ignore"):
            cast = values.astype(wanted)
        if np.can_cast(values.dtype, wanted, "safe"):
            return cast, None
        return cast, np.isinf(cast) & np.isfinite(values)
    bounds = np.iinfo(wanted)
    if np.can_cast(values.dtype, wanted, "safe"):
        return values.astype(wanted), None
    return values.astype(wanted), (values < bounds.min) | (values > bounds.max)


def _texts(leaf: Any) -> bytes:
    """Return strings, each behind its length (uint32)."""
    types, kind = pyarrow.types, leaf.type
    if not (
        types.is_string(kind) or types.is_large_string(kind) or types.is_binary(kind) or types.is_large_binary(kind)
    ):
        raise NotDenseError
    leaf = leaf.cast(pyarrow.large_binary())
    lengths = pyarrow.compute.binary_length(leaf).to_numpy(zero_copy_only=False).astype("<u4")
    prefixes = pyarrow.Array.from_buffers(
        pyarrow.binary(4), len(leaf), [None, pyarrow.py_buffer(lengths.tobytes())]
    ).cast(pyarrow.large_binary())
    nothing = pyarrow.scalar(b"", pyarrow.large_binary())
    joined = pyarrow.compute.binary_join_element_wise(prefixes, leaf, nothing)
    offsets = np.frombuffer(joined.buffers()[1], "<i8", len(joined) + 1, joined.offset * 8)
    return bytes(memoryview(joined.buffers()[2])[offsets[0] : offsets[-1]]) if len(joined) else b""


def datatype_of(dtype: str) -> str:
    """Return what the Open Inference Protocol calls a type."""
    return "BYTES" if dtype in _TEXTS else dtype.upper().replace("FLOAT", "FP")


def _known(extents: Sequence[int | None]) -> list[int]:
    return [extent for extent in extents if extent is not None]


def _nested(row: list[Any], extents: Sequence[int | None]) -> Any:
    """Give a flat row the shape of the input."""
    if not extents:
        return row[0]
    for extent in reversed([extent or 1 for extent in extents[1:]]):
        row = [row[start : start + extent] for start in range(0, len(row), extent)]
    return row
