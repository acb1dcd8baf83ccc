"""The same records in every form that there is: all take and refuse the same rows, and make the same of them."""

import csv
import io
import json
import math
import random
import struct
import textwrap
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import msgpack
import pyarrow as pa
import pytest

from tests.serving import Server

# Answers with the slots that came.
ECHO = """
    from penstock.worker import Tensor

    class Model:
        inputs = {"slots": Tensor("float64", (10,))}
        outputs = {"slots": Tensor("float64", (10,))}

        def predict(self, batch):
            return dict(batch)
"""
RECORD = {
    "type": "object",
    "properties": {
        "number": {"type": ["number", "null"], "minimum": -5, "exclusiveMaximum": 1e6},
        "default": {"type": "number", "default": 2.5},
        "whole": {"type": "integer"},
        "flag": {"type": "boolean"},
        "closed": {"enum": ["a", "b", "ü"]},
        "open": {"type": ["string", "null"], "x-penstock": {"categories": ["x", "y"]}},
        "date": {"type": "string", "format": "date-time"},
        "hash": {"type": "string", "maxLength": 5, "x-penstock": {"hash": True}},
        "at": {
            "type": "object",
            "properties": {"x": {"type": "integer", "minimum": 0}, "y": {"type": ["number", "null"]}},
            "required": ["x"],
        },
    },
    "required": ["number", "whole", "flag", "closed", "open", "hash"],
    "additionalProperties": False,
}
# An empty string is null in CSV, and None is what has no value.
VALUES: Mapping[str, list[Any]] = {
    "number": [1.5, 0, -5, -6, 1e6, 999999.5, 1e-320, None],
    "default": [1.0, 7, None],
    "whole": [1, -3, 0, 1 << 53, (1 << 53) + 1, -(1 << 53) - 1],
    "flag": [True, False],
    "closed": ["a", "b", "ü", "z"],
    "open": ["x", "y", "other", None],
    "date": ["2020-02-29T12:00:00Z", "2020-02-29", "1969-12-31T23:59:59.25-07:30", "2016-12-31T23:59:60Z", "x", None],
    "hash": ["abc", "ünïcö", "longer", '"q"', "a,b"],
    "at.x": [1, -1, None],
    "at.y": [0.5, None],
}
NULLABLE = ("number", "open", "at.y")
BINARY = {"number": "d", "default": "d", "whole": "q", "flag": "?", "closed": "", "hash": "", "at.x": "d", "at.y": "d"}
DATATYPES = {"d": "FP64", "q": "INT64", "?": "BOOL", "": "BYTES"}
LINES = "application/x-ndjson"

Row = dict[str, Any]
# The slots, or the fields that are refused.
Outcome = tuple[Any, ...]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("agree")
    (folder / "m.py").write_text(textwrap.dedent(ECHO))
    (folder / "m.processing.json").write_text(json.dumps({"format": 1, "record": RECORD}))
    (folder / "penstock.toml").write_text(f'[[models]]\nname = "m"\npath = "{folder / "m.py"}"\n')
    running = Server.start(["--config", str(folder / "penstock.toml")], folder)
    yield running
    running.stop()


def post(server: Server, path: str, body: bytes, sent: str, wanted: str, **fields: str) -> bytes:
    head = {"Content-Type": sent, "Accept": wanted, **{name.replace("_", "-"): text for name, text in fields.items()}}
    reply = server.request("POST", path, body, head)
    assert reply.status == 200, reply.body
    return reply.body


def slots_of(values: list[Any]) -> Outcome:
    return tuple("NaN" if value == "NaN" or value != value else float(value) for value in values)


def fields_of(fault: Mapping[str, Any]) -> Outcome:
    return tuple(sorted(each["field"] for each in fault["errors"]))


def of_rows(document: Mapping[str, Any]) -> list[Outcome]:
    refused = {fault["row"]: fields_of(fault) for fault in document["errors"]}
    return [refused.get(row) or slots_of(out["slots"]) for row, out in enumerate(document["outputs"])]


def of_lines(lines: bytes) -> list[Outcome]:
    rows = [json.loads(line) for line in lines.splitlines()]
    return [fields_of(row["error"]) if "error" in row else slots_of(row["outputs"]["slots"]) for row in rows]


