"""Golden rows: inputs whose outputs are known. A model of which anything else comes never gets traffic."""

from __future__ import annotations

import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from penstock.core.errors import ModelLoadError
from penstock.processing.record import Record
from penstock.worker.arrays import Array, blank, dtype_of
from penstock.worker.backends import Backend
from penstock.worker.batch import Rows
from penstock.worker.fault import describe
from penstock.worker.golden_records import columns_of
from penstock.worker.model import TEXTS, ModelSpec, TensorSpec

__all__ = ["Golden", "GoldenRow", "prove", "read_golden"]

# As text; some millions of numbers. More rows prove no more, and every start waits for them.
FILE_BYTES_MAX = 32 << 20
RTOL, ATOL = 1e-4, 1e-6
_MEMBERS = {"inputs", "outputs", "rtol", "atol"}
# As requests write them (docs/wire-format.md).
_SPECIAL = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}


@dataclass(frozen=True, slots=True)
class GoldenRow:
    """One array for each tensor, in the order of the schema; `length` is that of the ones that vary, 0 without one."""

    inputs: tuple[Array, ...]
    outputs: tuple[Array, ...]
    length: int = 0


@dataclass(frozen=True, slots=True)
class Golden:
    """Rows, and how far the floats that come of them may be off: by `atol` + `rtol` times what is expected."""

    rows: tuple[GoldenRow, ...]
    rtol: float = RTOL
    atol: float = ATOL


class _MistakeError(Exception):
    """What is wrong with the file, and where in it."""


# --- reading ----------------------------------------------------------------------------------------------------------


def read_golden(path: Path, spec: ModelSpec, record: Record | None = None) -> Golden:
    """Read the golden rows of a model; ModelLoadError says what in the file does not fit it.

    With a `record` the inputs are such, as clients send them.
    """
    try:
        if path.stat().st_size > FILE_BYTES_MAX:
            raise _MistakeError(f"it is larger than {FILE_BYTES_MAX >> 20} MiB: some hundred rows are enough")
        members = json.loads(path.read_bytes(), object_pairs_hook=_object, parse_constant=_refuse_constant)
        return _golden(members, spec, record)
    except OSError as error:
        raise ModelLoadError(f"the golden rows in {path.name} cannot be read: {error.strerror}") from error
    except RecursionError as error:
        raise ModelLoadError(f"{path.name} holds no golden rows: its lists are nested too deeply") from error
    except (ValueError, _MistakeError) as error:
        raise ModelLoadError(f"{path.name} holds no golden rows for this model: {error}") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        names = [name for name, _ in pairs]
        raise _MistakeError(f"the member {next(name for name in names if names.count(name) > 1)!r} is there twice")
    return found


def _refuse_constant(name: str) -> NoReturn:
    raise _MistakeError(f'the bare word {name} is no JSON: write "{name}"')


def _golden(members: object, spec: ModelSpec, record: Record | None) -> Golden:
    if not isinstance(members, dict) or not {"inputs", "outputs"} <= members.keys() <= _MEMBERS:
        raise _MistakeError(
            'it must be an object {"inputs": {NAME: [ROW, ...]}, "outputs": {...}}, with rtol and atol or not'
        )
    given = members["inputs"]
    if record is not None:
        given = columns_of(record, given, spec.inputs[0].name)
    inputs = _table(given, "inputs", spec.inputs)
    outputs = _table(members["outputs"], "outputs", spec.outputs)
    counts = {len(values) for values in (*inputs, *outputs)}
    if len(counts) != 1 or 0 in counts:
        raise _MistakeError("all inputs and outputs must have the same number of rows, 1 or more")
    rows = tuple(_row(number, spec, inputs, outputs) for number in range(counts.pop()))
    return Golden(rows, _tolerance(members, "rtol", RTOL), _tolerance(members, "atol", ATOL))


def _table(value: object, name: str, specs: Sequence[TensorSpec]) -> list[list[object]]:
    expected = [spec.name for spec in specs]
    if not isinstance(value, dict) or value.keys() != set(expected):
        raise _MistakeError(
            f"{name} must be an object with the members {', '.join(map(repr, expected))}, and no others"
        )
    for tensor, rows in value.items():
        if not isinstance(rows, list):
            raise _MistakeError(f"{name}[{tensor!r}] must be a list of rows")
    return [value[tensor] for tensor in expected]


def _tolerance(members: Mapping[str, object], name: str, default: float) -> float:
    value = members.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value < math.inf:
        raise _MistakeError(f"{name} must be a number of 0 or more")
    return float(value)


def _row(
    number: int, spec: ModelSpec, inputs: Sequence[Sequence[object]], outputs: Sequence[Sequence[object]]
) -> GoldenRow:
    length = 0
    for tensor, rows in zip(spec.inputs, inputs, strict=True):
        if tensor.varies and length == 0:
            row = rows[number]
            length = len(row) if isinstance(row, list) else 0
            if not 1 <= length <= tensor.shape[0]:
                raise _MistakeError(
                    f"row {number} of input {tensor.name!r} must be a list of 1 to {tensor.shape[0]} items"
                )
    return GoldenRow(
        tuple(
            _array(rows[number], tensor, length, f"row {number} of input {tensor.name!r}")
            for tensor, rows in zip(spec.inputs, inputs, strict=True)
        ),
        tuple(
            _array(rows[number], tensor, length, f"row {number} of output {tensor.name!r}")
            for tensor, rows in zip(spec.outputs, outputs, strict=True)
        ),
        length,
    )


