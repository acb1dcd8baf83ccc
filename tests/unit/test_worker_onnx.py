"""ONNX models: their schema, their answers against a direct run, and what is said about those that cannot be served."""

from pathlib import Path

import numpy as np
import onnxruntime
import pytest
from onnx import TensorProto, helper
from skl2onnx import to_onnx
from sklearn.datasets import load_iris
from sklearn.linear_model import LogisticRegression

from penstock.core.errors import ModelLoadError
from penstock.worker.arrays import Array, room
from penstock.worker.backends import Backend, LoadOptions, open_backend
from penstock.worker.model import BadOutputError, TensorSpec
from penstock.worker.warmup import sizes_to_run, warm_up
from tests import models


def opened(path: Path, *lengths: int) -> Backend:
    return open_backend(path, "auto", LoadOptions(lengths=lengths))


def answers(backend: Backend, *inputs: Array) -> list[Array]:
    for array in inputs:
        array.flags.writeable = False
    outputs = [room((len(inputs[0]), *tensor.shape), tensor.dtype) for tensor in backend.spec.outputs]
    backend.run(inputs, outputs)
    return outputs


@pytest.mark.parametrize("rows", [1, 3, 64])
def test_answers_are_those_of_a_direct_run(tmp_path: Path, rows: int) -> None:
    path = models.mlp(tmp_path)
    x = np.random.default_rng(rows).standard_normal((rows, 32)).astype(np.float32)
    (expected,) = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"]).run(None, {"x": x})
    (got,) = answers(opened(path), x)
    np.testing.assert_array_equal(got, expected)


def test_schema_of_several_tensors(tmp_path: Path) -> None:
    backend = opened(models.pair(tmp_path))
    assert backend.spec.inputs == (TensorSpec("a", "float32", (2, 3)), TensorSpec("b", "int64", (5,)))
    assert backend.spec.outputs == (TensorSpec("scaled", "float32", (2, 3)), TensorSpec("total", "int64", ()))
    assert backend.spec.max_batch_size is None
    assert backend.rerun
    a = np.arange(12, dtype=np.float32).reshape(2, 2, 3)
    b = np.arange(10, dtype=np.int64).reshape(2, 5)
    scaled, total = answers(backend, a, b)
    np.testing.assert_array_equal(scaled, 3 * a)
    np.testing.assert_array_equal(total, [10, 35])


DTYPES = {
    TensorProto.BOOL: "bool",
    TensorProto.UINT8: "uint8",
    TensorProto.UINT16: "uint16",
    TensorProto.UINT32: "uint32",
    TensorProto.UINT64: "uint64",
    TensorProto.INT8: "int8",
    TensorProto.INT16: "int16",
    TensorProto.INT32: "int32",
    TensorProto.INT64: "int64",
    TensorProto.FLOAT16: "float16",
    TensorProto.FLOAT: "float32",
    TensorProto.DOUBLE: "float64",
}


@pytest.mark.parametrize("onnx_type", DTYPES, ids=DTYPES.get)
def test_every_dtype_goes_in_and_out(tmp_path: Path, onnx_type: int) -> None:
    dtype = DTYPES[onnx_type]
    path = models.save(
        tmp_path / "identity.onnx",
        [helper.make_node("Identity", ["x"], ["y"])],
        [models.tensor("x", onnx_type, 3)],
        [models.tensor("y", onnx_type, 3)],
        {},
    )
    backend = opened(path)
    assert backend.spec.inputs == (TensorSpec("x", dtype, (3,)),)
    assert backend.spec.outputs == (TensorSpec("y", dtype, (3,)),)
    x = np.array([[0, 1, 1], [1, 0, 1]], dtype)
    (y,) = answers(backend, x)
    np.testing.assert_array_equal(y, x)


