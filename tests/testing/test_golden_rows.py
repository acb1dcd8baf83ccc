"""Files of golden rows: what is read, and what is said of what cannot be."""

import json
from pathlib import Path
from typing import Any

import pytest

from penstock.core.errors import ConfigError
from penstock.testing.golden import golden_beside, read_golden_rows


def written(folder: Path, name: str, content: object) -> Path:
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path


def test_the_three_forms_are_one(tmp_path: Path) -> None:
    columns = {"inputs": {"x": [1, 2]}, "outputs": {"y": [3, 4]}, "rtol": 0.5}
    listed = [{"inputs": {"x": x}, "outputs": {"y": y}, "rtol": 0.5} for x, y in ((1, 3), (2, 4))]
    lines = "\n".join(json.dumps(row) for row in listed) + "\n\n"
    read = [
        read_golden_rows(written(tmp_path, name, content)).rows
        for name, content in (("golden.json", columns), ("rows.json", listed), ("rows.ndjson", lines))
    ]
    assert read[0] == read[1] == read[2]
    assert read[0][1].inputs == {"x": 2}
    assert (read[0][0].rtol, read[0][0].atol) == (0.5, 1e-6)


def test_records_are_rows(tmp_path: Path) -> None:
    file = written(tmp_path, "golden.json", {"inputs": [{"age": 3}], "outputs": {"y": [1]}})
    assert read_golden_rows(file).rows[0].inputs == {"age": 3}


@pytest.mark.parametrize(
    ("name", "content", "complaint"),
    [
        ("golden.json", {"inputs": {"x": [1]}}, "it must be"),
        ("golden.json", {"inputs": {"x": [1]}, "outputs": {"y": [1, 2]}}, "1 rows of inputs and 2 of outputs"),
        (
            "golden.json",
            {"inputs": {"x": [1]}, "outputs": {"y": [1]}, "atol": -1},
            "atol must be a number of 0 or more",
        ),
        ("golden.json", {"inputs": {"x": [1, 2]}, "outputs": {"y": [1], "z": [1, 2]}}, "as many rows"),
        ("golden.json", '{"inputs": {"x": [NaN]}, "outputs": {"y": [1]}}', "NaN is no JSON"),
        ("golden.json", [], "it is empty"),
        ("rows.ndjson", '{"inputs": 1, "outputs": {"y": 1}}\n{"inputs": 1}', "line 2"),
        ("rows.ndjson", '{"inputs": 1, "outputs": {}}', "line 1: outputs must be"),
    ],
)
def test_what_is_wrong_is_said(tmp_path: Path, name: str, content: Any, complaint: str) -> None:
    with pytest.raises(ConfigError, match=complaint):
        read_golden_rows(written(tmp_path, name, content))


def test_a_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        read_golden_rows(tmp_path / "none.json")


def test_where_models_carry_them(tmp_path: Path) -> None:
    model = tmp_path / "scale.py"
    assert golden_beside(model) is None
    general = written(tmp_path, "golden.json", {})
    assert golden_beside(model) == golden_beside(tmp_path) == general
    assert golden_beside(model) == general
    own = written(tmp_path, "scale.golden.json", {})
    assert golden_beside(model) == own
