"""Whether answers agree: of one row in several encodings, alone and among others, and asked twice."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

import penstock_client
from penstock.load.rows import TEXTS, TensorSpec
from penstock.testing.answers import as_array
from penstock.testing.asking import GoneError, ask, to_repeat
from penstock.testing.checks import Check, failed, passed, skipped
from penstock.testing.rows import PlainRow
from penstock.testing.target import Target
from penstock_client import Encoding

__all__ = ["check_batch", "check_binary", "check_msgpack", "check_repeated"]

GROUP = "fuzz"
_COMPARED_MAX = 50


def check_msgpack(title: str, target: Target, rows: Sequence[PlainRow], rtol: float, atol: float) -> Check:
    """Compare what JSON and msgpack answer, bit for bit."""
    del rtol, atol
    return _compared(title, target, rows, "msgpack", lambda row: row)


def check_binary(title: str, target: Target, rows: Sequence[PlainRow], rtol: float, atol: float) -> Check:
    """Compare what JSON and binary tensors answer, bit for bit."""
    del rtol, atol
    return _compared(title, target, rows, "binary", lambda row: _arrays(target, row))


def _compared(
    title: str,
    target: Target,
    rows: Sequence[PlainRow],
    encoding: Encoding,
    written: Callable[[PlainRow], Mapping[str, Any]],
) -> Check:
    compared, reason = 0, ""
    for row in rows[:_COMPARED_MAX]:
        try:
            other = ask(target, written(row), encoding, reproducible=True)
        except penstock_client.ArgumentError as error:
            reason = error.detail
            continue
        plain = ask(target, row, reproducible=True)
        what = ""
        if plain.status != 200 or other.status != 200:
            what = f"a row that was answered before is not: in JSON {plain}, in {encoding} {other}"
        for spec in target.outputs if not what else ():
            if not _same_bits(plain.outputs[spec.name], other.outputs[spec.name], spec):
                what = f"output {spec.name!r} in JSON is not that in {encoding}"
        if what:
            return failed(GROUP, title, f"{what}\n  {to_repeat(target, row)}")
        compared += 1
    if not compared:
        return skipped(GROUP, title, reason)
    return passed(GROUP, title, f"{compared} rows, bit for bit", {"rows": compared})


def check_repeated(title: str, target: Target, rows: Sequence[PlainRow], rtol: float, atol: float) -> Check:
    """Ask twice for a reproducible answer: it is the same, bit for bit."""
    del rtol, atol
    for row in rows[:_COMPARED_MAX]:
        first, second = (ask(target, row, reproducible=True) for _ in range(2))
        for spec in target.outputs:
            if second.status != 200 or not _same_bits(first.outputs[spec.name], second.outputs[spec.name], spec):
                what = f"output {spec.name!r} of the same row differs: the model does not depend on its inputs alone"
                return failed(GROUP, title, f"{what}\n  {to_repeat(target, row)}")
    return passed(GROUP, title, f"{min(len(rows), _COMPARED_MAX)} rows, bit for bit")


def check_batch(title: str, target: Target, rows: Sequence[PlainRow], rtol: float, atol: float) -> Check:
    """Compare rows alone with the same rows in one batch."""
    together = _batch(target, rows)
    worst = 0.0
    for number, row in enumerate(rows):
        alone = ask(target, row, reproducible=True)
        if alone.status != 200 or number in together.errors:
            what = f"{alone}" if alone.status != 200 else f"in a batch it is refused: {together.errors[number]}"
            return failed(GROUP, title, f"a row is answered once and not always: {what}\n  {to_repeat(target, row)}")
        among = together[number]
        for spec in target.outputs:
            one, other = as_array(alone.outputs[spec.name], spec), as_array(among[spec.name], spec)
            off = _excess(one, other, spec, rtol, atol)
            worst = max(worst, off if off < np.inf else worst)
            if off > 1:
                return failed(GROUP, title, f"{_difference(spec, one, other)}\n  {to_repeat(target, row)}")
    text = f"{len(rows)} rows, the largest difference is {worst:.2g} of what is allowed"
    return passed(GROUP, title, text, {"rows": len(rows), "worst": worst})


def _batch(target: Target, rows: Sequence[PlainRow]) -> penstock_client.BatchResult:
    try:
        return target.client.predict_batch(target.name, rows, version=target.version, encoding="json")
    except penstock_client.PenstockError as error:
        raise GoneError(str(error)) from error


def _difference(spec: TensorSpec, one: NDArray[Any], other: NDArray[Any]) -> str:
    if spec.dtype in TEXTS or spec.dtype == "bool":
        return f"output {spec.name!r} is not the same alone and in a batch"
    with np.errstate(invalid="ignore", over="ignore"):
        off = np.abs(one.astype(np.float64) - other.astype(np.float64))
    place = int(np.nanargmax(np.where(np.isnan(off), np.inf, off)))
    return f"output {spec.name!r} is {one[place]} alone and {other[place]} in a batch"


def _excess(one: NDArray[Any], other: NDArray[Any], spec: TensorSpec, rtol: float, atol: float) -> float:
    """Return the largest difference as a multiple of what is allowed; infinity where anything but floats differs."""
    if not spec.dtype.startswith("float"):
        return 0.0 if np.array_equal(one, other) else float("inf")
    a, b = one.astype(np.float64), other.astype(np.float64)
    same = (a == b) | (np.isnan(a) & np.isnan(b))
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        off = np.where(same, 0.0, np.abs(a - b) / (atol + rtol * np.abs(a)))
    return float(np.max(np.where(np.isnan(off), np.inf, off), initial=0.0))


def _same_bits(one: Any, other: Any, spec: TensorSpec) -> bool:
    a, b = as_array(one, spec), as_array(other, spec)
    if a.shape != b.shape:
        return False
    if spec.dtype in TEXTS:
        return bool((a == b).all())
    if a.dtype.kind == "f":  # NaN is NaN: JSON has only one
        a, b = (np.where(np.isnan(each), np.array(np.nan, each.dtype), each) for each in (a, b))
    return a.tobytes() == b.tobytes()


def _arrays(target: Target, row: Mapping[str, Any]) -> dict[str, NDArray[Any]]:
    """Return a row as arrays of the model's own types; ArgumentError where a value has no such form."""
    types = {spec.name: spec.dtype for spec in target.inputs}
    arrays = {}
    for name, value in row.items():
        if value is None or isinstance(value, dict):
            raise penstock_client.ArgumentError(f"{name} is {'null' if value is None else 'a picture'} in each row")
        dtype = types.get(name, "str")
        arrays[name] = np.asarray(value, object if dtype in TEXTS else dtype)
    return arrays
