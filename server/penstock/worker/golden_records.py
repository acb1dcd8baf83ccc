"""Golden rows of a model with a plan: records as clients send them, as the tensors that the model's ring has."""

from __future__ import annotations

from base64 import b64decode
from binascii import Error as Base64Error
from collections.abc import Mapping, Sequence
from typing import Any

from penstock.core.errors import RequestError
from penstock.processing.record import Field, FieldKind, Record
from penstock.processing.slots import slot_of

__all__ = ["columns_of"]

# Stands for a field that a row does not have, which null does not.
_ABSENT = object()


def columns_of(record: Record, inputs: object, slots: str) -> dict[str, list[Any]]:
    """Return the rows of each tensor, those of the slots as `slots`. ValueError says what is no record, and where.

    `inputs` is a list of records, or an object with a list for each field.
    """
    rows = [_flat(record, row, f"row {number}") for number, row in enumerate(_rows(inputs))]
    columns = {field.name: [_given(field, row, number) for number, row in enumerate(rows)] for field in record.fields}
    made = {field.name: columns[field.name] for field in record.tensors}
    if record.slots:
        by_field = [_slots(field, columns[field.name]) for field in record.slots]
        # NaN is a word here, as golden rows have it.
        made[slots] = [["NaN" if value != value else value for value in row] for row in zip(*by_field, strict=True)]
    return made


def _rows(inputs: object) -> Sequence[object]:
    if isinstance(inputs, list):
        return inputs
    if not isinstance(inputs, dict) or not all(isinstance(column, list) for column in inputs.values()):
        raise ValueError(
            "inputs must be a list of records as clients send them, [{FIELD: VALUE, ...}, ...], or an object with a "
            "list for each field"
        )
    if len({len(column) for column in inputs.values()}) > 1:
        raise ValueError("inputs must have as many values of each field")
    return [dict(zip(inputs, row, strict=True)) for row in zip(*inputs.values(), strict=True)]


def _flat(record: Record, row: object, where: str) -> dict[str, Any]:
    """Return the fields of a record by their paths."""
    if not isinstance(row, dict):
        raise ValueError(f"{where} of the inputs must be an object with the fields of the record")
    objects = {inner.path for inner in record.objects if inner.path}
    flat: dict[str, Any] = {}

    def walk(members: Mapping[str, Any], path: tuple[str, ...]) -> None:
        for name, value in members.items():
            if (*path, name) in objects and isinstance(value, dict):
                walk(value, (*path, name))
            else:
                flat[".".join((*path, name))] = value

    walk(row, ())
    known = [field.name for field in record.fields]
    unknown = [name for name in flat if name not in known]
    if unknown and record.closed:
        raise ValueError(f"{where} of the inputs has {unknown[0]!r}, which is no field; known are {', '.join(known)}")
    return flat


def _given(field: Field, row: Mapping[str, Any], number: int) -> Any:
    value = row.get(field.name, _ABSENT)
    if value is _ABSENT:
        if field.required:
            raise ValueError(f"row {number} of the inputs has no {field.name!r}, which is required")
        return field.default
    if value is None and not field.nullable:
        raise ValueError(f"row {number} of the inputs: {field.name} cannot be null")
    if field.kind is not FieldKind.IMAGE:
        return value
    return _picture(field, value, number)


def _picture(field: Field, value: Any, number: int) -> Any:
    digits: Any = value.get("base64") if isinstance(value, dict) else value
    if field.dtype != "bytes":
        if isinstance(digits, str):
            raise ValueError(
                f"row {number} of the inputs: {field.name} must be the pixels that become of the image, "
                f"{field.dtype} of shape {list(field.shape)}: golden rows have no files of images"
            )
        return value
    try:
        return b64decode(digits + "=" * (-len(digits) % 4), validate=True)
    except (Base64Error, ValueError, TypeError):
        raise ValueError(f"row {number} of the inputs: {field.name} must be an image in base64") from None


def _slots(field: Field, column: Sequence[Any]) -> list[float]:
    try:
        return [*map(float, slot_of(field, column))]
    except RequestError as error:
        raise ValueError(f"inputs: {error.detail}") from None
