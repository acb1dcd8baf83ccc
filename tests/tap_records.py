"""Records of the data plane's tap as Python reads them: TapRecord in dataplane/engine/tap_record.hpp."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

__all__ = ["LAYOUT", "RECORD_BYTES", "TapRecord", "records_of"]

LAYOUT = struct.Struct("<8Q4I2H4B16s8s8s8B128s128s64s64s64s48s48s512s")
RECORD_BYTES = LAYOUT.size
_METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "_OTHER")
_REASONS = ("idle", "full", "deadline", "delay", "requeued", "reproducible")
_CLASSES = ("interactive", "normal", "batch", "reproducible")
_ABORTED = 4
_HAS_PARENT = 8
_STREAMED = 16


@dataclass(frozen=True, slots=True)
class TapRecord:
    """One answered request. Times are nanoseconds since 1970; `taken_ns` is 0 when no batch was waited for.

    `status` is 0 when there was no answer. `batch` is equal for requests that shared one.
    """

    arrival_ns: int
    taken_ns: int
    run_ns: int
    done_ns: int
    replied_ns: int
    bytes_in: int
    bytes_out: int
    batch: int
    rows: int
    batch_rows: int
    padding_rows: int
    worker: int
    status: int
    aborted: bool
    streamed: bool
    reason: str
    row_class: str
    http_minor: int
    trace_id: bytes
    parent_id: bytes | None
    span_id: bytes
    method: str
    request_id: str
    path: str
    model: str
    version: str
    principal: str
    client: str
    code: str
    trace_state: str


def records_of(data: bytes) -> Iterator[TapRecord]:
    """Yield the records that lie one after the other in `data`; ValueError for half of one."""
    if len(data) % RECORD_BYTES:
        raise ValueError(f"{len(data)} bytes are no whole records of {RECORD_BYTES}")
    for values in LAYOUT.iter_unpack(data):
        yield _record(values)


def _record(values: tuple[Any, ...]) -> TapRecord:
    # In the order of the layout.
    status, state_bytes, flags, reason, row_class, http_minor, trace_id, parent_id, span_id, method = values[12:22]
    request_id, path, model, version, principal, client, code, trace_state = (
        text[:length].decode(errors="replace")
        for text, length in zip(values[29:], (*values[22:29], state_bytes), strict=True)
    )
    return TapRecord(
        arrival_ns=values[0],
        taken_ns=values[1],
        run_ns=values[2],
        done_ns=values[3],
        replied_ns=values[4],
        bytes_in=values[5],
        bytes_out=values[6],
        batch=values[7],
        rows=values[8],
        batch_rows=values[9],
        padding_rows=values[10],
        worker=values[11],
        status=status,
        aborted=bool(flags & _ABORTED),
        streamed=bool(flags & _STREAMED),
        reason=_name(_REASONS, reason),
        row_class=_name(_CLASSES, row_class),
        http_minor=http_minor,
        trace_id=trace_id,
        parent_id=parent_id if flags & _HAS_PARENT else None,
        span_id=span_id,
        method=_name(_METHODS, method),
        request_id=request_id,
        path=path,
        model=model,
        version=version,
        principal=principal,
        client=client,
        code=code,
        trace_state=trace_state,
    )


def _name(names: tuple[str, ...], index: int) -> str:
    return names[index] if index < len(names) else "unknown"
