"""Records end to end: through every door into the slots of a model with a plan, and what is said of misfits."""

import io
import json
import math
import struct
import textwrap
from collections.abc import Callable, Iterator
from datetime import date, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import msgpack
import numpy as np
import pyarrow as pa
import pytest
from jsonschema import Draft202012Validator
from pyarrow import parquet

from bench.wire import Reply, Wire
from penstock.core.written_file import WrittenFile
from penstock.native._kernels import hash_text
from penstock.processing.record import read_record
from penstock.processing.slots import slots_of
from penstock.processing.tables import read_table
from tests.serving import Server

JSON = {"Content-Type": "application/json"}
MSGPACK = {"Content-Type": "application/msgpack", "Accept": "application/msgpack"}
RAW = {"Content-Type": "application/octet-stream", "Accept": "application/octet-stream"}

# Answers with the slots that came, and the text.
ECHO = """
    from penstock.worker import Tensor

    class Model:
        inputs = {"slots": Tensor("float64", (6,)), "comment": Tensor("str"), "point": Tensor("float32", (2,))}
        outputs = {"slots": Tensor("float64", (6,)), "comment": Tensor("str"), "point": Tensor("float32", (2,))}

        def predict(self, batch):
            return dict(batch)
"""
NUMBERS = """
    from penstock.worker import Tensor

    class Model:
        inputs = {"slots": Tensor("float64", (3,))}
        outputs = {"slots": Tensor("float64", (3,))}

        def predict(self, batch):
            return dict(batch)
"""
PERSON = {
    "type": "object",
    "properties": {
        "age": {"type": ["integer", "null"], "minimum": 0, "maximum": 120},
        "sex": {"enum": ["female", "male"]},
        "address": {"$ref": "#/$defs/Address"},
        "born": {"type": "string", "format": "date-time"},
        "agent": {"type": "string", "x-penstock": {"hash": True}},
        "tall": {"type": "boolean", "default": False},
        "comment": {"type": "string", "maxLength": 20},
        "point": {"type": "array", "items": {"type": "number"}, "minItems": 2, "maxItems": 2},
    },
    "required": ["age", "sex", "comment", "point"],
    "additionalProperties": False,
    "$defs": {
        "Address": {"type": "object", "properties": {"city": {"enum": ["Ulm", "Bonn"]}}, "required": ["city"]},
    },
}
READING = {
    "level": {"type": ["number", "null"], "minimum": 0},
    "state": {"enum": ["low", "high"]},
    "open": {"type": "boolean", "default": True},
}
ROW = {
    "age": 22,
    "sex": "male",
    "address": {"city": "Bonn"},
    "born": "1990-02-03T10:00:00+02:00",
    "agent": "curl/8",
    "tall": True,
    "comment": "hello",
    "point": [1.5, -2],
}
SLOTS = [22.0, 1.0, 1.0, 634032000.0, float(hash_text("curl/8")), 1.0]


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("records")
    config = []
    for name, source, record in (("person", ECHO, PERSON), ("reading", NUMBERS, READING)):
        (folder / f"{name}.py").write_text(textwrap.dedent(source))
        plan = {"format": 1, "record": record}
        (folder / f"{name}.processing.json").write_text(json.dumps(plan))
        config += ["[[models]]", f'name = "{name}"', f'path = "{folder / f"{name}.py"}"']
    (folder / "penstock.toml").write_text("\n".join(config))
    running = Server.start(["--config", str(folder / "penstock.toml")], folder)
    yield running
    running.stop()


@pytest.fixture
def wire(records: Server, connect: Callable[..., Wire]) -> Wire:
    return connect(records)


def post(wire: Wire, members: Any, path: str = "/predict", fields: dict[str, str] = JSON) -> Any:
    body = msgpack.packb(members) if fields is MSGPACK else json.dumps(members).encode()
    return read(wire.ask("POST", path, body, fields))


def read(reply: Reply) -> Any:
    assert reply.status == 200, reply.body
    return msgpack.unpackb(reply.body) if reply.body[:1] != b"{" else reply.json()


