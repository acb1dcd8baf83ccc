"""penstock-test.toml: what it says, and what is said of mistakes in it."""

from pathlib import Path

import pytest

from penstock.core.errors import ConfigError
from penstock.testing.fuzz import Extremes
from penstock.testing.plan import plan_of, read_plan_file

WHOLE = """
model = "digits=models/digits.onnx"
config = "serve.toml"
golden = ["more.ndjson"]
seed = 9

[settings]
max_batch_size = 8

[fuzz]
rows = 50
extremes = "refuse"
non_finite = true

[latency]
p99_ms = 20
rate = 250

[accuracy]
labels = "digits.csv"
target = "digit"
min_accuracy = 0.97
max_mae = 2

[accuracy.slices]
column = "writer"
rows_min = 30
min_accuracy = 0.9
"""


def read(folder: Path, text: str):  # type: ignore[no-untyped-def]
    file = folder / "penstock-test.toml"
    file.write_text(text)
    return plan_of(read_plan_file(file))


def test_everything_is_read_from_where_the_file_is(tmp_path: Path) -> None:
    plan = read(tmp_path, WHOLE)
    assert plan.model == f"digits={tmp_path}/models/digits.onnx"
    assert (plan.config, plan.golden) == (tmp_path / "serve.toml", (tmp_path / "more.ndjson",))
    assert plan.settings == {"max_batch_size": 8}
    assert (plan.fuzz.rows, plan.fuzz.seed, plan.fuzz.extremes, plan.fuzz.non_finite) == (50, 9, Extremes.REFUSE, True)
    assert (plan.latency.p99_ms, plan.latency.rate, plan.latency.duration_s) == (20, 250, 10)
    assert (plan.accuracy.labels, plan.accuracy.target) == (tmp_path / "digits.csv", "digit")
    assert plan.accuracy.thresholds == {"accuracy": 0.97, "mae": 2}
    assert (plan.accuracy.slice, plan.accuracy.slice_rows_min) == ("writer", 30)
    assert plan.accuracy.slice_thresholds == {"accuracy": 0.9}


def test_little_is_enough(tmp_path: Path) -> None:
    (tmp_path / "m.py").write_text("")
    plan = read(tmp_path, 'model = "m.py"')
    assert plan.model == str(tmp_path / "m.py")
    assert plan.fuzz.rows == 100
    assert plan.latency is plan.accuracy is None
    assert read(tmp_path, 'model = "m"\nfuzz.rows = 0').fuzz is None


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("", "there is no model"),
        ('modle = "m"', "modle: unknown; did you mean 'model'"),
        ('model = "m"\n[fuzz]\nrows = -1', r"fuzz.rows = -1: expected a whole number from 0 to 100000"),
        ('model = "m"\n[fuzz]\nrows = true', r"fuzz.rows = True: expected"),
        ('model = "m"\n[fuzz]\nextremes = "yes"', "'answer', 'refuse' or 'off'"),
        ('model = "m"\nlatency = 3', "expected a table"),
        ('model = "m"\n[latency]\nrate = 3', "no p99_ms"),
        ('model = "m"\n[accuracy]\nmin_accuracy = 0.9', "labels is missing"),
        ('model = "m"\n[accuracy]\nmin_accuracy = 97', "expected a number from 0 to 1"),
        ('model = "m"\n[accuracy.slices]\ncolum = "a"', "accuracy.slices.colum: unknown; did you mean 'column'"),
        ("model = ", "not valid TOML"),
    ],
)
def test_mistakes_are_said(tmp_path: Path, text: str, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        read(tmp_path, text)


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_plan_file(tmp_path / "none.toml")