def test_strings_go_in_and_out(tmp_path: Path) -> None:
    path = models.save(
        tmp_path / "upper.onnx",
        [helper.make_node("StringNormalizer", ["x"], ["y"], case_change_action="UPPER", locale="C.UTF-8")],
        [helper.make_tensor_value_info("x", TensorProto.STRING, [None])],
        [helper.make_tensor_value_info("y", TensorProto.STRING, [None])],
        {},
    )
    backend = opened(path)
    assert backend.spec.inputs == (TensorSpec("x", "str", ()),)
    assert backend.spec.outputs == (TensorSpec("y", "str", ()),)
    (y,) = answers(backend, np.array(["a\u00e9", "", "x" * 3000], object))
    assert y.tolist() == ["A\u00c9", "", "X" * 3000]


@pytest.fixture
def iris() -> tuple[Array, Array]:
    features, classes = load_iris(return_X_y=True)
    return features.astype(np.float32), classes


def test_zip_map_becomes_a_matrix(tmp_path: Path, iris: tuple[Array, Array]) -> None:
    features, classes = iris
    model = LogisticRegression(max_iter=1000).fit(features, classes)
    path = tmp_path / "iris.onnx"
    path.write_bytes(to_onnx(model, features[:1]).SerializeToString())
    backend = opened(path)
    assert backend.spec.outputs == (
        TensorSpec("output_label", "int64", ()),
        TensorSpec("output_probability", "float32", (3,)),
    )
    assert backend.spec.labels == {"output_probability": (0, 1, 2)}
    label, probability = answers(backend, features.copy())
    np.testing.assert_array_equal(label, model.predict(features))
    np.testing.assert_allclose(probability, model.predict_proba(features), atol=1e-5)


def test_text_labels_are_strings(tmp_path: Path, iris: tuple[Array, Array]) -> None:
    features, classes = iris
    names = np.array(["setosa", "versicolor", "virginica"])[classes]
    model = LogisticRegression(max_iter=1000).fit(features, names)
    path = tmp_path / "iris.onnx"
    path.write_bytes(to_onnx(model, features[:1]).SerializeToString())
    backend = opened(path)
    assert backend.spec.outputs[0] == TensorSpec("output_label", "str", ())
    assert backend.spec.labels == {"output_probability": ("setosa", "versicolor", "virginica")}
    label, probability = answers(backend, features.copy())
    assert label.tolist() == model.predict(features).tolist()
    np.testing.assert_allclose(probability, model.predict_proba(features), atol=1e-5)


def test_open_output_dimensions_are_found_by_running(tmp_path: Path) -> None:
    path = models.save(
        tmp_path / "open.onnx",
        [helper.make_node("Concat", ["x", "x"], ["y"], axis=1)],
        [models.tensor("x", TensorProto.FLOAT, 3)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", "width"])],
        {},
    )
    assert opened(path).spec.outputs == (TensorSpec("y", "float32", (6,)),)


def fixed(path: Path, batch: int) -> Path:
    return models.save(
        path,
        [helper.make_node("Mul", ["x", "two"], ["y"])],
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [batch, 2])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [batch, 2])],
        {"two": np.float32([2.0])},
    )


@pytest.mark.parametrize("batch", [1, 4])
def test_a_fixed_batch_is_padded(tmp_path: Path, batch: int) -> None:
    backend = opened(fixed(tmp_path / "fixed.onnx", batch))
    assert backend.spec.max_batch_size == batch
    warm_up(backend, sizes_to_run(batch))
    for rows in range(batch, 0, -1):
        x = np.random.default_rng(rows).standard_normal((rows, 2)).astype(np.float32)
        (y,) = answers(backend, x)
        np.testing.assert_array_equal(y, 2 * x)


def one_node(path: Path, inputs: list[object], outputs: list[object], node: object, **weights: Array) -> Path:
    return models.save(path, [node], inputs, outputs, weights)  # type: ignore[arg-type, list-item]