@pytest.mark.parametrize("fields", [JSON, MSGPACK])
def test_a_record_becomes_slots(wire: Wire, fields: dict[str, str]) -> None:
    outputs = post(wire, {"model": "person", "inputs": ROW}, fields=fields)["outputs"]
    assert outputs == {"slots": SLOTS, "comment": "hello", "point": [1.5, -2.0]}


@pytest.mark.parametrize("fields", [JSON, MSGPACK])
def test_rows_of_many_are_refused_one_by_one(wire: Wire, fields: dict[str, str]) -> None:
    rows = [ROW, {**ROW, "age": 121, "sex": "f"}, {**ROW, "age": None}]
    reply = post(wire, {"model": "person", "inputs": rows}, "/predict/batch", fields)
    assert reply["outputs"][0]["slots"] == SLOTS
    assert reply["outputs"][1] is None
    assert reply["outputs"][2]["slots"][0] == "NaN" or math.isnan(reply["outputs"][2]["slots"][0])
    (fault,) = reply["errors"]
    assert (fault["row"], fault["code"]) == (1, "invalid_input")
    assert [(each["field"], each["rule"]) for each in fault["errors"]] == [("age", "maximum"), ("sex", "enum")]


def test_all_faults_are_told_at_once(wire: Wire) -> None:
    row = {**ROW, "age": "22", "address": {}, "other": 1, "born": "yesterday", "comment": "x" * 21, "point": [1]}
    del row["sex"]
    reply = wire.ask("POST", "/predict", json.dumps({"model": "person", "inputs": row}).encode(), JSON)
    problem = reply.json()
    assert (reply.status, problem["code"]) == (422, "invalid_input")
    broken = {each["field"]: each["rule"] for each in problem["errors"]}
    assert broken == {
        "age": "type",
        "sex": "required",
        "address.city": "required",
        "born": "format",
        "comment": "maxLength",
        "point": "items",
        "other": "additionalProperties",
    }
    age = next(each for each in problem["errors"] if each["field"] == "age")
    assert age["detail"] == 'expected a whole number from 0 up to 120, or null, got "22"'
    assert problem["detail"].startswith("age: expected a whole number")


def test_lines_are_records(records: Server) -> None:
    lines = "\n".join(json.dumps(row) for row in (ROW, {**ROW, "age": -1}, {"inputs": ROW}))
    reply = records.request(
        "POST", "/predict/batch?model=person", lines.encode(), {"Content-Type": "application/x-ndjson"}
    )
    assert reply.status == 200, reply.body
    first, second, third = (json.loads(line) for line in reply.body.splitlines())
    assert first["outputs"]["slots"] == third["outputs"]["slots"] == SLOTS
    assert second["error"]["errors"][0]["field"] == "age"


def test_columns_of_csv_are_fields(records: Server) -> None:
    text = (
        "sex,address.city,age,comment,point.0,point.1\n"
        "male,Ulm,,hi,1,2\n"  # no age
        'female,Bonn,7,"a, b",3,4\n'
        "male,Rome,nan,,5,6\n"
    )
    reply = records.request(
        "POST",
        "/predict/batch?model=person",
        text.encode(),
        {"Content-Type": "text/csv", "Accept": "application/x-ndjson"},
    )
    assert reply.status == 200, reply.body
    first, second, third = (json.loads(line) for line in reply.body.splitlines())
    assert first["outputs"]["slots"] == ["NaN", 1.0, 0.0, "NaN", "NaN", 0.0]
    assert second["outputs"]["slots"] == [7.0, 0.0, 1.0, "NaN", "NaN", 0.0]
    assert second["outputs"]["comment"] == "a, b"
    assert [each["field"] for each in third["error"]["errors"]] == ["address.city"]


def answers_of(records: Server, model: str, body: bytes, media_type: str) -> list[Any]:
    reply = records.request(
        "POST",
        f"/predict/batch?model={model}",
        body,
        {"Content-Type": media_type, "Accept": "application/x-ndjson"},
    )
    assert reply.status == 200, reply.body
    return [json.loads(line) for line in reply.body.splitlines()]


