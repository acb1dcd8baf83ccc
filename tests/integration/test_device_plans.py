"""Plans whose features a device makes: the kernels of the CUDA lane, as the host builds them, against the CPU's own."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from onnx import TensorProto, helper

from penstock.worker.backends import Backend, LoadOptions, open_backend
from penstock.worker.devices.backend import GraphBackend
from penstock.worker.processed import Processed, with_plan
from tests.models import save, tensor

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
