"""penstock fit and penstock transform, as a person runs them."""

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pyarrow
import pytest
from pyarrow import parquet
from sklearn.compose import ColumnTransformer
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.impute import SimpleImputer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from skops import io

from penstock.core.errors import ModelLoadError
from penstock.processing.plan import read_plan
from penstock.processing.record import Field, FieldKind, Record
from penstock.processing.tables import read_table

PLAN = """
format = 1

[record]
age = {type = ["number", "null"], minimum = 0}
city = {type = "string", x-penstock = {categories = ["Bonn", "Ulm"]}}
member = {type = "boolean"}

[[features]]
column = "age"
steps = [{impute = "median"}, {scale = "standard"}]

[[features]]
column = "city"
steps = [{encode = "one-hot"}]

[[features]]
column = "member"
"""
TABLE = "age,city,member,bought\n10,Ulm,true,yes\n,Bonn,false,no\n30,Ulm,1,yes\n"


def penstock(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "penstock", *arguments], cwd=folder, capture_output=True, text=True, check=False
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "plan.toml").write_text(PLAN)
    (tmp_path / "train.csv").write_text(TABLE)
    return tmp_path


def test_a_plan_is_learned_and_a_table_goes_through_it(folder: Path) -> None:
    done = penstock(folder, "fit", "plan.toml", "train.csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "processing.json: 3 fields, 4 columns, learned from 3 rows\n"
    learned = json.loads((folder / "processing.json").read_text())
    assert learned["features"][0]["steps"][0] == {"impute": "median", "value": 20.0}

    done = penstock(folder, "transform", ".", "train.csv")
    assert (done.returncode, done.stdout) == (0, "features.npy: 3 rows, 4 columns\n")
    features = np.load(folder / "features.npy")
    width = np.sqrt(200 / 3)
    expected = [[-10 / width, 0, 1, 1], [0, 1, 0, 0], [10 / width, 0, 1, 1]]
    assert features.dtype == np.float32
    assert np.allclose(features, expected, atol=1e-6)


def test_a_plan_that_has_its_numbers_learns_nothing(folder: Path) -> None:
    penstock(folder, "fit", "plan.toml", "train.csv")
    before = (folder / "processing.json").read_text()
    (folder / "new.csv").write_text("age,city,member\n70,Ulm,true\n80,Bonn,false\n")
    done = penstock(folder, "fit", "processing.json", "new.csv")
    assert (done.returncode, done.stdout) == (2, "")
    assert "processing.json: nothing is left to be learned from new.csv: every number is given. Fit the plan that" in (
        done.stderr
    )
    assert (folder / "processing.json").read_text() == before
    (folder / "plain.toml").write_text('format = 1\n[record]\nage = {type = "number"}\n')
    done = penstock(folder, "fit", "plain.toml", "new.csv")
    assert done.returncode == 2
    assert "plain.toml: no step of it learns, so there is nothing that new.csv could teach: leave it out" in done.stderr


def test_numbers_that_are_given_among_others_are_told(folder: Path) -> None:
    (folder / "plan.toml").write_text(PLAN.replace('{impute = "median"}', '{impute = "median", value = 40}'))
    done = penstock(folder, "fit", "plan.toml", "train.csv")
    assert done.returncode == 0
    assert done.stderr == (
        "penstock: warning: plan.toml gives numbers, which train.csv does not change: impute of 'age'\n"
    )
    steps = json.loads((folder / "processing.json").read_text())["features"][0]["steps"]
    assert steps[0]["value"] == 40 and steps[1]["width"] > 0


def test_folders_have_their_plan(folder: Path) -> None:
    (folder / "model").mkdir()
    (folder / "plan.toml").rename(folder / "model/processing.toml")
    done = penstock(folder, "fit", "model", "train.csv")
    assert (done.returncode, done.stderr) == (0, "")
    assert json.loads((folder / "processing.json").read_text())["features"][0]["steps"][0]["value"] == 20


def test_every_kind_of_file_has_the_same_features(folder: Path) -> None:
    penstock(folder, "fit", "plan.toml", "train.csv")
    rows = {"age": [10.0, None, 30.0], "city": ["Ulm", "Bonn", "Ulm"], "member": [True, False, True]}
    parquet.write_table(pyarrow.table(rows), folder / "train.parquet")
    # Every kind once, on one side or the other.
    for table, output in (("train.csv", "f.npy"), ("train.parquet", "f.npz"), ("train.parquet", "f.csv")):
        done = penstock(folder, "transform", "processing.json", table, "--output", output, "--dtype", "float64")
        assert done.returncode == 0, done.stderr
    penstock(folder, "transform", "processing.json", "train.csv", "-o", "f.parquet", "--dtype", "float64")
    features = np.load(folder / "f.npy")
    assert np.array_equal(np.load(folder / "f.npz")["features"], features)
    names, *lines = (folder / "f.csv").read_text().splitlines()
    assert names == "age,city=Bonn,city=Ulm,member"
    assert np.array_equal([[float(value) for value in line.split(",")] for line in lines], features)
    written = parquet.read_table(folder / "f.parquet")
    assert np.array_equal(np.column_stack([column.to_numpy() for column in written.columns]), features)


def test_a_fitted_transformer_becomes_a_plan(folder: Path) -> None:
    pipeline = Pipeline([("fill", SimpleImputer()), ("scale", StandardScaler())])
    rows = np.array([[1.0, 5.0], [np.nan, 6.0], [3.0, 10.0]])
    expected = pipeline.fit_transform(rows)
    io.dump(pipeline, folder / "pipeline.skops")
    done = penstock(folder, "fit", "pipeline.skops", "-o", "imported.json", "--trust", "numpy.dtype")
    assert (done.returncode, done.stdout) == (0, "imported.json: 2 fields, 2 columns, from pipeline.skops\n"), (
        done.stderr
    )
    (folder / "rows.csv").write_text("x0,x1\n1,5\n,6\n3,10\n")
    penstock(folder, "transform", "imported.json", "rows.csv", "--dtype", "float64")
    assert np.allclose(np.load(folder / "features.npy"), expected, rtol=1e-12)


def test_no_column_of_the_features_is_lost(folder: Path) -> None:
    (folder / "plan.toml").write_text(
        """
        format = 1
        [record]
        city = {type = ["string", "null"], x-penstock = {categories = ["Ulm", "missing"]}}
        [[features]]
        column = "city"
        steps = [{encode = "one-hot"}]
        """
    )
    (folder / "train.csv").write_text('city\nUlm\nmissing\n""\n')
    penstock(folder, "fit", "plan.toml", "train.csv")
    done = penstock(folder, "transform", ".", "train.csv", "-o", "f.csv")
    assert done.stdout == "f.csv: 3 rows, 3 columns\n"
    names, *lines = (folder / "f.csv").read_text().splitlines()
    assert names == "city=Ulm,city=missing,city=missing 2"
    assert lines == ["1.0,0.0,0.0", "0.0,1.0,0.0", "0.0,0.0,1.0"]


def test_csv_is_read_as_spreadsheets_and_others_write_it(folder: Path) -> None:
    penstock(folder, "fit", "plan.toml", "train.csv")
    expected = "age,city=Bonn,city=Ulm,member\n0.0,0.0,1.0,1.0\n0.0,1.0,0.0,0.0\n"
    for text in (
        "age,city,member\n20,Ulm,True\n,Bonn,False\n",
        "\ufeff age ,city,member\r\n 20,Ulm,TRUE\r\n\r\nNaN,Bonn, false \r\n",
        '"member","more","city","age"\n"1","x","Ulm","2e1"\n0,"a\nb",Bonn,',
    ):
        (folder / "rows.csv").write_bytes(text.encode())
        done = penstock(folder, "transform", ".", "rows.csv", "-o", "f.csv", "--dtype", "float64")
        assert done.returncode == 0, done.stderr
        assert (folder / "f.csv").read_text() == expected


def test_a_text_may_be_long(tmp_path: Path) -> None:
    file = tmp_path / "rows.csv"
    file.write_text(f"note\n{'word ' * 100_000}\n")
    before = csv.field_size_limit()
    table = read_table(file, Record((Field(("note",), FieldKind.TEXT, dtype="bytes"),), {}))
    assert len(table["note"][0]) == 500_000
    assert csv.field_size_limit() == before  # which is that of all readers


def test_a_column_alone_may_have_empty_lines(folder: Path) -> None:
    (folder / "one.json").write_text(json.dumps({"format": 1, "record": {"age": {"type": ["number", "null"]}}}))
    (folder / "rows.csv").write_text("age\n1\n\n3\n")
    penstock(folder, "transform", "one.json", "rows.csv")
    assert np.array_equal(np.load(folder / "features.npy"), [[1], [np.nan], [3]], equal_nan=True)


def test_a_number_that_an_integer_does_not_hold_is_told_with_its_line(folder: Path) -> None:
    (folder / "one.json").write_text(json.dumps({"format": 1, "record": {"age": {"type": ["number", "null"]}}}))
    (folder / "rows.csv").write_text("age\n1.9\n\n3\n")
    done = penstock(folder, "transform", "one.json", "rows.csv", "--dtype", "int32")
    assert done.returncode == 2
    assert done.stderr == (
        "penstock: rows.csv: line 3: age: missing, and input 'features' is int32: send a value, or let the plan "
        "impute one\n"
    )
    (folder / "rows.csv").write_text("age\n1.9\n-1.9\n3\n")
    penstock(folder, "transform", "one.json", "rows.csv", "--dtype", "int32")
    assert np.load(folder / "features.npy").tolist() == [[1], [-1], [3]]


@pytest.mark.parametrize("number", ["+5", "05", "1_0", "inf", "0x1", "1e999"])
def test_numbers_are_those_of_json(folder: Path, number: str) -> None:
    (folder / "rows.csv").write_text(f"age,city,member\n{number},Ulm,true\n")
    done = penstock(folder, "fit", "plan.toml", "rows.csv")
    assert f'rows.csv: line 2: age: expected a number from 0, or null, got "{number}"' in done.stderr


def test_an_imported_record_requires_its_columns_by_name(folder: Path) -> None:
    pipeline = ColumnTransformer([("scale", StandardScaler(), [0]), ("fill", SimpleImputer(), [1])])
    pipeline.fit(np.array([[1.0, 5.0], [np.nan, 6.0], [3.0, 10.0]]))
    io.dump(pipeline, folder / "pipeline.skops")
    unsafe = io.get_untrusted_types(file=folder / "pipeline.skops")
    done = penstock(folder, "fit", "pipeline.skops")
    assert done.returncode == 2
    assert done.stderr.endswith(f"add {' '.join(f'--trust {name}' for name in unsafe)}\n")
    assert "trusted_types" not in done.stderr
    trust = [word for name in unsafe for word in ("--trust", name)]
    done = penstock(folder, "fit", "pipeline.skops", *trust, "--names", "fare, age")
    assert done.returncode == 0, done.stderr
    assert done.stderr == (
        "penstock: warning: null goes through processing.json to the model as NaN in fare: take null out of their "
        "types there if the model takes none\n"
    )
    record = json.loads((folder / "processing.json").read_text())["record"]
    assert record["required"] == ["fare", "age"]
    assert record["properties"] == {"fare": {"type": ["number", "null"]}, "age": {"type": ["number", "null"]}}
    for names, reason in (
        ("fare", "the transformer has 2 columns, and fare are 1"),
        ("fare,fare", "fare, fare: each column needs a name, and one of its own"),
    ):
        done = penstock(folder, "fit", "pipeline.skops", *trust, "--names", names)
        assert done.returncode == 2 and reason in done.stderr
    done = penstock(folder, "fit", "plan.toml", "train.csv", "--names", "a")
    assert done.returncode == 2 and "--names are those of a transformer's columns" in done.stderr


def test_a_text_gets_a_name_and_a_model_is_no_part_of_a_plan(folder: Path) -> None:
    texts = ["a game", "a cake", "the game", "the cake"]
    pipeline = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(texts, [0, 1, 0, 1])
    io.dump(pipeline, folder / "whole.skops")
    io.dump(pipeline[:-1], folder / "first.skops")
    done = penstock(folder, "fit", "whole.skops", "--trust", "numpy.dtype")
    assert done.returncode == 2
    assert "LogisticRegression at the end of the pipeline is the model, which is no part of a plan: dump pipe[:-1]" in (
        done.stderr
    )
    done = penstock(folder, "fit", "first.skops", "--trust", "numpy.dtype", "--names", "note")
    assert (done.returncode, done.stderr) == (0, "")
    record = json.loads((folder / "processing.json").read_text())["record"]
    assert (record["properties"], record["required"]) == ({"note": {"type": "string"}}, ["note"])


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (["fit", "plan.toml"], "impute of 'age' has no 'value': learn it with penstock fit, or give it; name a table"),
        (["fit", "absent.toml", "train.csv"], "absent.toml: cannot be read: No such file"),
        (["fit", "plan.toml", "absent.csv"], "absent.csv: cannot be read: No such file"),
        (["fit", "plan.toml", "plan.toml"], "plan.toml: tables are .csv or .parquet"),
        (["fit", "plan.toml", "train.csv", "-o", "plan.txt"], "plan.txt: a plan is written as .json"),
        (["fit", "plan.toml", "train.csv", "--target", "sold"], "there is no column 'sold' to be the target"),
        (["fit", "plan.toml", "wrong.csv"], 'wrong.csv: line 2: age: expected a number from 0, or null, got "old"'),
        (["fit", "plan.toml", "short.csv"], "short.csv: line 2 has 1 values, and the first line 2 names"),
        (["fit", "plan.toml", "huge.csv"], "what scale of 'age' has learned is not finite: look for infinite or huge"),
        (["fit", "plan.toml", "goal.csv", "--target", "goal"], "row 1 of the target 'goal' is missing or not finite"),
        (["transform", "known.json", "train.csv", "-o", "absent/f.csv"], "absent/f.csv: cannot be written: No such"),
        (["transform", "known.json", "train.csv", "-o", "absent/f.npy"], "absent/f.npy: cannot be written: No such"),
        (["transform", "plan.toml", "train.csv"], "has no 'value': learn it with penstock fit"),
        (["transform", "absent", "train.csv"], "there is no plan at absent"),
        (["fit", "empty", "train.csv"], "there is no plan at empty"),
        (
            ["transform", "plan.toml", "train.csv", "--dtype", "float16"],
            "--dtype is 'float16': it can be float32, fl",
        ),
        (["fit", "target.toml", "train.csv"], "encode of 'city': name the target, whose means it is to learn: pensto"),
        (["fit", "target.toml", "train.csv"], "penstock fit --target COLUMN"),
        (["fit", "bounds.toml", "train.csv"], "record.properties.age is bounded by 10 below and by 1 above"),
    ],
)
def test_what_cannot_be_done_is_said(folder: Path, arguments: list[str], reason: str) -> None:
    (folder / "wrong.csv").write_text("age,city,member\nold,Ulm,true\n")
    (folder / "short.csv").write_text("age,city\n1\n")
    (folder / "huge.csv").write_text("age,city,member\n1e308,Ulm,true\n1,Ulm,true\n1e308,Ulm,true\n")
    (folder / "goal.csv").write_text("age,city,member,goal\n1,Ulm,true,1\n2,Ulm,true,nan\n")
    (folder / "known.json").write_text(json.dumps({"format": 1, "record": {"age": {"type": ["number", "null"]}}}))
    (folder / "empty").mkdir()
    (folder / "target.toml").write_text(PLAN.replace("one-hot", "target"))
    (folder / "bounds.toml").write_text(PLAN.replace("minimum = 0", "minimum = 10, maximum = 1"))
    done = penstock(folder, *arguments)
    assert done.returncode == 2
    assert reason in done.stderr
    assert "Traceback" not in done.stderr
    assert not (folder / "processing.json").exists()


