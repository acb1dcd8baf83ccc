"""The curves that `penstock simulate` reads."""

import json
from pathlib import Path

import pytest

from penstock.cli.simulate.curve import read_curve
from penstock.core.errors import ConfigError

CURVE = {1: 0.5, 64: 3.25}
COST = {
    "curve": [
        {"rows": 1, "mean_seconds": 0.0005, "p99_seconds": 0.0006},
        {"rows": 64, "mean_seconds": 0.00325, "p99_seconds": 0.004},
    ],
    "fixed_seconds": 0.0004,
    "samples": 12,
}


@pytest.mark.parametrize("document", [{"1": 0.5, "64": 3.25}, COST, {"version": 1, "cost": COST}])
def test_all_forms_of_json_say_the_same(tmp_path: Path, document: object) -> None:
    file = tmp_path / "curve.json"
    file.write_text(json.dumps(document))
    assert read_curve(str(file)) == pytest.approx(CURVE)


def test_text_says_the_same() -> None:
    assert read_curve("1:0.5,64:3.25") == CURVE


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("rows 1", "is not JSON"),
        ("[1, 2]", "expected JSON: an object like"),
        ('{"one": 1}', "expected JSON: an object like"),
        ('{"cost": null}', "the server had not run the model yet"),
        ('{"curve": [{"rows": 1}]}', "the points of its JSON are not"),
        ('{"curve": 5}', "the points of its JSON are not"),
    ],
)
def test_other_files_are_told(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "curve.json"
    file.write_text(text)
    with pytest.raises(ConfigError, match=r"JSON|cost is null") as caught:
        read_curve(str(file))
    assert message in str(caught.value)


def test_a_folder_and_nothing_are_told(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="as a JSON file cannot be read: Is a directory"):
        read_curve(str(tmp_path))
    with pytest.raises(ConfigError, match="--curve is empty"):
        read_curve("")
