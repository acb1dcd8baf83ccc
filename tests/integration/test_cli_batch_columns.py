"""Which columns `penstock batch` takes: what it says of those that are no inputs, and of --keep and --drop."""

from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest

from tests.integration.asked_models import serve_models
from tests.integration.batches import FORMATS, Batch, batches_in
from tests.integration.test_cli_batch_keep import read_table, write_rows
from tests.serving import Server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = serve_models(tmp_path_factory.mktemp("models"))
    yield running
    running.stop()


@pytest.fixture
def batch(server: Server, tmp_path: Path) -> Batch:
    return batches_in(tmp_path, server.url)


@pytest.mark.parametrize("form", ["csv", "parquet"])
def test_columns_that_are_elements(batch: Batch, tmp_path: Path, form: str) -> None:
    names = ["id", "length", "width", "height", "depth", "target"]
    table = pa.table({name: pa.array([0.5, 0.25], pa.float32()) for name in names})
    if form == "parquet":
        pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    else:
        (tmp_path / "rows.csv").write_text(",".join(names) + "\n" + "0.5,1,1,1,1,x\n0.25,1,1,1,1,y\n")
    said = batch("iris", f"rows.{form}", status=2).stderr.decode()
    assert f"rows.{form} has 6 columns ('id', 'length', 'width', 'height', 'depth', 'target'), and iris takes" in said
    assert "4 columns, x float32[4]: add --keep COLUMN for what is to be carried into the output, or --drop" in said
    found = batch("iris", f"rows.{form}", "--to", "csv", "--keep", "id", "--drop", "target").stdout.splitlines()
    assert found[0] == b"id,species,score.0,score.1,score.2,error"
    assert [line.split(b",")[0] for line in found[1:]] == [b"0.5", b"0.25"]


def test_names_with_commas_and_blanks(batch: Batch, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text('"a,b",the id,age,income\n1,2,3,3\n')
    said = batch("loan", "rows.csv", status=2).stderr.decode()
    assert """add --keep '"a,b",the id' to carry them into the output, or --drop '"a,b",the id'""" in said
    found = batch("loan", "rows.csv", "--keep", '"a,b", the id').stdout.splitlines()
    assert found == [b'"a,b",the id,limit,terms.0,terms.1,error', b"1,2,1.0,3,4,"]


UNKNOWN = "which takes age int64, income float32: add --keep id to carry it into the output, or --drop id"


@pytest.mark.parametrize("form", list(FORMATS))
def test_columns_that_are_no_inputs_are_refused(batch: Batch, tmp_path: Path, form: str) -> None:
    file = tmp_path / f"rows.{FORMATS[form]}"
    write_rows(file, form)
    said = batch("loan", file.name, "-o", "a.csv", "--drop", "day,target", status=2).stderr.decode()
    assert f"{file.name}: the column 'number' is no input of loan, {UNKNOWN.replace('id', 'number')}" in said
    assert {each.name for each in tmp_path.iterdir()} - {"data"} == {file.name}


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["loan", "rows.csv"], f"rows.csv: the column 'id' is no input of loan, {UNKNOWN}"),
        (["loan", "rows.csv", "--keep", "id", "--drop", "id"], "'id' is in --keep and in --drop"),
        (["loan", "rows.csv", "--keep", "idd"], "--keep idd: rows.csv has no such column, but 'id', 'age', 'income'"),
        (["loan", "rows.csv", "--drop", "idd"], "--drop idd: rows.csv has no such column, but 'id', 'age', 'income'"),
        (["loan", "rows.csv", "--keep", "id,,x"], "--keep 'id,,x': expected names of columns with commas between"),
        (["loan", "rows.csv", "--drop", "age"], "--drop age: loan needs that input; it takes age int64, income"),
        (["person", "rows.csv", "--drop", "age"], "--drop age: person needs that input"),
        (["saying", "rows.csv", "--keep", "id,age,income"], "rows.csv has no column left that could be sent: saying"),
        (["loan", "limit.csv", "--keep", "limit"], "'limit' is a column of the output (not so with --to ndjson"),
        (["loan", "limit.csv", "--keep", "error"], "'error' is the output's column of errors; rename the column"),
        (["loan", "limit.csv", "--keep", "error", "--to", "ndjson"], "'error' is a member of every line of the outp"),
        (["loan", "limit.csv", "-o", "a.csv", "--errors", "e", "--keep", "row"], "'row' is a member of every line of"),
        (["loan", "headless.csv"], "float32 (the first line has to be a header): add --keep"),
        (["loan", "twice.csv", "--keep", "id"], "--keep id: twice.csv has 2 columns of that name"),
    ],
)
def test_what_is_wrong_is_a_sentence(batch: Batch, tmp_path: Path, arguments: list[str], said: str) -> None:
    (tmp_path / "rows.csv").write_text("id,age,income\n1,2,3\n")
    (tmp_path / "limit.csv").write_text("limit,error,row,age,income\n1,1,1,2,3\n")
    (tmp_path / "headless.csv").write_text("41,52000.0\n")
    (tmp_path / "twice.csv").write_text("id,id,age,income\n1,1,2,3\n")
    result = batch(*arguments, status=2)
    assert said in result.stderr.decode()
    assert result.stdout == b""


def test_names_that_clash_elsewhere_only(batch: Batch, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("limit,row,age,income\nl,r,2,3\n")
    found = batch("loan", "rows.csv", "--keep", "limit,row", "--to", "ndjson").stdout
    assert found == b'{"limit":"l","row":"r","outputs":{"limit":1.0,"terms":[2,3]}}\n'


def test_members_that_no_row_has_are_warned_of(batch: Batch, tmp_path: Path) -> None:
    (tmp_path / "rows.ndjson").write_text('{"age":1,"income":3}\n')
    result = batch("loan", "rows.ndjson", "--keep", "id")
    assert result.stdout == b'{"outputs":{"limit":1.0,"terms":[1,2]}}\n'
    assert b"warning: rows.ndjson: none of the first rows has a member 'id', which is kept or dropped" in result.stderr


def test_types_that_the_output_has_no_place_for(batch: Batch, tmp_path: Path) -> None:
    days = pa.array([pa.MonthDayNano([1, 2, 3])], pa.month_day_nano_interval())
    with pa.OSFile(str(tmp_path / "rows.arrow"), "wb") as target:
        table = pa.table({"id": days, "age": [1], "income": [3.0]})
        with pyarrow.ipc.new_file(target, table.schema) as writer:
            writer.write_table(table)
    said = batch("loan", "rows.arrow", "-o", "a.parquet", "--keep", "id", status=2).stderr.decode()
    assert "--keep id: parquet output has no place for its type, month_day_nano_interval" in said
    batch("loan", "rows.arrow", "-o", "a.arrow", "--keep", "id")
    assert read_table(tmp_path / "a.arrow", "arrow").column("id").to_pylist() == days.to_pylist()
