"""Plans whose features a device makes: the kernels of the CUDA lane, as the host builds them, against the CPU's own."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from penstock.processing.unfit import UnfitFeatureError
from penstock.worker.backends import Backend, LoadOptions, open_backend
from penstock.worker.devices.backend import GraphBackend
from penstock.worker.planned import with_plan
from penstock.worker.processed import Processed
from penstock.worker.warmup import warm_up
from tests.models import save, tensor

JSON = {"Content-Type": "application/json"}
RECORD = {
    "age": {"type": ["number", "null"], "minimum": 0},
    "sex": {"enum": ["female", "male"]},
    "born": {"type": "string", "format": "date"},
    "pixels": {"type": "string", "contentMediaType": "image/*"},
}
FEATURES: list[dict[str, Any]] = [
    {"column": "age", "steps": [{"impute": "constant", "value": 30, "indicator": True}, {"log": 1}], "into": "x"},
    {
        "column": "sex",
        "steps": [{"encode": "one-hot", "numbers": [["female", 0], ["male", 1]], "width": 2}],
        "into": "x",
    },
    {"column": "born", "steps": [{"date": ["month"]}, {"cycle": 12}], "into": "x"},
    {
        "column": "pixels",
        "steps": [{"image": "RGB", "resize": [4, 8], "mean": [0.1, 0.2, 0.5], "std": [1, 0.3, 0.5]}],
        "into": "image",
    },
]
ANSWER = {"scores": {"labels": ["a", "b", "c", "d", "e", "f"], "scores": "softmax", "give": ["label", "confidence"]}}


def model(folder: Path, answer: dict[str, Any]) -> Path:
    """Return a folder with a network that gives what it sees, and a plan."""
    folder.mkdir()
    save(
        folder / "model.onnx",
        [helper.make_node("Identity", ["x"], ["scores"]), helper.make_node("Identity", ["image"], ["seen"])],
        [tensor("x", TensorProto.FLOAT, 6), tensor("image", TensorProto.FLOAT, 3, 4, 8)],
        [tensor("scores", TensorProto.FLOAT, 6), tensor("seen", TensorProto.FLOAT, 3, 4, 8)],
        {},
    )
    plan = {"format": 1, "record": RECORD, "features": FEATURES}
    (folder / "processing.json").write_text(json.dumps(plan | ({"answer": answer} if answer else {})))
    return folder


def opened(folder: Path, device: str) -> Backend:
    backend = with_plan(open_backend(folder, "auto", LoadOptions(device=device)), folder)
    if device != "cpu":
        assert isinstance(backend, GraphBackend)
        backend.prepare(64, (), ())
    return backend


def rows(backend: Backend, count: int) -> list[np.ndarray]:
    """Return records as they lie in the ring."""
    generator = np.random.default_rng(3)
    slots = np.stack(
        [
            np.where(generator.random(count) < 0.3, np.nan, generator.uniform(0, 90, count)),
            generator.integers(-1, 2, count).astype(float),
            generator.uniform(-1e9, 1.8e9, count),
        ],
        axis=1,
    )
    by_name = {"$record": slots, "pixels": generator.integers(0, 256, (count, 4, 8, 3)).astype(np.uint8)}
    return [by_name[each.name] for each in backend.spec.inputs]


def results(backend: Backend, count: int) -> list[np.ndarray]:
    outputs = [
        np.empty((count, *each.shape), object if each.dtype == "str" else each.dtype) for each in backend.spec.outputs
    ]
    backend.run(rows(backend, count), outputs)
    return outputs


@pytest.mark.parametrize("answer", [{}, ANSWER], ids=["outputs", "answers"])
def test_features_of_a_device_are_those_of_the_cpu(tmp_path: Path, answer: dict[str, Any]) -> None:
    folder = model(tmp_path / "model", answer)
    cpu, device = opened(folder, "cpu"), opened(folder, "host")
    assert isinstance(cpu, Processed)
    assert cpu.spec == device.spec
    for count in (1, 7, 64):
        for expected, found in zip(results(cpu, count), results(device, count), strict=True):
            assert np.array_equal(expected, found)


def whole(tmp_path: Path, *steps: dict[str, Any]) -> Path:
    """Return a folder with a network that gives the integers it sees, of numbers that may be missing."""
    folder = tmp_path / "whole"
    folder.mkdir()
    save(
        folder / "model.onnx",
        [helper.make_node("Identity", ["x"], ["y"])],
        [tensor("x", TensorProto.INT64, 1)],
        [tensor("y", TensorProto.INT64, 1)],
        {},
    )
    plan = {
        "format": 1,
        "record": {"age": {"type": ["number", "null"]}},
        "features": [{"column": "age", "steps": [*steps]}],
    }
    (folder / "processing.json").write_text(json.dumps(plan))
    return folder


@pytest.mark.parametrize("wrong", [np.nan, 1e19])
def test_a_device_says_of_which_feature_an_integer_is_none(tmp_path: Path, wrong: float) -> None:
    folder = whole(tmp_path)
    told = []
    for device in ("cpu", "host"):
        backend = opened(folder, device)
        found = np.empty((3, 1), np.int64)
        backend.run([np.array([[1.5], [-2], [3]])], [found])
        assert found.tolist() == [[1], [-2], [3]]
        found[:] = 0
        with pytest.raises(UnfitFeatureError) as refused:
            backend.run([np.array([[1], [wrong], [-(2.0**63)], [wrong]])], [np.empty((4, 1), np.int64)])
        assert list(refused.value.faults) == [1, 3]
        with pytest.raises(UnfitFeatureError) as refused:
            backend.run([np.array([[1], [wrong], [3]])], [found])
        assert found[[0, 2]].tolist() == [[1], [3]]  # the neighbours are answered
        told.append(str(refused.value))
    assert told[0] == told[1]
    assert told[0].startswith("row 1: age: ")


@pytest.mark.parametrize("device", ["cpu", "host"])
def test_a_record_made_of_the_schema_may_be_one_that_does_not_fit(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, device: str
) -> None:
    backend = opened(whole(tmp_path, {"log": 0}), device)  # of which 0 has none
    assert warm_up(backend, [1, 2]) == ()
    assert "age: -inf does not fit input 'x'" in caplog.text


def test_a_served_device_fails_the_row_whose_feature_is_no_integer(tmp_path: Path) -> None:
    pytest.importorskip("penstock.native._dataplane", reason="needs the data plane")
    from tests.serving import Server

    server = Server.start([str(whole(tmp_path)), "--device", "host"], tmp_path)
    try:
        many = [{"age": 1}, {"age": None}, {"age": 3}]
        answer = server.request(
            "POST", "/predict/batch", json.dumps({"model": "whole", "inputs": many}).encode(), JSON
        ).json()
        assert answer["outputs"] == [{"y": [1]}, None, {"y": [3]}]
        (error,) = answer["errors"]
        assert (error["row"], error["code"]) == (1, "invalid_input")
        alone = server.predict(model="whole", inputs={"age": None})
        assert (alone.status, alone.json()["detail"]) == (422, error["detail"])
    finally:
        server.stop()


def words(tmp_path: Path) -> Path:
    """Return a folder with a network that gives what it sees, of two words that the host counts."""
    folder = tmp_path / "words"
    folder.mkdir()
    save(
        folder / "model.onnx",
        [helper.make_node("Identity", ["x"], ["y"])],
        [tensor("x", TensorProto.FLOAT, 2)],
        [tensor("y", TensorProto.FLOAT, 2)],
        {},
    )
    features = [{"column": "note", "steps": [{"words": "counts", "vocabulary": ["fox", "dog"]}]}]
    plan = {"format": 1, "record": {"note": {"type": "string"}}, "features": features}
    (folder / "processing.json").write_text(json.dumps(plan))
    return folder


def test_words_are_counted_by_the_host(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    folder = words(tmp_path)
    network = open_backend(folder, "auto", LoadOptions(device="host"))
    assert isinstance(network, GraphBackend)
    network.prepare(4, (), ())
    backend = with_plan(network, folder)
    assert isinstance(backend, Processed)
    assert "batches run one by one" in caplog.text
    (found,) = [np.empty((2, 2), np.float32)]
    backend.run([np.array([["the fox"], ["a dog, a fox"]], object).reshape(2, *backend.spec.inputs[0].shape)], [found])
    assert found.tolist() == [[1, 0], [1, 1]]


def test_a_server_counts_words_beside_a_device(tmp_path: Path) -> None:
    pytest.importorskip("penstock.native._dataplane", reason="needs the data plane")
    from tests.serving import Server

    folder = words(tmp_path)
    server = Server.start([str(folder), "--device", "host"], tmp_path)
    try:
        reply = server.predict(model="words", inputs={"note": "a dog, a fox"})
        assert reply.json()["outputs"] == {"y": [1, 1]}
    finally:
        server.stop()
