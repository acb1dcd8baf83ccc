"""`penstock batch --keep` and `--drop`: columns that are no inputs, past the model into the output or to nowhere."""

import csv
import datetime
import json
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest

from tests.integration.asked_models import serve_models
from tests.integration.batches import FORMATS, Batch, batches_in
from tests.serving import Server

ROWS = 1500  # two requests
BAD = 1100  # in the second of them
COLUMNAR = ("arrow", "arrow-stream", "parquet")
BIG = 2**62 + 1  # no float holds it
DAY = datetime.date(2026, 1, 1)


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = serve_models(tmp_path_factory.mktemp("models"))
    yield running
    running.stop()


@pytest.fixture
def batch(server: Server, tmp_path: Path) -> Batch:
    return batches_in(tmp_path, server.url)


def write_rows(file: Path, form: str) -> None:
    """Write loans with a number, a day and a target, of which one has no age."""
    numbers = range(ROWS)
    if form == "csv":
        lines = [f"{BIG + n},{n % 90 if n != BAD else 'x'},{DAY},00{n},{float(n)}" for n in numbers]
        file.write_text("\r\n".join(["number,age,day,target,income", *lines]) + "\r\n")
    elif form == "ndjson":
        rows = [
            {"number": BIG + n, "age": n % 90 if n != BAD else "x", "day": str(DAY), "target": [n], "income": n}
            for n in numbers
        ]
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        table = pa.table(
            {
                "number": pa.array([BIG + n for n in numbers], pa.int64()),
                "age": pa.array([None if n == BAD else n % 90 for n in numbers], pa.int32()),
                "day": pa.array([DAY] * ROWS, pa.date32()).dictionary_encode(),
                "target": pa.array([None] * ROWS, pa.decimal128(9, 2)),
                "income": pa.array(map(float, numbers), pa.float32()),
            }
        )
        if form == "parquet":
            pyarrow.parquet.write_table(table, file, row_group_size=700)
        else:
            new = pyarrow.ipc.new_file if form == "arrow" else pyarrow.ipc.new_stream
            with pa.OSFile(str(file), "wb") as target, new(target, table.schema) as writer:
                writer.write_table(table, max_chunksize=333)


def read_rows(file: Path, form: str) -> list[dict[str, Any]]:
    """Return each row of an output as one dict, its error by its code."""
    rows: list[dict[str, Any]]
    if form == "csv":
        with file.open(newline="") as lines:
            rows = [dict(row) for row in csv.DictReader(lines)]
    elif form == "ndjson":
        rows = [json.loads(line) for line in file.read_text().splitlines()]
        rows = [{**row, **row.pop("outputs", {})} for row in rows]
    else:
        rows = read_table(file, form).to_pylist()
    for row in rows:
        error = row.get("error")
        row["error"] = error["code"] if isinstance(error, dict) else error.split(": ")[1] if error else None
    return rows


def read_table(file: Path, form: str) -> pa.Table:
    if form == "parquet":
        return pyarrow.parquet.read_table(file)
    with pa.OSFile(str(file), "rb") as source:
        return (pyarrow.ipc.open_file if form == "arrow" else pyarrow.ipc.open_stream)(source).read_all()


@pytest.mark.parametrize("read", list(FORMATS))
def test_formats(batch: Batch, tmp_path: Path, read: str) -> None:
    source = tmp_path / f"rows.{FORMATS[read]}"
    write_rows(source, read)
    for to, suffix in FORMATS.items():
        batch("loan", source.name, "-o", f"a.{suffix}", "--keep", "day,number", "--drop", "target", status=1)
        rows = read_rows(tmp_path / f"a.{suffix}", to)
        typed_number = (read in COLUMNAR) if to in COLUMNAR else (to == "ndjson" and read != "csv")
        typed_day = read in COLUMNAR and to in COLUMNAR
        assert [row["number"] for row in rows] == [BIG + n if typed_number else str(BIG + n) for n in range(ROWS)]
        assert {row["day"] for row in rows} == {DAY if typed_day else str(DAY)}
        assert list(rows[0])[:2] == ["day", "number"]
        assert "target" not in rows[0]
        assert [n for n, row in enumerate(rows) if row["error"]] == [BAD]
        assert rows[BAD]["error"] == "invalid_input"
        assert float(rows[-1]["limit"]) == pytest.approx((ROWS - 1) / 3)