def test_empty_fields_of_csv_are_absent_where_they_may_be(records: Server) -> None:
    text = b"open,state,level\n,low,\nTrue,high,1\nFALSE,,2\n"
    first, second, third = answers_of(records, "reading", text, "text/csv")
    assert first["outputs"]["slots"] == ["NaN", 0.0, 1.0]
    assert second["outputs"]["slots"] == [1.0, 1.0, 1.0]
    assert [each["field"] for each in third["error"]["errors"]] == ["state"]
    text = b"address.city,tall,sex,age,comment,point.0,point.1,born,agent\n,,male,3,hi,1,2,,\nUlm,true,male,3,,1,2,,x\n"
    first, second = answers_of(records, "person", text, "text/csv")
    assert first["outputs"]["slots"] == [3.0, 1.0, "NaN", "NaN", float(hash_text("")), 0.0]
    assert second["outputs"]["slots"] == [3.0, 1.0, 0.0, "NaN", float(hash_text("x")), 1.0]


def arrow_of(columns: dict[str, Any]) -> bytes:
    table = pa.table(columns)
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    return sink.getvalue()


def test_nulls_and_structs_of_arrow_are_absent_fields_and_objects(records: Server) -> None:
    kind = "application/vnd.apache.arrow.stream"
    body = arrow_of({"state": ["low", "high"], "level": [1.0, 2.0], "open": [None, False]})
    first, second = answers_of(records, "reading", body, kind)
    assert (first["outputs"]["slots"], second["outputs"]["slots"]) == ([1.0, 0.0, 1.0], [2.0, 1.0, 0.0])
    person = {"age": [1, 22], "sex": ["male", "male"], "comment": ["a", "b"], "point": [[1.0, 2.0], [3.0, 4.0]]}
    for city in ({"address.city": ["Bonn", None]}, {"address": [{"city": "Bonn"}, None]}):
        first, second = answers_of(records, "person", arrow_of({**person, **city}), kind)
        assert first["outputs"]["slots"][2] == 1.0
        assert second["outputs"]["slots"][2] == "NaN"
    born = [datetime(1990, 2, 3, 8, 0, 0, 500000), None]
    zoned = [datetime(1990, 2, 3, 10, 0, 0, 500000, timezone(timedelta(hours=2))), None]
    for moments, at in (
        (pa.array(born, pa.timestamp("ns")), 634032000.5),
        (pa.array(zoned, pa.timestamp("ms", "+02:00")), 634032000.5),
        (pa.array([date(1990, 2, 3), None]), 634003200.0),
    ):
        first, second = answers_of(records, "person", arrow_of({**person, "born": moments}), kind)
        assert (first["outputs"]["slots"][3], second["outputs"]["slots"][3]) == (at, "NaN")
    (refused,) = answers_of(records, "reading", arrow_of({"level": [1.0], "state": [None], "open": [True]}), kind)
    assert [each["field"] for each in refused["error"]["errors"]] == ["state"]


def test_raw_slots(wire: Wire) -> None:
    row = struct.pack("<3d", 1.5, 1, math.nan)
    reply = wire.ask("POST", "/predict?model=reading", row, RAW)
    assert struct.unpack("<3d", reply.body) == (1.5, 1.0, 1.0)  # its default
    reply = wire.ask("POST", "/predict?model=reading", row + struct.pack("<3d", 2.5, 0, 0), RAW)
    assert struct.unpack("<6d", reply.body) == (1.5, 1.0, 1.0, 2.5, 0.0, 0.0)
    reply = wire.ask("POST", "/predict?model=reading", struct.pack("<3d", -1, 2, 0.5), RAW)
    assert reply.status == 422
    assert [each["field"] for each in reply.json()["errors"]] == ["level", "state", "open"]
    reply = wire.ask("POST", "/predict?model=reading", row + struct.pack("<3d", 1, 2, 0), RAW)
    assert (reply.status, reply.json()["detail"][:14]) == (422, "row 1: state: ")


