"""Digests of ONNX files: what is the same in two versions of a model, and what is not."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from penstock.core.errors import ModelLoadError
from penstock.worker.backends.onnx_digests import digests_of


def saved(
    file: Path, seed: int, *, wide: int = 3, shape: tuple[int, int] = (-1, 3), beside: bool = False, raw: bool = True
) -> Path:
    """Save a layer and a reshape, whose shape is a constant."""
    weights = np.random.default_rng(seed).standard_normal((4, wide)).astype(np.float32)
    tensor = numpy_helper.from_array(weights, "w")
    if not raw:
        tensor = helper.make_tensor("w", TensorProto.FLOAT, weights.shape, weights.ravel().tolist())
    graph = helper.make_graph(
        [helper.make_node("MatMul", ["x", "w"], ["h"]), helper.make_node("Reshape", ["h", "s"], ["y"])],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["n", 4])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [tensor, numpy_helper.from_array(np.array(shape, np.int64), "s")],
    )
    model = helper.make_model(graph)
    onnx.save(model, str(file), save_as_external_data=beside, size_threshold=0, location=f"{file.stem}.data")
    return file


@pytest.mark.parametrize("raw", [True, False])
def test_a_model_that_was_trained_again_has_the_same_graph(tmp_path: Path, raw: bool) -> None:
    first, again, second = (
        digests_of(saved(tmp_path / f"{name}.onnx", seed, raw=raw)) for name, seed in (("a", 1), ("b", 1), ("c", 2))
    )
    assert first == again
    assert first.graph == second.graph
    assert first.weights != second.weights


@pytest.mark.parametrize("other", [{"wide": 6}, {"shape": (3, -1)}])
def test_another_network_has_another_graph(tmp_path: Path, other: dict[str, object]) -> None:
    first = digests_of(saved(tmp_path / "a.onnx", 1))
    second = digests_of(saved(tmp_path / "b.onnx", 1, **other))  # type: ignore[arg-type]
    assert first.graph != second.graph


def test_weights_in_a_file_beside_count(tmp_path: Path) -> None:
    for folder in ("a", "b"):
        (tmp_path / folder).mkdir()
    first = digests_of(saved(tmp_path / "a" / "m.onnx", 1, beside=True))
    second = digests_of(saved(tmp_path / "b" / "m.onnx", 2, beside=True))
    assert (tmp_path / "a" / "m.data").is_file()
    assert first.graph == second.graph
    assert first.weights != second.weights


@pytest.mark.parametrize("kept", [0, 40, -1])
def test_a_file_that_is_not_whole_is_refused(tmp_path: Path, kept: int) -> None:
    file = saved(tmp_path / "a.onnx", 1)
    file.write_bytes(file.read_bytes()[:kept])
    with pytest.raises(ModelLoadError, match="is no ONNX file, or not a complete one"):
        digests_of(file)


def test_a_file_whose_weights_are_gone_is_refused(tmp_path: Path) -> None:
    file = saved(tmp_path / "a.onnx", 1, beside=True)
    data = tmp_path / "a.data"
    data.write_bytes(data.read_bytes()[:20])
    with pytest.raises(ModelLoadError, match="ends within the weights"):
        digests_of(file)
    data.unlink()
    with pytest.raises(ModelLoadError, match=r"a\.data"):
        digests_of(file)
