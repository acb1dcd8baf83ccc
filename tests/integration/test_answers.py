"""Answers of served models, on every way to them."""

import json
from collections.abc import Callable, Iterator

import msgpack
import numpy as np
import orjson
import pytest

from bench.wire import Reply, Wire
from tests import models
from tests.serving import Server

JSON = {"Content-Type": "application/json"}
MSGPACK = {"Content-Type": "application/msgpack", "Accept": "application/msgpack"}
RAW = {"Content-Type": "application/octet-stream"}

LABELS = ["cat", "dog", "bird", "fish"]
ANIMALS = {
    "y": {
        "scores": "softmax",
        "calibration": {"temperature": 2.0},
        "labels": LABELS,
        "give": ["label", "confidence", "probabilities", "abstained", "reason", "top_labels", "set", "set_size"],
        "top": 2,
        "threshold": {"cat": 0.5, "dog": 0.5, "bird": 0.9},
        "abstain": "unsure",
        "conformal": {"rule": "lac", "alpha": 0.1, "quantile": 0.75},
    }
}
# Rows of x; the model's y is 2 x + 1, so that with this temperature probabilities are softmax(x).
ROWS = np.float32([[3, 0, 0, 0], [0, 0, 1, 0], [0.1, 0, 0, 0.2], [-9, -9, 2, -9]])
EXPECTED = [
    ("cat", False, "", ["cat", "dog"], ["cat"]),
    ("unsure", True, "confidence in bird is below 0.9", ["bird", "cat"], ["bird"]),
    ("fish", False, "", ["fish", "cat"], ["fish", "cat"]),
    ("bird", False, "", ["bird", "cat"], ["bird"]),
]

HOUSES = """
    import numpy as np
    from penstock.worker import Tensor

    class Model:
        inputs = {"area": Tensor("float32")}
        outputs = {"price": Tensor("float32"), "spread": Tensor("float32"), "rooms": Tensor("float64", (2,))}

        def predict(self, batch):
            area = batch["area"]
            if (area == 666).any():
                raise ValueError("no such house")
            return {"price": np.log1p(area), "spread": area / 100, "rooms": np.stack([area / 30, -area], axis=1)}
"""
PRICES = {
    "price": {
        "inverse": [{"log": 1}],
        "unit": "EUR",
        "round": 1,
        "interval": {"alpha": 0.1, "quantile": 2.0, "by": "spread"},
    },
    "spread": {"drop": True},
    "rooms": {"columns": [{"name": "rooms", "cast": "int32"}, {"name": "depth", "maximum": -50, "unit": "m"}]},
}


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    folder = tmp_path_factory.mktemp("answers")
    animals = models.affine(folder)
    houses = folder / "houses.py"
    houses.write_text("\n".join(line[4:] for line in HOUSES.splitlines()))
    for name, answer in (("affine", ANIMALS), ("houses", PRICES)):
        (folder / f"{name}.processing.json").write_text(json.dumps({"format": 1, "answer": answer}))
    running = Server.start([f"animals={animals}", f"houses={houses}"], folder)
    yield running
    running.stop()


@pytest.fixture
def wire(server: Server, connect: Callable[..., Wire]) -> Wire:
    return connect(server)


def check(outputs: dict[str, object], row: np.ndarray, expected: tuple[object, ...]) -> None:
    label, abstained, reason, top, labels = expected
    probabilities = np.exp(row) / np.exp(row).sum()
    np.testing.assert_allclose(outputs.pop("probabilities"), probabilities, rtol=1e-5)
    np.testing.assert_allclose(outputs.pop("confidence"), probabilities.max(), rtol=1e-5)
    assert isinstance(labels, list)
    assert outputs == {
        "label": label,
        "abstained": abstained,
        "reason": reason,
        "top_labels": top,
        "set": [*labels, *[""] * (4 - len(labels))],
        "set_size": len(labels),
    }


def ok(reply: Reply) -> Reply:
    assert reply.status == 200, reply.body
    return reply


def test_json_and_msgpack(wire: Wire) -> None:
    for row, expected in zip(ROWS, EXPECTED, strict=True):
        request = {"model": "animals", "inputs": row.tolist()}
        check(ok(wire.ask("POST", "/predict", orjson.dumps(request), JSON)).json()["outputs"], row, expected)
        reply = ok(wire.ask("POST", "/predict", msgpack.packb(request), MSGPACK))
        check(msgpack.unpackb(reply.body)["outputs"], row, expected)