def _array(value: object, tensor: TensorSpec, length: int, where: str) -> Array:
    shape, dtype = tensor.shape_at(length), dtype_of(tensor.dtype)
    flat = list(_flattened(value, shape, f"{where} must have the shape {shape}"))
    kinds = set(map(type, flat))
    if tensor.dtype in TEXTS:
        if not kinds <= {str, bytes} or (bytes in kinds and tensor.dtype == "str"):
            raise _MistakeError(f"{where} must hold strings")
        return _texts(flat, tensor.dtype).reshape(shape)
    if dtype.kind == "f":
        flat = [_SPECIAL.get(item, item) if isinstance(item, str) else item for item in flat]
        fits = set(map(type, flat)) <= {int, float}
    elif dtype.kind == "b":
        fits = kinds <= {bool}
    else:
        limits = np.iinfo(dtype)
        fits = kinds <= {int} and all(limits.min <= item <= limits.max for item in flat)
    if not fits:
        raise _MistakeError(f"{where} must hold values of {dtype}")
    try:
        with np.errstate(over="ignore"):  # 1e6 is infinity as a float16
            return np.array(flat, dtype).reshape(shape)
    except OverflowError as error:  # an integer that no float can hold
        raise _MistakeError(f"{where} must hold values of {dtype}") from error


def _texts(items: Sequence[str | bytes], dtype: str) -> Array:
    texts = np.empty(len(items), object)
    texts[:] = [item if dtype == "str" or isinstance(item, bytes) else item.encode() for item in items]
    return texts


def _flattened(value: Any, shape: tuple[int, ...], mistake: str) -> Iterator[Any]:
    if not shape:
        yield value
        return
    if not isinstance(value, list) or len(value) != shape[0]:
        raise _MistakeError(mistake)
    if len(shape) == 1:
        yield from value
        return
    for item in value:
        yield from _flattened(item, shape[1:], mistake)


# --- proving ----------------------------------------------------------------------------------------------------------


def prove(backend: Backend, golden: Golden, rows_max: Mapping[int, int], sizes: Sequence[int] = ()) -> None:
    """Run the rows and compare; ModelLoadError names the first that differs, and how many do.

    They run as requests do: padded to the lengths that are the keys of `rows_max` (0 where nothing varies), in batches
    of at most so many rows, filled up to one of `sizes` if there are any. Floats may be off by the tolerance, and NaN
    is NaN; anything else must be equal.
    """
    differing: dict[int, str] = {}
    for length, most in rows_max.items():
        shorter = max((other for other in rows_max if other < length), default=-1)
        numbers = [number for number, row in enumerate(golden.rows) if shorter < row.length <= length]
        for first in range(0, len(numbers), most):
            batch = numbers[first : first + most]
            differing |= _differences(backend, golden, batch, length, sizes)
    if differing:
        number = min(differing)
        raise ModelLoadError(
            f"the model does not give its golden outputs: row {number}, {differing[number]} (rtol {golden.rtol:g}, "
            f"atol {golden.atol:g}); {len(differing)} of {len(golden.rows)} rows differ. If the model is right, write "
            "its golden rows anew"
        )


def _differences(
    backend: Backend, golden: Golden, numbers: Sequence[int], length: int, sizes: Sequence[int]
) -> dict[int, str]:
    """Run these rows as one batch; what is wrong with each that differs, by its number."""
    spec = backend.spec
    rows = [golden.rows[number] for number in numbers]
    inputs = [_stacked([row.inputs[index] for row in rows], tensor, length) for index, tensor in enumerate(spec.inputs)]
    outputs = [blank((len(rows), *tensor.shape_at(length)), tensor.dtype) for tensor in spec.outputs]
    lengths = np.array([row.length for row in rows], np.int32) if spec.varies else None
    try:
        Rows(inputs, outputs, lengths, 0, len(rows)).run(backend.run, sizes)
    except BaseException as error:
        raise ModelLoadError(f"the model fails for its golden rows: {describe(error)}") from error
    found: dict[int, str] = {}
    for place, (number, row) in enumerate(zip(numbers, rows, strict=True)):
        for tensor, output, expected in zip(spec.outputs, outputs, row.outputs, strict=True):
            got = output[place, : row.length] if tensor.varies else output[place]
            difference = _difference(tensor.name, got, expected, golden)
            if difference:
                found.setdefault(number, difference)
    return found


def _stacked(rows: Sequence[Array], tensor: TensorSpec, length: int) -> Array:
    """Put rows into one array as the ring holds them: padded with zeros, and read-only."""
    stacked = blank((len(rows), *tensor.shape_at(length)), tensor.dtype)
    for number, row in enumerate(rows):
        if tensor.varies:
            stacked[number, : len(row)] = row
        else:
            stacked[number, ...] = row  # of a string itself, and not of the array around it
    stacked.flags.writeable = False
    return stacked


def _is_same_text(got: object, expected: str | bytes) -> bool:
    """A model may answer with str or bytes, whatever its schema calls strings."""
    text = expected if isinstance(expected, bytes) else expected.encode()
    return (got.encode() if isinstance(got, str) else got) == text


def _difference(name: str, got: Array, expected: Array, golden: Golden) -> str:
    """Say where an output differs first; empty when it does not."""
    if expected.dtype.kind == "f":
        wide = got.astype(np.float64), expected.astype(np.float64)
        same = np.isclose(*wide, rtol=golden.rtol, atol=golden.atol, equal_nan=True)
    elif expected.dtype.hasobject:
        got = np.asarray(got, object)  # of a scalar, NumPy has given the string itself
        same = np.asarray(np.frompyfunc(_is_same_text, 2, 1)(got, expected), bool)
    else:
        same = got == expected
    if same.all():
        return ""
    place = tuple(int(index) for index in np.argwhere(~np.asarray(same))[0])
    at = f"[{', '.join(map(str, place))}]" if place else ""
    # As text, and not by their format, which would widen float32 to digits that it does not have.
    return f"output {name!r}{at}: expected {expected[place]!s}, got {got[place]!s}"