@pytest.mark.parametrize("read", ["csv", "ndjson", "parquet"])
def test_errors_in_a_file_of_their_own(batch: Batch, tmp_path: Path, read: str) -> None:
    write_rows(tmp_path / f"rows.{read}", read)
    for to, suffix in FORMATS.items():
        options = ("--keep", "number", "--drop", "day,target", "--errors", "bad.ndjson", "--restart")
        batch("loan", f"rows.{read}", "-o", f"a.{suffix}", *options, status=1)
        numbers = [int(row["number"]) for row in read_rows(tmp_path / f"a.{suffix}", to)]
        assert numbers == [BIG + n for n in range(ROWS) if n != BAD]
        (bad,) = map(json.loads, (tmp_path / "bad.ndjson").read_text().splitlines())
        assert list(bad)[:2] == ["number", "row"]
        assert (int(bad["number"]), bad["row"], bad["code"]) == (BIG + BAD, BAD, "invalid_input")


def test_text_of_csv_stays_as_it_is(batch: Batch, tmp_path: Path) -> None:
    ids = [b"007", b'"a, ""b"""', b'"two\nlines"', b" 1.50 ", b'5" pipe', b"", b'"  "', "ä".encode()]
    rows = [b"%b,%d,3" % (text, number) for number, text in enumerate(ids)]
    (tmp_path / "rows.csv").write_bytes(b"\r\n".join([b"id,age,income", *rows[:4], b"", *rows[4:], b"8", b"9,9,9,9"]))
    batch("loan", "rows.csv", "-o", "a.csv", "--keep", "id", status=1)
    expected = [b"%b,1.0,%d,%d," % (text, number, number + 1) for number, text in enumerate(ids)]
    said = b"malformed_body: the record has %d fields, the header 3"
    expected += [b'8,,,,"row 8: ' + said % 1 + b'"', b'9,,,,"row 9: ' + said % 4 + b'"']
    assert (tmp_path / "a.csv").read_bytes() == b"\n".join([b"id,limit,terms.0,terms.1,error", *expected, b""])
    batch("loan", "rows.csv", "-o", "a.ndjson", "--keep", "id", status=1)
    found = [json.loads(line)["id"] for line in (tmp_path / "a.ndjson").read_text().splitlines()]
    assert found == ["007", 'a, "b"', "two\nlines", " 1.50 ", '5" pipe', "", "  ", "ä", "8", "9"]