def test_all_faults_of_a_table_are_told_with_their_place(folder: Path) -> None:
    (folder / "plan.toml").write_text(
        """
        format = 1
        [record]
        class = {enum = [1, 2, 3]}
        sex = {enum = ["female", "male"]}
        rooms = {type = "integer", minimum = 1}
        note = {type = "string", maxLength = 4, x-penstock = {hash = true}}
        day = {type = ["string", "null"], format = "date"}
        """
    )
    lines = [
        "class,sex,rooms,note,day",
        '1,female,2,"a\nb",2024-01-31',
        '"",Male,0,long note,',
        "",
        "4.5,male,many,a,today",
    ]
    (folder / "rows.csv").write_text("\n".join(lines) + "\n")
    done = penstock(folder, "transform", "plan.toml", "rows.csv")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "penstock: rows.csv does not fit the record:",
        "  line 4: class: expected one of 1, 2, 3, got nothing",
        '  line 4: note: expected a string of up to 4 characters, got "long note"',
        "  line 4: rooms: expected a whole number from 1, got 0",
        '  line 4: sex: expected one of "female", "male", got "Male"',
        "  line 6: class: expected one of 1, 2, 3, got 4.5",
        '  line 6: day: expected a date-time such as 2026-01-31T12:00:00Z, or a date, or null, got "today"',
        '  line 6: rooms: expected a whole number from 1, got "many"',
    ]
    columns = {"class": [1, 7], "sex": ["male", None], "rooms": [1, 2], "note": ["a", "b"]}
    parquet.write_table(pyarrow.table(columns | {"day": ["2024-01-31", None]}), folder / "rows.parquet")
    done = penstock(folder, "fit", "plan.toml", "rows.parquet")
    assert "plan.toml: no step of it learns" in done.stderr
    done = penstock(folder, "transform", "plan.toml", "rows.parquet")
    assert done.stderr.splitlines()[1:] == [
        "  row 1: class: expected one of 1, 2, 3, got 7",
        '  row 1: sex: expected one of "female", "male", got nothing',
    ]