def test_raw(wire: Wire) -> None:
    raw = RAW | {"Accept": "application/octet-stream"}
    reply = ok(wire.ask("POST", "/predict?model=animals&output=probabilities", ROWS[0].tobytes(), raw))
    expected = np.exp(ROWS[0]) / np.exp(ROWS[0]).sum()
    np.testing.assert_allclose(np.frombuffer(reply.body, np.float32), expected, rtol=1e-5)


def test_many_rows(wire: Wire) -> None:
    rows = np.tile(ROWS, (100, 1))
    request = orjson.dumps({"model": "animals", "inputs": rows.tolist()})
    answer = ok(wire.ask("POST", "/predict/batch", request, JSON)).json()
    assert answer["errors"] == []
    for place, (outputs, row) in enumerate(zip(answer["outputs"], rows, strict=True)):
        check(outputs, row, EXPECTED[place % len(EXPECTED)])


def test_open_inference_protocol(wire: Wire) -> None:
    tensor = {"name": "x", "shape": list(ROWS.shape), "datatype": "FP32", "data": ROWS.tolist()}
    reply = ok(wire.ask("POST", "/v2/models/animals/infer", orjson.dumps({"inputs": [tensor]}), JSON))
    found = {of["name"]: np.array(of["data"]).reshape(of["shape"]) for of in reply.json()["outputs"]}
    for place, (row, expected) in enumerate(zip(ROWS, EXPECTED, strict=True)):
        check({name: values[place].tolist() for name, values in found.items()}, row, expected)


def test_a_row_without_numbers_fails_alone(wire: Wire) -> None:
    rows = np.tile(ROWS, (20, 1))
    rows[[0, 41, 79], [0, 2, 3]] = np.nan
    body = rows.tobytes()
    answer = ok(wire.ask("POST", "/predict/batch?model=animals", body, RAW)).json()
    assert [error["row"] for error in answer["errors"]] == [0, 41, 79]
    assert {error["code"] for error in answer["errors"]} == {"model_error"}
    assert all("output 'y' of the model is no number (NaN)" in error["detail"] for error in answer["errors"])
    for place, outputs in enumerate(answer["outputs"]):
        if place not in (0, 41, 79):
            check(outputs, rows[place], EXPECTED[place % len(EXPECTED)])


def test_numbers_get_back_to_their_unit(wire: Wire) -> None:
    request = {"model": "houses", "inputs": 100.0}
    outputs = ok(wire.ask("POST", "/predict", orjson.dumps(request), JSON)).json()["outputs"]
    # The model's float32 is a little less than log(101), and bounds are rounded outwards.
    assert outputs == {"price": 100, "price_low": 97.9, "price_high": 102, "rooms": 3, "depth": -100}
    rows = [30.0, 666.0, 90.0]
    request_ = orjson.dumps({"model": "houses", "inputs": rows})
    answer = ok(wire.ask("POST", "/predict/batch", request_, JSON)).json()
    assert [error["row"] for error in answer["errors"]] == [1]
    assert [outputs and (outputs["price"], outputs["depth"]) for outputs in answer["outputs"]] == [
        (30, -50),
        None,
        (90, -90),
    ]


def test_descriptions_name_outputs_and_units(server: Server) -> None:
    version = server.request("GET", "/models/houses").json()["versions"][0]
    assert version["outputs"] == [
        {"name": "price", "dtype": "float32", "shape": [], "unit": "EUR"},
        {"name": "price_low", "dtype": "float32", "shape": [], "unit": "EUR"},
        {"name": "price_high", "dtype": "float32", "shape": [], "unit": "EUR"},
        {"name": "rooms", "dtype": "int32", "shape": []},
        {"name": "depth", "dtype": "float64", "shape": [], "unit": "m"},
    ]
    version = server.request("GET", "/models/animals").json()["versions"][0]
    assert [tensor["name"] for tensor in version["outputs"]] == ANIMALS["y"]["give"]
    metadata = server.request("GET", "/v2/models/animals").json()
    assert metadata["outputs"][0] == {"name": "label", "datatype": "BYTES", "shape": [-1]}
