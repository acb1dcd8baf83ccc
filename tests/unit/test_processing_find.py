"""Where the plan of a model is looked for, and what is said of files that were meant to be one."""

import logging
from pathlib import Path

import pytest

from penstock.core.errors import ModelLoadError
from penstock.processing.plan_files import FILE_NAMES, find_plan, misspelt_plan
from penstock.worker.backends import LoadOptions, choose_backend, open_backend
from penstock.worker.planned import with_plan

MODEL = """
from penstock.worker import Tensor

class Model:
    inputs = {"x": Tensor("float32")}
    outputs = {"y": Tensor("float32")}

    def predict(self, batch):
        return {"y": batch["x"]}
"""


@pytest.mark.parametrize(
    ("model", "name", "meant"),
    [
        ("", "procesing.json", "processing.json"),
        ("", "Processing.json", "processing.json"),
        ("", "procesing.toml", "processing.toml"),
        ("net.onnx", "net.procesing.json", "net.processing.json"),
        ("net.onnx", "Processing.json", "processing.json"),
        ("", "preprocessing.json", None),
        ("", "process.json", None),
        ("net.onnx", "a.processing.json", None),
        ("net.onnx", "net2.processing.json", None),
        ("net.onnx", "net.onnx", None),
    ],
)
def test_a_misspelt_plan_is_found(tmp_path: Path, model: str, name: str, meant: str | None) -> None:
    (tmp_path / name).write_text("{}")
    found = misspelt_plan(tmp_path / model if model else tmp_path)
    assert found == (None if meant is None else (tmp_path / name, meant))


@pytest.mark.parametrize(
    ("model", "names"),
    [("", FILE_NAMES), ("net.onnx", FILE_NAMES), ("net.onnx", ("net.processing.json", "net.processing.toml"))],
)
def test_two_plans_are_one_too_many(tmp_path: Path, model: str, names: tuple[str, str]) -> None:
    for name in names:
        (tmp_path / name).write_text("{}")
    with pytest.raises(ModelLoadError, match=f"{names[0]} and {names[1]} are two plans"):
        find_plan(tmp_path / model if model else tmp_path)


def test_a_plan_of_its_own_comes_before_that_of_the_folder(tmp_path: Path) -> None:
    for name in ("processing.json", "net.processing.toml"):
        (tmp_path / name).write_text("{}")
    assert find_plan(tmp_path / "net.onnx") == tmp_path / "net.processing.toml"
    assert find_plan(tmp_path / "other.onnx") == tmp_path / "processing.json"


def test_a_misspelt_plan_is_named_where_it_is_taken_for_a_second_model(tmp_path: Path) -> None:
    for name in ("model.skops", "procesing.json"):
        (tmp_path / name).write_text("{}")
    with pytest.raises(ModelLoadError, match=r"procesing\.json is no plan.* did you mean processing\.json\?"):
        choose_backend(tmp_path, "auto")


def test_a_misspelt_plan_is_not_passed_over(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "model.py").write_text(MODEL)
    backend = open_backend(tmp_path, "auto", LoadOptions())
    (tmp_path / "plan.toml").write_text("format = 1\n")
    with caplog.at_level(logging.WARNING, "penstock.worker"):
        assert with_plan(backend, tmp_path) is backend
    assert [record.message for record in caplog.records] == ["plan.toml is not read"]
    (tmp_path / "Processing.toml").write_text("format = 1\n")
    with pytest.raises(ModelLoadError, match=r"Processing\.toml is no plan: did you mean processing\.toml\?"):
        with_plan(backend, tmp_path)