def test_lines_are_told_behind_long_texts(folder: Path) -> None:
    (folder / "rows.csv").write_text(f"age,city,member,note\n1,Ulm,true,{'a' * 200_000}\n-1,Ulm,true,b\n")
    done = penstock(folder, "fit", "plan.toml", "rows.csv")
    assert done.stderr == "penstock: rows.csv: line 3: age: expected a number from 0, or null, got -1\n"


def test_columns_that_are_not_there_are_told_beside_those_that_are(folder: Path) -> None:
    for text, columns in (
        ("Age,City,member\n1,Ulm,true\n", "its columns are Age, City, member"),
        ("age;city;member\n1;Ulm;true\n", "its columns are age;city;member: separate them by commas, not by ';'"),
    ):
        (folder / "rows.csv").write_text(text)
        done = penstock(folder, "fit", "plan.toml", "rows.csv")
        assert done.returncode == 2
        first, *missing, last = done.stderr.splitlines()
        assert (first, last) == ("penstock: rows.csv does not fit the record:", f"  {columns}")
        assert missing[:2] == [
            "  age: the table has no such column, and it is required",
            "  city: the table has no such column, and it is required",
        ]


def test_of_many_faults_the_first_are_told(folder: Path) -> None:
    (folder / "closed.toml").write_text(PLAN.replace("x-penstock = {categories = [", "enum = [").replace("]}}", "]}"))
    for city in ("Ulm", "Trier"):
        rows = "".join(f"{-1 - row},{city},true\n" for row in range(500))
        (folder / "rows.csv").write_text(f"age,city,member\n{rows}")
        done = penstock(folder, "fit", "closed.toml", "rows.csv")
        _, *faults, more = done.stderr.splitlines()
        assert len(faults) == 20 and more == "  and more"
        assert faults[0] == "  line 2: age: expected a number from 0, or null, got -1"