def test_inputs_that_no_row_can_hold(tmp_path: Path) -> None:
    info = helper.make_tensor_value_info
    identity = helper.make_node("Identity", ["x"], ["y"])
    path = tmp_path / "m.onnx"

    one_node(path, [info("x", 1, ["n", "m"])], [info("y", 1, ["n", "m"])], identity)
    with pytest.raises(ModelLoadError, match=r"input 'x' has shape \[n, m\]: dimension 1 has no fixed size"):
        opened(path)

    one_node(path, [info("x", 1, [])], [info("y", 1, [])], identity)
    with pytest.raises(ModelLoadError, match="input 'x' is a scalar"):
        opened(path)

    rows = helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, ["n", 1])
    first = helper.make_node("SequenceAt", ["x", "place"], ["y"])
    place = helper.make_tensor_value_info("place", TensorProto.INT64, [])
    one_node(path, [rows, place], [info("y", 1, ["n", 1])], first)
    with pytest.raises(ModelLoadError, match=r"input 'x' is a seq\(tensor\(float\)\)"):
        opened(path)

    add = helper.make_node("Concat", ["x", "z"], ["y"], axis=0)
    one_node(path, [info("x", 1, [2, 3]), info("z", 1, [4, 3])], [info("y", 1, [6, 3])], add)
    with pytest.raises(ModelLoadError, match=r"different first dimensions \(2, 4\)"):
        opened(path)


def test_outputs_that_no_row_can_hold(tmp_path: Path) -> None:
    path = tmp_path / "m.onnx"
    x = models.tensor("x", TensorProto.FLOAT, 3)
    info = helper.make_tensor_value_info

    total = helper.make_node("ReduceSum", ["x"], ["y"], keepdims=0)
    one_node(path, [x], [info("y", 1, [])], total)
    with pytest.raises(ModelLoadError, match=r"output 'y' has shape .* its first dimension must be the batch"):
        opened(path)

    square = helper.make_node("Gemm", ["x", "x"], ["y"], transB=1)
    one_node(path, [x], [info("y", 1, ["n", "n"])], square)
    with pytest.raises(ModelLoadError, match="output 'y' changes its shape with the batch"):
        opened(path)

    rows = helper.make_tensor_sequence_value_info("y", TensorProto.FLOAT, ["n", 3])
    one_node(path, [x], [rows], helper.make_node("SequenceConstruct", ["x"], ["y"]))
    with pytest.raises(ModelLoadError, match="no output that Penstock can serve"):
        opened(path)


@pytest.mark.parametrize("lengths", [(8,), (4, 16), (1,)])
def test_rows_of_any_length(tmp_path: Path, lengths: tuple[int, ...]) -> None:
    backend = opened(models.tokens(tmp_path), *lengths)
    longest = lengths[-1]
    assert backend.spec.inputs == (
        TensorSpec("ids", "int64", (longest,), True),
        TensorSpec("mask", "float32", (longest,), True),
    )
    states, mean = backend.spec.outputs
    # Of rows of one element nobody can tell a length from a size.
    assert states == TensorSpec("states", "float32", (longest, 3), longest > 1)
    assert mean == TensorSpec("mean", "float32", (3,))
    ids, mask = np.zeros((2, longest), np.int64), np.zeros((2, longest), np.float32)
    mask[:, 0] = 1
    outputs = [np.empty((2, longest, 3), np.float32), np.empty((2, 3), np.float32)]
    backend.run([ids, mask], outputs, np.int32([1, 1]))
    np.testing.assert_array_equal(outputs[0][:, 0], outputs[1])


