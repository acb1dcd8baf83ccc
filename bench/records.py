"""Records of 20 mixed fields, read and checked: by the data plane's reader, by msgspec and by pydantic.

All three check what the record says: types, bounds and categories. Ours makes slots, the others make objects.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any, Literal

import msgspec
import numpy as np
import pydantic

from penstock.core.written_file import WrittenFile
from penstock.native._dataplane import RecordReader
from penstock.processing.described import described
from penstock.processing.record import read_record

__all__ = ["time_records"]

NUMBERS = tuple(f"number{place}" for place in range(10))
CATEGORIES = tuple(f"category{place}" for place in range(5))
WORDS = ("ash", "elm", "oak", "yew", "fir", "box", "bay", "fig")
Word = Literal["ash", "elm", "oak", "yew", "fir", "box", "bay", "fig"]
ROW: dict[str, Any] = {
    **{name: None if place == 3 else place * 7 + 0.31 for place, name in enumerate(NUMBERS)},
    **{name: WORDS[place + 2] for place, name in enumerate(CATEGORIES)},
    "rooms": 4,
    "floor": -1,
    "owned": True,
    "sold": "2026-01-31T12:00:00Z",
    "agent": "smith & sons, Ulm",
}
OTHERS: tuple[tuple[str, Any], ...] = (
    ("rooms", int | None),
    ("floor", int | None),
    ("owned", bool | None),
    ("sold", datetime | None),
    ("agent", str | None),
)


def time_records(rounds: int, seconds: float) -> dict[str, float]:
    """Return nanoseconds of CPU a row by who read it, the median of the rounds, which are taken in turns."""
    jobs = _jobs()
    times: dict[str, list[float]] = {name: [] for name in jobs}
    for _ in range(rounds):
        for name, job in jobs.items():
            times[name].append(_ns_each(job, seconds))
    return {name: float(np.median(each)) for name, each in times.items()}


def _jobs() -> dict[str, Callable[[], object]]:
    reader = RecordReader(described(read_record(WrittenFile(Path("bench"), "plan", 0), _schema())))
    body = json.dumps({"inputs": ROW}, separators=(",", ":")).encode()
    packed = msgspec.msgpack.encode({"inputs": ROW})
    if reader.read(body)[0] is None or reader.read(packed, True)[0] is None:
        raise AssertionError("the row is refused")
    bare, packed_row = json.dumps(ROW, separators=(",", ":")).encode(), msgspec.msgpack.encode(ROW)
    struct = _struct()
    from_json: msgspec.json.Decoder[Any] = msgspec.json.Decoder(struct)
    from_msgpack: msgspec.msgpack.Decoder[Any] = msgspec.msgpack.Decoder(struct)
    model = _model()
    return {
        "penstock, JSON": lambda: reader.read(body),
        "penstock, msgpack": lambda: reader.read(packed, True),
        "msgspec, JSON": lambda: from_json.decode(bare),
        "msgspec, msgpack": lambda: from_msgpack.decode(packed_row),
        "pydantic, JSON": lambda: model.model_validate_json(bare),
    }


def _schema() -> dict[str, Any]:
    properties: dict[str, Any] = {name: {"type": ["number", "null"], "minimum": 0} for name in NUMBERS}
    properties |= {name: {"enum": [*WORDS, None]} for name in CATEGORIES}
    properties |= {name: {"type": ["integer", "null"]} for name in ("rooms", "floor")}
    properties["owned"] = {"type": ["boolean", "null"]}
    properties["sold"] = {"type": ["string", "null"], "format": "date-time"}
    properties["agent"] = {"type": ["string", "null"], "x-penstock": {"hash": True}}
    return {"type": "object", "properties": properties, "required": [*properties], "additionalProperties": False}


def _struct() -> type:
    number = Annotated[float, msgspec.Meta(ge=0)] | None
    fields = [*((name, number) for name in NUMBERS), *((name, Word | None) for name in CATEGORIES), *OTHERS]
    return msgspec.defstruct("Row", fields, forbid_unknown_fields=True)


def _model() -> type[pydantic.BaseModel]:
    number = Annotated[float, pydantic.Field(ge=0)] | None
    fields: dict[str, Any] = dict.fromkeys(NUMBERS, (number, ...))
    fields |= dict.fromkeys(CATEGORIES, (Word | None, ...)) | {name: (kind, ...) for name, kind in OTHERS}
    return pydantic.create_model("Row", __config__=pydantic.ConfigDict(extra="forbid"), **fields)


def _ns_each(job: Callable[[], object], seconds: float) -> float:
    calls, start = 0, time.thread_time_ns()
    while (spent := time.thread_time_ns() - start) < seconds * 1e9:
        for _ in range(100):
            job()
        calls += 100
    return spent / calls
