"""Data frames of pandas and tables of Arrow as columns, and answers as such."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from penstock_client.errors import ArgumentError
from penstock_client.schema import ModelSchema, TensorSpec

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = ["columns_of", "inputs_of", "is_table", "records_of"]


def is_table(rows: object) -> bool:
    """Whether rows are a data frame, or a table or record batch of Arrow."""
    return _library(rows) is not None


def _library(rows: object) -> str | None:
    # By the name of its module: whoever has a data frame has imported pandas, and nobody else should have to.
    root = type(rows).__module__.partition(".")[0]
    if root == "pandas" and type(rows).__name__ == "DataFrame":
        return "pandas"
    return "pyarrow" if root == "pyarrow" and type(rows).__name__ in ("Table", "RecordBatch") else None


def columns_of(rows: Any) -> dict[str, NDArray[Any]] | None:
    """Return an array for each column; None when one has values missing that are no floats, or holds other things."""
    if _library(rows) == "pandas":
        if not rows.columns.is_unique:
            raise ArgumentError("a data frame with two columns of one name")
        found = {str(name): _pandas_column(rows[name]) for name in rows.columns}
    else:
        found = {name: _arrow_column(rows.column(name)) for name in rows.schema.names}
    if any(column is None for column in found.values()):
        return None
    return {name: column for name, column in found.items() if column is not None}


def _pandas_column(column: Any) -> NDArray[Any] | None:
    import numpy as np

    kind = getattr(column.dtype, "kind", "O")
    if isinstance(column.dtype, np.dtype) and kind in "biuf":
        return np.asarray(column)
    if column.isna().any():
        # Of numbers, what is missing is NaN; of strings there is no such thing.
        return np.asarray(column.to_numpy("float64", na_value=float("nan"))) if kind in "iuf" else None
    if kind in "biuf":
        return np.asarray(column.to_numpy(column.dtype.numpy_dtype))
    values = column.to_numpy(object)
    return np.asarray(values) if all(isinstance(value, str) for value in values) else None


def _arrow_column(column: Any) -> NDArray[Any] | None:
    import numpy as np
    import pyarrow.types as types

    kind, shape = column.type, []
    while types.is_fixed_size_list(kind):
        shape.append(kind.list_size)
        kind = kind.value_type
    number = types.is_integer(kind) or types.is_floating(kind) or types.is_boolean(kind)
    if shape:
        if column.null_count or not number:
            return None
        flat = column.combine_chunks() if hasattr(column, "combine_chunks") else column
        for _ in shape:
            flat = flat.flatten()
        return np.asarray(flat.to_numpy(zero_copy_only=False)).reshape(-1, *shape)
    if number:
        if column.null_count and types.is_boolean(kind):
            return None
        return np.asarray(column.to_numpy(zero_copy_only=False) if _is_array(column) else column.to_numpy())
    if (types.is_string(kind) or types.is_large_string(kind)) and not column.null_count:
        return np.array(column.to_pylist(), dtype=object)
    return None


def _is_array(column: Any) -> bool:
    return type(column).__name__ != "ChunkedArray"


def records_of(rows: Any) -> list[dict[str, Any]]:
    """Return a dict for each row, with None for what is missing."""
    if _library(rows) == "pandas":
        plain = rows.astype(object)
        records: list[dict[str, Any]] = plain.where(rows.notna(), None).to_dict("records")
        return records
    listed: list[dict[str, Any]] = rows.to_pylist()
    return listed


def inputs_of(columns: Mapping[str, NDArray[Any]], schema: ModelSchema) -> dict[str, NDArray[Any]]:
    """Make the model's inputs of columns.

    A column is the input of its name. An input of several elements may have a column for each, `x.0`, `x.1` and so on;
    of a model of one input these may be called anything.
    """
    left = dict(columns)
    inputs: dict[str, NDArray[Any]] = {}
    for spec in schema.inputs:
        if spec.name in left:
            inputs[spec.name] = left.pop(spec.name)
        elif _elements(spec) and f"{spec.name}.0" in left:
            names = [f"{spec.name}.{number}" for number in range(_elements(spec))]
            missing = [name for name in names if name not in left]
            if missing:
                raise ArgumentError(f"there is no column {missing[0]!r}, an element of the input {spec}")
            inputs[spec.name] = _side_by_side([left.pop(name) for name in names], spec)
    if not inputs and len(schema.inputs) == 1 and len(left) == _elements(schema.inputs[0]):
        return {schema.inputs[0].name: _side_by_side(list(left.values()), schema.inputs[0])}
    if left:
        wanted = ", ".join(map(str, schema.inputs))
        raise ArgumentError(f"the column {next(iter(left))!r} is no input of {schema.name}, which has {wanted}")
    return inputs


def _elements(spec: TensorSpec) -> int:
    """How many columns an input takes; 0 when it has no elements that could be columns."""
    count = 1
    for extent in spec.shape:
        count *= extent or 0
    return count if spec.shape else 0


def _side_by_side(columns: list[NDArray[Any]], spec: TensorSpec) -> NDArray[Any]:
    import numpy as np

    return np.stack(columns, axis=1).reshape(-1, *(extent or 0 for extent in spec.shape))