CLASSES = """
import datetime
from dataclasses import dataclass
from typing import Annotated, Literal

import msgspec
from pydantic import BaseModel, Field

@dataclass
class Trip:
    sailed: datetime.datetime
    cabin: Literal["A", "B"] = "B"

@dataclass
class Passenger:
    age: Annotated[float, msgspec.Meta(ge=0)] | None
    trip: Trip
    member: bool = False

class Guest(BaseModel):
    age: float | None = Field(ge=0)
    member: bool = False

class Odd:
    def __init__(self, age): ...

NOBODY = 3
"""


def test_the_record_may_be_a_python_class(folder: Path) -> None:
    (folder / "people.py").write_text(CLASSES)
    fields = {"Passenger": ["age", "trip.sailed", "trip.cabin", "member"], "Guest": ["age", "member"]}
    for name, paths in fields.items():
        (folder / "plan.toml").write_text(
            f'format = 1\nrecord = "people.py:{name}"\n[[features]]\ncolumn = "age"\nsteps = [{{log = 1}}]\n'
        )
        done = penstock(folder, "fit", "plan.toml")
        assert done.stdout == f"processing.json: {len(paths)} fields, nothing to be learned\n", done.stderr
        record = read_plan(folder / "processing.json").record
        assert record is not None and [field.name for field in record.fields] == paths
        assert record.fields[0].minimum == 0 and record.fields[0].nullable
        assert not record.fields[-1].required