def infer(wire: Wire, model: str, inputs: list[Any], behind: bytes = b"") -> Reply:
    head = json.dumps({"inputs": inputs}).encode()
    fields = {"Inference-Header-Content-Length": str(len(head))} if behind else {}
    return wire.ask("POST", f"/v2/models/{model}/infer", head + behind, fields)


def test_fields_are_inputs_of_the_open_inference_protocol(wire: Wire) -> None:
    metadata = wire.ask("GET", "/v2/models/person").json()
    assert metadata["inputs"][0] == {"name": "age", "datatype": "INT64", "shape": [-1]}
    assert {"name": "address.city", "datatype": "BYTES", "shape": [-1]} in metadata["inputs"]
    inputs = [
        {"name": "sex", "datatype": "BYTES", "shape": [2], "data": ["male", "female"]},
        {"name": "age", "datatype": "INT64", "shape": [2, 1], "data": [[22], [None]]},
        {"name": "point", "datatype": "FP32", "shape": [2, 2], "data": [1, 2, 3, 4]},
        {"name": "comment", "datatype": "BYTES", "shape": [2], "data": ["a", "b"]},
        {"name": "address.city", "datatype": "BYTES", "shape": [2], "data": ["Bonn", "Ulm"]},
    ]
    outputs = {each["name"]: each["data"] for each in infer(wire, "person", inputs).json()["outputs"]}
    assert outputs["slots"] == [22.0, 1.0, 1.0, "NaN", "NaN", 0.0, "NaN", 0.0, 0.0, "NaN", "NaN", 0.0]
    assert outputs["comment"] == ["a", "b"]
    assert outputs["point"] == [1.0, 2.0, 3.0, 4.0]
    reply = infer(wire, "person", [*inputs[1:], {**inputs[0], "data": ["male", "f"]}])
    assert reply.json()["detail"].startswith("row 1: sex: expected one of")
    assert reply.json()["errors"][0]["rule"] == "enum"
    assert infer(wire, "person", inputs[:1]).json()["detail"].startswith("row 0: age: missing")
    short = infer(wire, "person", [{**inputs[0], "data": ["male"]}, *inputs[1:]])
    assert (short.status, short.json()["detail"]) == (422, "inputs.sex: data: fewer elements than there are rows")


def test_binary_fields_of_the_open_inference_protocol(wire: Wire) -> None:
    levels = struct.pack("<2f", 0.5, math.nan)
    states = b"".join(struct.pack("<I", len(text)) + text for text in (b"high", b"low"))
    inputs = [
        {"name": name, "datatype": datatype, "shape": [2], "parameters": {"binary_data_size": len(data)}}
        for name, datatype, data in (("level", "FP32", levels), ("state", "BYTES", states), ("open", "BOOL", b"\0\1"))
    ]
    reply = infer(wire, "reading", inputs, levels + states + b"\0\1")
    assert reply.json()["outputs"][0]["data"] == [0.5, 1.0, 0.0, "NaN", 0.0, 1.0]
    reply = infer(wire, "reading", inputs, levels + states + b"\0\2")
    assert reply.json()["detail"].startswith("row 1: open: expected true or false")


def test_rows_of_the_open_inference_protocol_may_fail_alone(wire: Wire) -> None:
    inputs = [
        {"name": "level", "datatype": "FP64", "shape": [3], "data": [1, -1, 2]},
        {"name": "state", "datatype": "BYTES", "shape": [3], "data": ["low", "high", "none"]},
    ]
    body = json.dumps({"inputs": inputs, "parameters": {"row_errors": True}}).encode()
    reply = read(wire.ask("POST", "/v2/models/reading/infer", body, {}))
    assert reply["outputs"][0]["data"] == [1.0, 0.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0]
    faults = reply["parameters"]["row_errors"]
    faults = json.loads(faults) if isinstance(faults, str) else faults
    assert [(each["row"], each["errors"][0]["field"]) for each in faults] == [(1, "level"), (2, "state")]


