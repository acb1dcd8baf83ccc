"""Tables as plain rows, for what has no form as arrays: values that are missing, types that the model does not have.

Such rows are judged by the server, one by one.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from penstock.cli.predict.words import field_schema, may_be_null
from penstock.cli.served import Served
from penstock.core.errors import ConfigError

__all__ = ["plain_rows"]


def plain_rows(served: Served, table: Any) -> list[dict[str, Any]]:
    """Return a row for each of a table; ConfigError when its columns are not the model's inputs."""
    rows: list[dict[str, Any]] = table.to_pylist()
    if served.record is not None:
        kept = {name for name in table.schema.names if may_be_null(field_schema(served.record, name))}
        # Where null is none of a field's values, what is missing is absent.
        return [{name: value for name, value in row.items() if value is not None or name in kept} for row in rows]
    columns = _columns(served, table.schema.names)
    return [{name: _value(row, of, shape) for name, (of, shape) in columns.items()} for row in rows]


def _columns(served: Served, names: Sequence[str]) -> Mapping[str, tuple[Sequence[str], Sequence[int]]]:
    """Return for each input the columns that it is made of, and in which shape; of one with its name, none."""
    left = list(names)
    found: dict[str, tuple[Sequence[str], Sequence[int]]] = {}
    for tensor in served.inputs:
        elements = [f"{tensor.name}.{number}" for number in range(tensor.elements or 0)] if tensor.shape else []
        if tensor.name in left:
            found[tensor.name] = ([tensor.name], ())
        elif elements and set(elements) <= set(left):
            found[tensor.name] = (elements, [extent or 0 for extent in tensor.shape])
        elif len(served.inputs) == 1 and tensor.shape and tensor.elements == len(left):
            found[tensor.name] = (left, [extent or 0 for extent in tensor.shape])
        else:
            raise ConfigError(f"there is no column for the input {tensor}, but {', '.join(names)}")
        left = [name for name in left if name not in found[tensor.name][0]]
    if left:
        raise ConfigError(f"the column {left[0]!r} is no input of {served.name}, which takes {served.takes()}")
    return found


def _value(row: Mapping[str, Any], of: Sequence[str], shape: Sequence[int]) -> Any:
    if not shape:
        return row[of[0]]
    values: list[Any] = [row[name] for name in of]
    for extent in reversed(shape[1:]):
        values = [values[at : at + extent] for at in range(0, len(values), extent)]
    return values