@pytest.mark.parametrize(
    ("record", "says"),
    [
        ("people.py", "name a class as passenger.py:Passenger"),
        ("nobody.py:Passenger", "is not there, and record names a class in it"),
        ("people.py:Nobody", "has no class Nobody"),
        ("people.py:NOBODY", "has no class NOBODY"),
        ("people.py:Odd", "Odd has no JSON Schema"),
        ("broken.py:Odd", "raised while it was run for its class: ZeroDivisionError"),
    ],
)
def test_a_class_that_is_none_is_named(folder: Path, record: str, says: str) -> None:
    (folder / "people.py").write_text(CLASSES)
    (folder / "broken.py").write_text("1 / 0\n")
    (folder / "plan.toml").write_text(f'format = 1\nrecord = "{record}"\n')
    done = penstock(folder, "fit", "plan.toml")
    assert done.returncode != 0 and says in done.stderr and "Traceback" not in done.stderr


def test_a_server_runs_no_class(folder: Path) -> None:
    (folder / "plan.toml").write_text('format = 1\nrecord = "people.py:Guest"\n')
    with pytest.raises(ModelLoadError, match=r"names a Python class: penstock fit plan.toml puts its schema there"):
        read_plan(folder / "plan.toml")


def test_what_was_written_as_json(folder: Path) -> None:
    (folder / "people.py").write_text(CLASSES)
    (folder / "plan.toml").write_text(
        'format = 1\n[record]\nage = {type = "number"}\n[[features]]\ncolumn = "age"\nsteps = [{scale = "standard"}]\n'
    )
    (folder / "ages.csv").write_text("age\n1\n2\n3\n")
    learned = penstock(folder, "fit", "plan.toml", "ages.csv", "--json")
    assert json.loads(learned.stdout) == {"output": "processing.json", "fields": 1, "columns": 1, "rows": 3}
    through = penstock(folder, "transform", "processing.json", "ages.csv", "--json")
    assert json.loads(through.stdout) == {"output": "features.npy", "columns": 1, "rows": 3}