def test_columns_of_arrow_are_fields(records: Server) -> None:
    table = pa.table(
        {
            "state": ["low", "high", "high", "none"],
            "level": pa.array([1.5, None, math.nan, 2.0], pa.float64()),
        }
    )
    sink = io.BytesIO()
    with pa.ipc.new_stream(sink, table.schema) as writer:
        writer.write_table(table)
    reply = records.request(
        "POST",
        "/predict/batch?model=reading",
        sink.getvalue(),
        {"Content-Type": "application/vnd.apache.arrow.stream", "Accept": "application/x-ndjson"},
    )
    assert reply.status == 200, reply.body
    first, second, third, fourth = (json.loads(line) for line in reply.body.splitlines())
    assert first["outputs"]["slots"] == [1.5, 0.0, 1.0]
    assert second["outputs"]["slots"] == ["NaN", 1.0, 1.0]
    assert third["outputs"]["slots"] == ["NaN", 1.0, 1.0]
    assert fourth["error"]["errors"][0]["field"] == "state"


def rows_of(records: Server, body: bytes, media_type: str) -> list[Any]:
    """Return the slots of each row, or None."""
    fields = {"Content-Type": media_type, "Accept": "application/x-ndjson"}
    reply = records.request("POST", "/predict/batch?model=person", body, fields)
    assert reply.status == 200, reply.body
    outputs = [json.loads(line).get("outputs") for line in reply.body.splitlines()]
    return [None if each is None else [float(slot) for slot in each["slots"]] for each in outputs]


def same_slots(records: Server, file: Path, media_type: str) -> None:
    """Check that a file has the same slots online as offline."""
    record = read_record(WrittenFile(file, "plan", 1 << 20), PERSON)
    online = rows_of(records, file.read_bytes(), media_type)
    assert None not in online
    offline = slots_of(record, read_table(file, record))
    assert np.array_equal(np.array(online), offline, equal_nan=True)


def test_a_file_of_csv_is_the_same_offline(records: Server, tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(
        "\ufeffage, sex,address.city,born,agent,tall,comment,point.0,point.1\n"
        "1,male,Ulm,1969-12-31T23:59:59.999Z,,true,hi,1,2\n"
        "\n"
        'nan,female,Bonn,2024-01-31t10:00:00.123456789+01:00,"a ""b"", c", false ,"x,\ny",3,4\n'
        " 7 ,male,Ulm,2016-12-31T23:59:60Z,7,true,,1,2\n",
        "utf-8",
    )
    same_slots(records, file, "text/csv")


@pytest.mark.parametrize("zone", [None, "UTC", "Asia/Tokyo"])
@pytest.mark.parametrize("unit", ["s", "us", "ns"])
def test_a_file_of_parquet_is_the_same_offline(records: Server, tmp_path: Path, unit: str, zone: str | None) -> None:
    file = tmp_path / "rows.parquet"
    moments = np.array(["1969-12-31T23:59:59.999", "2024-01-31T10:00:00.123456789"], "datetime64[ns]")
    columns = {
        "age": pa.array([1, None]),
        "sex": pa.array(["male", "female"]).dictionary_encode(),
        "address": pa.array([{"city": "Ulm"}, {"city": "Bonn"}]),
        "born": pa.array(moments).cast(pa.timestamp(unit), safe=False).cast(pa.timestamp(unit, zone)),
        "agent": ["", "curl"],
        "tall": [True, False],
        "comment": ["", "x"],
        "point": pa.array([[1.0, 2.0], [3.0, 4.0]]),
    }
    parquet.write_table(pa.table(columns), file)
    same_slots(records, file, "application/vnd.apache.parquet")


def test_the_schema_is_public(wire: Wire) -> None:
    (version,) = wire.ask("GET", "/models/person").json()["versions"]
    assert {"name": "born", "dtype": "str", "shape": []} in version["inputs"]
    Draft202012Validator(version["record"]).validate(ROW)
    components = wire.ask("GET", "/openapi.json").json()["components"]
    assert components["schemas"]["person.record"]["properties"] == PERSON["properties"]
    request = components["examples"]["reading.request"]["value"]
    assert post(wire, request)["outputs"]["slots"] == [0.0, 0.0, 1.0]
    assert post(wire, components["examples"]["person.request"]["value"])["model"] == "person"