def test_bytes_that_are_no_text(batch: Batch, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_bytes(b"id,age,income\n\xe4,1,3\nb,2,6\n")
    batch("loan", "rows.csv", "-o", "a.csv", "--keep", "id")
    assert (tmp_path / "a.csv").read_bytes().splitlines()[1] == b"\xe4,1.0,1,2,"
    batch("loan", "rows.csv", "-o", "a.ndjson", "--keep", "id", status=1)
    first, second = [json.loads(line) for line in (tmp_path / "a.ndjson").read_text().splitlines()]
    assert first["error"]["detail"] == "the kept column 'id' is no UTF-8"
    assert second["id"] == "b"


def test_values_of_ndjson_stay_as_they_are(batch: Batch, tmp_path: Path) -> None:
    ids = ["123456789012345678901234567890", "1.10", '"007"', "null", '{"a": [1, "b"]}', r'"\u00e4"', "1e400"]
    lines = [f'{{"age":1,"id":{text},"income":3}}\n' for text in ids]
    lines += ['{"id": 8, "inputs": {"age": 1, "income": 3}}\n', '{"inputs": {"age": 1, "id": 9, "income": 3}}\n']
    lines += ['{"age":1,"income":3}\n', "[1, 3]\n", "{{\n"]
    (tmp_path / "rows.ndjson").write_text("".join(lines))
    batch("loan", "rows.ndjson", "-o", "a.ndjson", "--keep", "id", status=1)
    good = '"outputs":{"limit":1.0,"terms":[1,2]}}'
    found = (tmp_path / "a.ndjson").read_text().splitlines()
    assert found[:10] == [*(f'{{"id":{text},{good}' for text in [*ids, "8", "9"]), f"{{{good}"]
    errors = [json.loads(line)["error"] for line in found[10:]]
    assert [(error["row"], error["code"]) for error in errors] == [(10, "invalid_input"), (11, "malformed_body")]
    assert errors[0]["detail"].startswith("the row is no object that has id to keep: write it as {NAME: VALUE,")
    batch("loan", "rows.ndjson", "-o", "a.csv", "--keep", "id", status=1)
    with (tmp_path / "a.csv").open(newline="") as file:
        found = [row["id"] for row in csv.DictReader(file)]
    assert found == [*ids[:2], "007", "", ids[4], "ä", "1e400", "8", "9", "", "", ""]
    batch("loan", "rows.ndjson", "-o", "a.parquet", "--keep", "id", status=1)
    kept = read_table(tmp_path / "a.parquet", "parquet").column("id")
    assert kept.type == pa.string()
    assert kept.to_pylist() == [*ids[:2], "007", None, ids[4], "ä", "1e400", "8", "9", None, None, None]


def test_types_of_arrow(batch: Batch, tmp_path: Path) -> None:
    instant = datetime.datetime(2026, 1, 2, 3, 4, 5, 6, tzinfo=datetime.UTC)
    kept = {
        "when": pa.array([instant, None], pa.timestamp("ns", "UTC")),
        "price": pa.array([Decimal("1.10"), None], pa.decimal128(9, 2)),
        "raw": pa.array([b"\xff", None]),
        "tags": pa.array([["a", None], None]),
        "part": pa.array([{"a": 0.1}, None]),
        "ratio": pa.array([0.1, float("nan")], pa.float32()),
        "kind": pa.array(["a", None]).dictionary_encode(),
    }
    pyarrow.parquet.write_table(pa.table({**kept, "age": [1, 2], "income": [3.0, 6.0]}), tmp_path / "rows.parquet")
    options = [part for name in kept for part in ("--keep", name)]
    batch("loan", "rows.parquet", "-o", "a.arrow", *options)
    table = read_table(tmp_path / "a.arrow", "arrow")
    for name, column in kept.items():
        whole = column.dictionary_decode() if name == "kind" else column
        assert table.column(name).type == whole.type
        assert str(table.column(name).to_pylist()) == str(whole.to_pylist())
    assert table.column("limit").to_pylist() == [1.0, 2.0]
    batch("loan", "rows.parquet", "-o", "a.ndjson", *options)
    first, second = [json.loads(line) for line in (tmp_path / "a.ndjson").read_text().splitlines()]
    assert {name: first[name] for name in kept} == {
        "when": "2026-01-02 03:04:05.000006000Z",
        "price": "1.10",
        "raw": "/w==",
        "tags": ["a", None],
        "part": {"a": 0.1},
        "ratio": 0.1,
        "kind": "a",
    }
    assert {name: second[name] for name in kept} == {**dict.fromkeys(kept), "ratio": "NaN"}
    batch("loan", "rows.parquet", "-o", "a.csv", *options)
    assert (tmp_path / "a.csv").read_text().splitlines()[1:] == [
        '2026-01-02 03:04:05.000006000Z,1.10,/w==,"[""a"",null]","{""a"":0.1}",0.1,a,1.0,1,2,',
        ",,,,,NaN,,2.0,2,3,",
    ]


@pytest.mark.parametrize("form", ["csv", "ndjson", "parquet"])
def test_records(batch: Batch, tmp_path: Path, form: str) -> None:
    """What is kept may be a field, too; what is dropped may be one that has a default."""
    rows: list[dict[str, Any]] = [
        {"id": "a", "age": 7, "sex": "male", "tall": True, "comment": "x", "noise": 1},
        {"id": "b", "age": None, "sex": "female", "tall": True, "comment": "y", "noise": 2},
    ]
    file = tmp_path / f"rows.{form}"
    if form == "parquet":
        pyarrow.parquet.write_table(pa.Table.from_pylist(rows), file)
    elif form == "ndjson":
        file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    else:
        with file.open("w", newline="") as target:
            writer = csv.DictWriter(target, list(rows[0]))
            writer.writeheader()
            writer.writerows(rows)
    said = batch("person", file.name, "--to", "ndjson", "--keep", "id,sex", "--drop", "noise", "--drop", "tall")
    assert [json.loads(line) for line in said.stdout.splitlines()] == [
        {"id": "a", "sex": "male", "outputs": {"slots": [7.0, 1.0, 0.0], "comment": "x"}},
        {"id": "b", "sex": "female", "outputs": {"slots": ["NaN", 0.0, 0.0], "comment": "y"}},
    ]


def test_an_input_may_be_kept(batch: Batch, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("age,income\n007,3\n")
    assert batch("loan", "rows.csv", "--keep", "age", status=1).stdout.splitlines()[1].startswith(b"007,,,,")
    (tmp_path / "rows.csv").write_text("age,income\n7,3.0\n")
    assert batch("loan", "rows.csv", "--keep", "income,age").stdout.splitlines()[1] == b"3.0,7,1.0,7,8,"


def test_outputs_with_line_ends_are_counted_once(batch: Batch, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('id,text\n1,"a,\nb"\n2,c\n')
    said = batch("saying", "rows.csv", "-o", "a.csv", "--keep", "id")
    assert b"2 rows" in said.stderr
    assert (tmp_path / "a.csv").read_text() == 'id,loud,words,error\n1,"A,\nB",2,\n2,C,1,\n'
    batch("saying", "rows.csv", "-o", "b.csv", "--drop", "id")
    assert (tmp_path / "b.csv").read_text() == 'loud,words,error\n"A,\nB",2,\nC,1,\n'
