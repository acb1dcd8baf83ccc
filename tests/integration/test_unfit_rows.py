"""Rows whose features an integer input does not hold: they fail, and their neighbours run once, all together."""

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from onnx import TensorProto, helper

from tests.models import save, tensor
from tests.serving import Server

JSON = {"Content-Type": "application/json"}
PLAN = {"format": 1, "record": {"age": {"type": ["number", "null"]}}, "features": [{"column": "age", "into": "x"}]}
# Answers with how many rows each of its runs has had so far.
COUNTING = """
from penstock.worker import Tensor


class Model:
    inputs = {"x": Tensor("int64", (1,))}
    outputs = {"y": Tensor("int64", (1,)), "run": Tensor("float32", (1,))}

    def __init__(self):
        self.runs = 0

    def predict(self, batch):
        self.runs += 1
        assert (batch["x"] > -(2**63)).all()
        return {"y": batch["x"].copy(), "run": 0 * batch["x"].astype("float32") + self.runs}
"""


def counting(folder: Path) -> None:
    folder.mkdir()
    (folder / "model.py").write_text(COUNTING)
    (folder / "processing.json").write_text(json.dumps(PLAN))


def drawing(folder: Path) -> None:
    """Write a network that draws a number for each of its runs, which all rows of that run have."""
    folder.mkdir()
    save(
        folder / "model.onnx",
        [
            helper.make_node("Identity", ["x"], ["y"]),
            helper.make_node("Shape", ["x"], ["shape"]),
            helper.make_node("RandomUniform", [], ["drawn"], shape=[1, 1], high=1e6),
            helper.make_node("Expand", ["drawn", "shape"], ["run"]),
        ],
        [tensor("x", TensorProto.INT64, 1)],
        [tensor("y", TensorProto.INT64, 1), tensor("run", TensorProto.FLOAT, 1)],
        {},
    )
    (folder / "processing.json").write_text(json.dumps(PLAN))


@pytest.fixture(scope="module", params=["cpu", "host"])
def server(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("unfit")
    (counting if request.param == "cpu" else drawing)(folder / "m")
    running = Server.start([str(folder / "m"), "--device", request.param], folder)
    yield running
    running.stop()


def asked(server: Server, ages: list[Any]) -> Any:
    body = {"model": "m", "inputs": [{"age": age} for age in ages]}
    return server.request("POST", "/predict/batch", json.dumps(body).encode(), JSON).json()


@pytest.mark.parametrize("unfit", [{0}, {31}, {3, 4, 17, 30}, set(range(1, 32))])
def test_one_run_answers_all_others(server: Server, unfit: set[int]) -> None:
    ages = [None if row in unfit else row for row in range(32)]
    answer = asked(server, ages)
    assert [error["row"] for error in answer["errors"]] == sorted(unfit)
    assert {error["code"] for error in answer["errors"]} == {"invalid_input"}
    fit = [row for row in answer["outputs"] if row is not None]
    assert [row["y"] for row in fit] == [[age] for age in ages if age is not None]
    assert len({row["run"][0] for row in fit}) == 1


def test_unfit_rows_alone_run_nothing(server: Server) -> None:
    answer = asked(server, [None] * 32)
    assert len(answer["errors"]) == 32
    assert {error["code"] for error in answer["errors"]} == {"invalid_input"}


def test_each_row_has_the_first_of_its_own_faults(server: Server) -> None:
    answer = asked(server, [None, 3, 2**63])
    assert [error["detail"] for error in answer["errors"]] == [
        "age: missing, and input 'x' is int64: send a value, or let the plan impute one",
        "age: 9223372036854775808 does not fit input 'x', which is int64: let the plan clip it",
    ]