def test_what_may_vary_is_said(tmp_path: Path) -> None:
    path = models.tokens(tmp_path)
    with pytest.raises(ModelLoadError, match=r"input 'ids' has shape \[batch, length\].* Set lengths for the model"):
        opened(path)
    with pytest.raises(ModelLoadError, match="lengths is set, but no input of the model varies"):
        opened(models.affine(tmp_path), 4, 8)
    info = helper.make_tensor_value_info
    third = one_node(
        tmp_path / "third.onnx",
        [info("x", 1, ["n", 2, "m"])],
        [info("y", 1, ["n", 2, "m"])],
        helper.make_node("Identity", ["x"], ["y"]),
    )
    with pytest.raises(
        ModelLoadError, match=r"dimension 2 has no fixed size\. Only the batch and the dimension behind"
    ):
        opened(third, 4, 8)
    doubled = one_node(
        tmp_path / "doubled.onnx",
        [info("x", 1, ["n", "m"])],
        [info("y", 1, ["n", "k"])],
        helper.make_node("Concat", ["x", "x"], ["y"], axis=1),
    )
    with pytest.raises(ModelLoadError, match="output 'y' changes its shape with the batch or the inputs' length"):
        opened(doubled, 4, 8)


def test_a_fixed_batch_of_any_length_is_padded(tmp_path: Path) -> None:
    info = helper.make_tensor_value_info
    path = one_node(
        tmp_path / "fixed.onnx",
        [info("x", 1, [3, "m"])],
        [info("y", 1, [3, "m"])],
        helper.make_node("Neg", ["x"], ["y"]),
    )
    backend = opened(path, 4, 8)
    for length in (4, 8, 4):
        x, y = np.full((2, length), 7, np.float32), np.zeros((2, length), np.float32)
        backend.run([x], [y], np.int32([length, 1]))
        np.testing.assert_array_equal(y, -x)


def test_a_model_that_cannot_run_zeros_is_refused(tmp_path: Path) -> None:
    reshape = helper.make_node("Reshape", ["x", "shape"], ["y"])
    path = one_node(
        tmp_path / "m.onnx",
        [models.tensor("x", TensorProto.FLOAT, 3)],
        [helper.make_tensor_value_info("y", 1, ["n", 5])],
        reshape,
        shape=np.int64([-1, 5]),
    )
    with pytest.raises(ModelLoadError, match="cannot run a batch of 1 rows of zeros"):
        opened(path)


def test_a_result_of_another_shape_is_a_bad_output(tmp_path: Path) -> None:
    # NonZero's result depends on the data: the probe sees no column of it, a real row does.
    path = models.save(
        tmp_path / "m.onnx",
        [helper.make_node("NonZero", ["x"], ["found"]), helper.make_node("Transpose", ["found"], ["y"])],
        [models.tensor("x", TensorProto.FLOAT, 2)],
        [helper.make_tensor_value_info("y", TensorProto.INT64, ["n", 2])],
        {},
    )
    with pytest.raises(ModelLoadError, match="must be the batch"):
        opened(path)

    backend = opened(models.affine(tmp_path))
    with pytest.raises(BadOutputError, match="output 'y'"):
        backend.run([np.zeros((2, 4), np.float32)], [np.zeros((2, 5), np.float32)])


def test_files_that_are_no_model(tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match=r"there is no model at .*absent\.onnx"):
        opened(tmp_path / "absent.onnx")

    broken = tmp_path / "broken.onnx"
    broken.write_bytes(b"this is no protobuf")
    with pytest.raises(ModelLoadError, match=r"cannot load .*broken\.onnx"):
        opened(broken)

    cut = tmp_path / "cut.onnx"
    cut.write_bytes(models.mlp(tmp_path).read_bytes()[:2000])
    with pytest.raises(ModelLoadError, match=r"cannot load .*cut\.onnx"):
        opened(cut)

    folder = tmp_path / "folder.onnx"
    folder.mkdir()
    with pytest.raises(ModelLoadError, match=r"folder\.onnx is no model that Penstock knows"):
        opened(folder)

    other = tmp_path / "model.bin"
    other.write_bytes(b"")
    with pytest.raises(ModelLoadError, match="no model that Penstock knows"):
        opened(other)
    with pytest.raises(ModelLoadError, match="no backend 'keras'"):
        open_backend(other, "keras", LoadOptions())
