"""Records: fields by name, for a model with a plan, with what is missing."""

import datetime
import json
import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from penstock_client.problems import InvalidInputError
from tests.sdk.asking import Ask, async_asker, sync_asker
from tests.serving import Server

MODEL = """
from penstock.worker import Tensor


class Model:
    inputs = {"slots": Tensor("float64", (4,)), "comment": Tensor("str")}
    outputs = {"slots": Tensor("float64", (4,)), "comment": Tensor("str")}

    def predict(self, batch):
        return dict(batch)
"""
RECORD = {
    "type": "object",
    "properties": {
        "age": {"type": ["integer", "null"], "minimum": 0, "maximum": 120},
        "sex": {"enum": ["female", "male"]},
        "born": {"type": ["string", "null"], "format": "date"},
        "tall": {"type": "boolean", "default": False},
        "comment": {"type": "string"},
    },
    "required": ["age", "sex", "comment"],
}
ROWS = [
    {"age": 22, "sex": "male", "born": "1990-02-03", "tall": True, "comment": "hello"},
    {"age": None, "sex": "female", "comment": "é"},
]
BORN = 634003200.0  # 1990-02-03 in UTC


@pytest.fixture(scope="module")
def person(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("person")
    (folder / "person.py").write_text(MODEL)
    (folder / "person.processing.json").write_text(json.dumps({"format": 1, "record": RECORD}))
    server = Server.start([f"person={folder / 'person.py'}"], folder)
    yield server
    server.stop()


@pytest.fixture(params=["blocking", "asyncio"])
def ask(request: pytest.FixtureRequest, person: Server) -> Ask:
    return (sync_asker if request.param == "blocking" else async_asker)(person.url)


def known(slots: Any) -> list[float | None]:
    return [None if math.isnan(slot) else float(slot) for slot in slots]


@pytest.mark.parametrize("encoding", ["auto", "msgpack"])
def test_a_record(ask: Ask, encoding: str) -> None:
    outputs = ask("predict", "person", ROWS[0], encoding=encoding).outputs
    assert known(outputs["slots"]) == [22.0, 1.0, BORN, 1.0]
    assert outputs["comment"] == "hello"
    outputs = ask("predict", "person", ROWS[1], encoding=encoding).outputs
    assert known(outputs["slots"]) == [None, 0.0, None, 0.0]


def test_dates_and_numbers_of_numpy(ask: Ask) -> None:
    row = {**ROWS[0], "age": np.int64(22), "born": datetime.date(1990, 2, 3), "tall": np.bool_(True)}
    assert known(ask("predict", "person", row).outputs["slots"]) == [22.0, 1.0, BORN, 1.0]


def test_all_faults_of_a_record(ask: Ask) -> None:
    with pytest.raises(InvalidInputError) as caught:
        ask("predict", "person", {"age": 121, "sex": "f", "comment": "x"})
    assert {(fault["field"], fault["rule"]) for fault in caught.value.fields} == {("age", "maximum"), ("sex", "enum")}


def test_many_records(ask: Ask) -> None:
    result = ask("predict_batch", "person", [*ROWS, {"age": 1}])
    assert known(result[1]["slots"]) == [None, 0.0, None, 0.0]
    assert list(result.errors) == [2]
    assert {fault["field"] for fault in result.errors[2].fields} == {"sex", "comment"}  # type: ignore[attr-defined]


def test_data_frames_with_holes(ask: Ask) -> None:
    frame = pd.DataFrame(ROWS)
    for given in (frame, frame.astype({"age": "Int64"}), pa.Table.from_pylist(ROWS)):
        given = given.drop(columns="tall") if isinstance(given, pd.DataFrame) else given.drop_columns("tall")
        result = ask("predict_batch", "person", given).raise_for_errors()
        assert [known(row["slots"]) for row in result] == [[22.0, 1.0, BORN, 0.0], [None, 0.0, None, 0.0]]


def test_data_frames_without_holes_go_as_columns(ask: Ask) -> None:
    frame = pd.DataFrame([ROWS[0], {**ROWS[0], "age": 40, "comment": "é"}])
    for given in (frame, pa.Table.from_pandas(frame)):
        result = ask("predict_batch", "person", given).raise_for_errors()
        assert isinstance(result.outputs["slots"], np.ndarray)
        assert result.outputs["slots"][:, 0].tolist() == [22.0, 40.0]
        assert result.outputs["comment"].tolist() == ["hello", "é"]