def of_columns(document: Mapping[str, Any]) -> list[Outcome]:
    slots = document["outputs"][0]["data"]
    faults = document.get("parameters", {}).get("row_errors", [])
    faults = json.loads(faults) if isinstance(faults, str) else faults
    refused = {fault["row"]: fields_of(fault) for fault in faults}
    return [refused.get(at // 10) or slots_of(slots[at : at + 10]) for at in range(0, len(slots), 10)]


def record_of(row: Row, *, nested: bool) -> Row:
    """Leave out what has no value and may not be null, and the object with nothing in it."""
    record: Row = {}
    for name, value in row.items():
        if value is None and (name not in NULLABLE or (name == "at.y" and row["at.x"] is None)):
            continue
        if nested and "." in name:
            record.setdefault("at", {})[name.removeprefix("at.")] = value
        else:
            record[name] = value
    return record


def in_json(server: Server, rows: list[Row]) -> list[Outcome]:
    body = json.dumps({"inputs": [record_of(row, nested=True) for row in rows]}).encode()
    return of_rows(json.loads(post(server, "/predict/batch?model=m", body, "application/json", "application/json")))


def by_paths(server: Server, rows: list[Row]) -> list[Outcome]:
    records = [dict(reversed(record_of(row, nested=False).items())) for row in rows]
    body = json.dumps({"inputs": records}, ensure_ascii=False).encode()
    return of_rows(json.loads(post(server, "/predict/batch?model=m", body, "application/json", "application/json")))


def in_msgpack(server: Server, rows: list[Row]) -> list[Outcome]:
    kind = "application/msgpack"
    body = msgpack.packb({"inputs": [record_of(row, nested=True) for row in rows]})
    return of_rows(msgpack.unpackb(post(server, "/predict/batch?model=m", body, kind, kind)))


def in_lines(server: Server, rows: list[Row]) -> list[Outcome]:
    body = "\n".join(json.dumps(record_of(row, nested=True)) for row in rows).encode()
    return of_lines(post(server, "/predict/batch?model=m", body, LINES, LINES))


def in_csv(server: Server, rows: list[Row]) -> list[Outcome]:
    text = io.StringIO()
    table = csv.writer(text)
    table.writerow(VALUES)
    table.writerows(["" if value is None else value for value in row.values()] for row in rows)
    return of_lines(post(server, "/predict/batch?model=m", text.getvalue().encode(), "text/csv", LINES))


def in_arrow(server: Server, rows: list[Row]) -> list[Outcome]:
    points = [{"x": row["at.x"], "y": row["at.y"]} for row in rows]
    whole = [None if point == {"x": None, "y": None} else point for point in points]
    columns = {name: pa.array([row[name] for row in rows]) for name in VALUES if "." not in name}
    columns["at"] = pa.array(whole, pa.struct([("x", pa.int64()), ("y", pa.float64())]))
    table, sink = pa.table(columns), io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    kind = "application/vnd.apache.arrow.stream"
    return of_lines(post(server, "/predict/batch?model=m", sink.getvalue(), kind, LINES))


def columns_in_json(server: Server, rows: list[Row]) -> list[Outcome]:
    return in_columns(server, rows, {})


def columns_in_binary(server: Server, rows: list[Row]) -> list[Outcome]:
    return in_columns(server, rows, BINARY)


def in_columns(server: Server, rows: list[Row], binary: Mapping[str, str]) -> list[Outcome]:
    inputs, behind = [], b""
    for name in VALUES:
        column: Row = {"name": name, "datatype": "BYTES", "shape": [len(rows)]}
        if name in binary:
            data = b"".join(packed(row[name], binary[name]) for row in rows)
            column |= {"datatype": DATATYPES[binary[name]], "parameters": {"binary_data_size": len(data)}}
            behind += data
        else:
            column["data"] = [row[name] for row in rows]
        inputs.append(column)
    head = json.dumps({"inputs": inputs, "parameters": {"row_errors": True}}).encode()
    fields = {"Inference_Header_Content_Length": str(len(head))} if behind else {}
    kind = "application/octet-stream" if behind else "application/json"
    return of_columns(json.loads(post(server, "/v2/models/m/infer", head + behind, kind, "application/json", **fields)))


def packed(value: Any, form: str) -> bytes:
    if form:
        return struct.pack(f"<{form}", math.nan if value is None else value)
    return struct.pack("<I", len(value.encode())) + value.encode()


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    "form",
    [by_paths, in_msgpack, in_lines, in_csv, in_arrow, columns_in_json, columns_in_binary],
    ids=lambda f: f.__name__,
)
def test_all_forms_agree(server: Server, form: Callable[[Server, list[Row]], list[Outcome]], seed: int) -> None:
    draw = random.Random(seed)
    rows = [{name: draw.choice(values) for name, values in VALUES.items()} for _ in range(200)]
    expected = in_json(server, rows)
    assert 10 < sum(len(outcome) == 10 for outcome in expected) < 190
    for row, got, wanted in zip(rows, form(server, rows), expected, strict=True):
        assert got == wanted, row
