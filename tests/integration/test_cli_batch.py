"""`penstock batch`: every format into every other, and what it says when something is wrong."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pyarrow as pa
import pyarrow.ipc
import pyarrow.parquet
import pytest

from tests.integration.asked_models import serve_models
from tests.integration.batches import BATCH_SECONDS, FORMATS, Batch, batches_in
from tests.integration.test_cli_predict import on_a_terminal
from tests.serving import Server
from tests.unit.test_cli import penstock

ROWS = 2500  # three requests
BAD = 1700  # in the second of them


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    running = serve_models(tmp_path_factory.mktemp("models"))
    yield running
    running.stop()


@pytest.fixture
def batch(server: Server, tmp_path: Path) -> Batch:
    return batches_in(tmp_path, server.url)


def loans() -> list[dict[str, object]]:
    return [{"age": number % 90, "income": float(number)} for number in range(ROWS)]


def write_loans(file: Path) -> None:
    """Write rows of which one has an age that is none: a word, or null where columns have types."""
    rows = loans()
    form = file.suffix.removeprefix(".")
    if form in ("csv", "ndjson"):
        rows[BAD]["age"] = "x"
        lines = [f"{row['income']},{row['age']}" if form == "csv" else json.dumps(row) for row in rows]
        file.write_text("\n".join(["income,age", *lines] if form == "csv" else lines) + "\n")
        return
    ages = pa.array([None if number == BAD else row["age"] for number, row in enumerate(rows)], pa.int32())
    table = pa.table({"age": ages, "income": pa.array([row["income"] for row in rows], pa.float64())})
    if form == "parquet":
        pyarrow.parquet.write_table(table, file, row_group_size=700)
    else:
        new = pyarrow.ipc.new_file if form == "arrow" else pyarrow.ipc.new_stream
        with pa.OSFile(str(file), "wb") as target, new(target, table.schema) as writer:
            writer.write_table(table, max_chunksize=333)


def read_answers(file: Path) -> list[tuple[float, list[int]] | str]:
    """Return for each row its outputs, or the code of its error with its number."""
    form = file.suffix.removeprefix(".")
    found: list[tuple[float, list[int]] | str] = []
    if form == "csv":
        with file.open(newline="") as lines:
            for record in csv.DictReader(lines):
                if record.get("error"):
                    number, code, _ = record["error"].split(": ", 2)
                    found.append(f"{code} {number}")
                else:
                    found.append((float(record["limit"]), [int(record["terms.0"]), int(record["terms.1"])]))
        return found
    if form == "ndjson":
        listed = [json.loads(line) for line in file.read_text().splitlines()]
        rows = [{**row.get("outputs", {}), "error": row.get("error")} for row in listed]
    elif form == "parquet":
        rows = pyarrow.parquet.read_table(file).to_pylist()
    else:
        with pa.OSFile(str(file), "rb") as source:
            opened = pyarrow.ipc.open_file if form == "arrow" else pyarrow.ipc.open_stream
            rows = opened(source).read_all().to_pylist()
    for row in rows:
        error = row.get("error")
        found.append(f"{error['code']} row {error['row']}" if error else (row["limit"], row["terms"]))
    return found


def expected() -> list[tuple[float, list[int]] | str]:
    found: list[tuple[float, list[int]] | str] = []
    for number, row in enumerate(loans()):
        age = int(str(row["age"]))
        found.append((pytest.approx(number / 3, rel=1e-6), [age, age + 1]))
    found[BAD] = f"invalid_input row {BAD}"
    return found


@pytest.mark.parametrize("to", list(FORMATS))
@pytest.mark.parametrize("read", list(FORMATS))
def test_formats(batch: Batch, tmp_path: Path, read: str, to: str) -> None:
    source, target = tmp_path / f"rows.{FORMATS[read]}", tmp_path / f"answers.{FORMATS[to]}"
    write_loans(source)
    said = json.loads(batch("loan", source.name, "-o", target.name, "--json", status=1).stdout)
    assert {name: said[name] for name in ("output", "model", "version", "rows", "failed", "kept")} == {
        "output": target.name,
        "model": "loan",
        "version": "1",
        "rows": ROWS,
        "failed": 1,
        "kept": 0,
    }
    assert read_answers(target) == expected()
    assert {file.name for file in tmp_path.iterdir()} - {"data"} == {source.name, target.name}


@pytest.mark.parametrize("to", list(FORMATS))
def test_errors_in_a_file_of_their_own(batch: Batch, tmp_path: Path, to: str) -> None:
    for read in ("csv", "ndjson", "parquet"):
        source, target = tmp_path / f"rows.{read}", tmp_path / f"{read}.{FORMATS[to]}"
        write_loans(source)
        result = batch("loan", source.name, "-o", target.name, "--errors", "bad.ndjson", "--restart", status=1)
        assert result.stderr.decode().startswith(f"{target.name}: {ROWS:,} rows, 1 of them failed, ")
        good = expected()
        del good[BAD]
        assert read_answers(target) == good
        (bad,) = map(json.loads, (tmp_path / "bad.ndjson").read_text().splitlines())
        assert (bad["row"], bad["code"]) == (BAD, "invalid_input")
        assert "error" not in target.read_bytes()[:200].decode("latin-1")


def test_pipes(batch: Batch, tmp_path: Path) -> None:
    write_loans(tmp_path / "rows.csv")
    content = (tmp_path / "rows.csv").read_bytes()
    batch("loan", "rows.csv", "-o", "answers.csv", status=1)
    batch("loan", "rows.csv", "-o", "answers.ndjson", status=1)
    in_both = batch("loan", "-", "--from", "csv", stdin=content, status=1)
    assert in_both.stdout == (tmp_path / "answers.csv").read_bytes()
    assert in_both.stderr.decode().startswith(f"standard output: {ROWS:,} rows, 1 of them failed")
    assert batch("loan", "rows.csv", "--to", "ndjson", status=1).stdout == (tmp_path / "answers.ndjson").read_bytes()
    batch("loan", "-", "--from", "csv", "-o", "piped.csv", stdin=content, status=1)
    assert (tmp_path / "piped.csv").read_bytes() == in_both.stdout
    stream = batch("loan", "rows.csv", "--to", "arrow-stream", status=1).stdout
    assert pyarrow.ipc.open_stream(stream).read_all().num_rows == ROWS


def test_lines_that_are_none_fail_alone(batch: Batch, tmp_path: Path) -> None:
    (tmp_path / "rows.ndjson").write_text('{"age": 1, "income": 3}\n{{\n\n{"inputs": {"age": 2, "income": 3}}')
    batch("loan", "rows.ndjson", "-o", "answers.ndjson", status=1)
    found = [json.loads(line) for line in (tmp_path / "answers.ndjson").read_text().splitlines()]
    assert [row["error"]["code"] if "error" in row else row["outputs"]["terms"][0] for row in found] == [
        1,
        "malformed_body",
        2,
    ]


def test_line_ends_inside_fields(batch: Batch, tmp_path: Path) -> None:
    texts = [f'a "{number}"\nb' if number % 7 == 0 else f"c{number}" for number in range(3000)]
    with (tmp_path / "rows.csv").open("w", newline="") as file:
        csv.writer(file).writerows([["text"], *([text] for text in texts)])
    for form in ("csv", "ndjson"):
        batch("saying", "rows.csv", "-o", f"answers.{form}")
    with (tmp_path / "answers.csv").open(newline="") as file:
        assert [row["loud"] for row in csv.DictReader(file)] == [text.upper() for text in texts]
    lines = (tmp_path / "answers.ndjson").read_text().splitlines()
    assert [json.loads(line)["outputs"]["loud"] for line in lines] == [text.upper() for text in texts]


def test_rows_larger_than_a_request(batch: Batch, tmp_path: Path) -> None:
    texts = ["x" * 700, "y" * 300_000, "z"] * 3
    (tmp_path / "rows.ndjson").write_text("".join(json.dumps(text) + "\n" for text in texts))
    result = batch("saying", "rows.ndjson", "-o", "answers.ndjson", status=1)
    assert b"9 rows, 3 of them failed" in result.stderr  # a text has 1 KiB of room
    found = [json.loads(line) for line in (tmp_path / "answers.ndjson").read_text().splitlines()]
    assert [("error" in row) for row in found] == [False, True, False] * 3


def test_records_with_holes(batch: Batch, tmp_path: Path) -> None:
    table = pa.table({"age": [None, 7], "sex": ["male", "female"], "comment": ["a", "b"]})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    (tmp_path / "rows.csv").write_text("age,sex,comment\n,male,a\n7,female,b\n")
    for name in ("rows.parquet", "rows.csv"):
        found = batch("person", name, "--to", "ndjson").stdout.splitlines()
        assert [json.loads(line)["outputs"] for line in found] == [
            {"slots": ["NaN", 1.0, 0.0], "comment": "a"},
            {"slots": [7.0, 0.0, 0.0], "comment": "b"},
        ]


def test_columns_of_elements(batch: Batch, tmp_path: Path) -> None:
    table = pa.table({f"column {number}": pa.array([0.5, 0.25], pa.float32()) for number in range(4)})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    for to in ("ndjson", "csv"):
        batch("iris", "rows.parquet", "-o", f"answers.{to}")
    assert (tmp_path / "answers.csv").read_text().splitlines()[0] == "species,score.0,score.1,score.2,error"
    assert len((tmp_path / "answers.ndjson").read_text().splitlines()) == 2


def test_nothing_to_do(batch: Batch, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("age,income\n")
    for form, suffix in FORMATS.items():
        batch("loan", "rows.csv", "-o", f"answers.{suffix}", "--to", form)
        assert read_answers(tmp_path / f"answers.{suffix}") == []


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["loan", "empty.csv", "-o", "a.csv"], 2, "empty.csv is empty"),
        (["loan", "none.csv", "-o", "a.csv"], 2, "cannot read none.csv: No such file"),
        (["loan", "rows.txt", "-o", "a.csv"], 2, "--from is needed: 'rows.txt' does not tell its format"),
        (["loan", "rows.csv", "-o", "a.xml"], 2, "--to is needed: 'a.xml' does not tell its format"),
        (["loan", "-", "-o", "a.csv"], 2, "--from is needed: standard input does not tell"),
        (["loan", "rows.csv", "--from", "xml"], 2, "--from 'xml': expected one of ndjson, csv"),
        (["loan", "rows.csv", "-o", "no/a.csv"], 2, "there is no folder no"),
        (["loan", "rows.csv", "-o", "old.csv"], 2, "old.csv is there already"),
        (["loan", "rows.csv", "-o", "rows.csv", "--restart"], 2, "rows.csv is the output, and nothing else"),
        (["loan", "rows.csv", "-o", "a.csv", "--errors", "a.csv"], 2, "a.csv is the output, and nothing else"),
        (["loan", "rows.csv", "--json"], 2, "are for an output that is a file"),
        (["loan", "rows.csv", "--to", "parquet"], 2, "parquet is written to a file"),
        (["loan", "-", "--from", "parquet"], 2, "Parquet has its index at its end"),
        (["loan", "rows.csv", "--from", "parquet", "-o", "a.csv"], 2, "rows.csv is no parquet file"),
        (["loan", "rows.csv", "--from", "arrow", "-o", "a.csv"], 2, "rows.csv is no arrow file"),
        (["none", "rows.csv", "-o", "a.csv"], 1, "(model_not_found)"),
        (["loan", "rows.csv", "-o", "a.csv", "--version", "3"], 1, "(version_not_found)"),
        (["iris", "rows.csv", "-o", "a.csv"], 1, "the header has 2 columns, the input 'x' 4 elements"),
        (["saying", "rows.csv", "-o", "a.csv"], 2, "saying takes 1 column, text str: add --keep COLUMN"),
    ],
)
def test_what_is_wrong_is_a_sentence(
    batch: Batch, tmp_path: Path, arguments: list[str], status: int, said: str
) -> None:
    (tmp_path / "rows.csv").write_text("age,income\n1,2\n")
    (tmp_path / "empty.csv").touch()
    (tmp_path / "old.csv").write_text("precious")
    result = batch(*arguments, status=status)
    assert said in result.stderr.decode()
    assert (tmp_path / "old.csv").read_text() == "precious"
    assert (tmp_path / "rows.csv").read_text() == "age,income\n1,2\n"
    assert not (tmp_path / "a.csv").exists()


def test_what_is_refused_prints_nothing(batch: Batch, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("age,income\n1,2\n")
    assert batch("iris", "rows.csv", status=1).stdout == b""


def test_a_mended_file_begins_anew(batch: Batch, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("income\n3\n")
    said = batch("loan", "rows.csv", "-o", "a.csv", status=1).stderr
    assert b"the header has no column for age" in said
    (tmp_path / "rows.csv").write_text("age,income\n1,3\n2,6\n")
    batch("loan", "rows.csv", "-o", "a.csv")
    assert read_answers(tmp_path / "a.csv") == [(1.0, [1, 2]), (2.0, [2, 3])]
    assert {file.name for file in tmp_path.iterdir()} == {"rows.csv", "a.csv"}


def test_a_first_line_of_numbers_is_warned_of(batch: Batch, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("5.1,3.5,1.4,0.2\n1,2,3,4\n")
    assert "taken for the header, and it is numbers (5.1," in batch("iris", "rows.csv").stderr.decode()


def test_no_server_is_3(tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("age,income\n1,2\n")
    result = penstock("batch", "loan", str(tmp_path / "rows.csv"), "--url", "http://127.0.0.1:1")
    assert (result.returncode, result.stdout) == (3, "")


def test_nobody_reads_the_answers(server: Server, tmp_path: Path) -> None:
    write_loans(tmp_path / "rows.csv")
    command = [sys.executable, "-m", "penstock", "batch", "loan", str(tmp_path / "rows.csv"), "--url", server.url]
    reader, writer = os.pipe()
    os.close(reader)
    process = subprocess.Popen(command, stdout=writer, stderr=subprocess.PIPE)
    os.close(writer)
    assert process.communicate(timeout=BATCH_SECONDS)[1] == b""
    assert process.returncode == 141


def test_bar_on_a_terminal(server: Server, tmp_path: Path) -> None:
    table = pa.table({"age": list(range(ROWS)), "income": [1.0] * ROWS})
    pyarrow.parquet.write_table(table, tmp_path / "rows.parquet")
    shown = on_a_terminal(
        ["batch", "loan", str(tmp_path / "rows.parquet"), "-o", str(tmp_path / "a.csv"), "--url", server.url],
        COLUMNS="120",
    )
    assert "rows/s" in shown
    assert "0:00 left" in shown
    assert f"{ROWS:,} rows, " in shown.splitlines()[-1]


def test_without_pyarrow(server: Server, tmp_path: Path) -> None:
    (tmp_path / "rows.csv").write_text("age,income\n1,3\n")
    script = (
        "import sys; sys.modules['pyarrow'] = None; sys.argv[0] = 'penstock'; from penstock.cli import main; main()"
    )
    for source, target, status in (("rows.csv", "a.csv", 0), ("rows.csv", "a.parquet", 2), ("a.csv", "a.arrow", 2)):
        command = [sys.executable, "-c", script, "batch", "loan", source, "-o", target, "--url", server.url]
        if status and source == "a.csv":
            command += ["--from", "parquet"]
        result = subprocess.run(
            command, cwd=tmp_path, capture_output=True, text=True, check=False, timeout=BATCH_SECONDS
        )
        assert result.returncode == status, result
        if status:
            assert result.stderr == "penstock: Arrow and Parquet need pyarrow: pip install 'penstock[arrow]'\n"
    assert {file.name for file in tmp_path.iterdir()} == {"rows.csv", "a.csv"}
