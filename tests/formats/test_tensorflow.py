"""TensorFlow and Keras models: what they give is what their frameworks give, and what reaches out is refused."""

import logging
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.core.errors import ModelLoadError
from penstock.worker.arrays import Array, blank
from penstock.worker.backends import Backend, LoadOptions, open_backend
from penstock.worker.model import TensorSpec

pytestmark = [pytest.mark.formats, pytest.mark.filterwarnings("ignore")]


@pytest.fixture(scope="module")
def tf() -> Any:
    """TensorFlow, as a worker starts it."""
    from penstock.worker.backends.tensorflow.runtime import start_tensorflow

    start_tensorflow(1)
    import tensorflow

    return tensorflow


@pytest.fixture
def made(tf: Any) -> Any:
    """The makers of models."""
    from tests.formats import tensorflow_models

    return tensorflow_models


def opened(path: Path, **options: Any) -> Backend:
    return open_backend(path, "auto", LoadOptions(**options))


def outputs_of(backend: Backend, *inputs: Array) -> list[Array]:
    """Run a batch as a worker does: read-only rows, and outputs of the declared shapes."""
    longest = next((array.shape[1] for array, spec in zip(inputs, backend.spec.inputs, strict=True) if spec.varies), 0)
    for array in inputs:
        array.flags.writeable = False
    outputs = [blank((len(inputs[0]), *spec.shape_at(longest)), spec.dtype) for spec in backend.spec.outputs]
    lengths = np.full(len(inputs[0]), longest, np.int32) if longest else None
    backend.run(inputs, outputs, lengths)
    return outputs


def aligned(array: Array, skip: int = 0) -> Array:
    """Copy an array to where the ring's rows would lie, or `skip` elements behind."""
    room = np.zeros(array.size + 64 + skip, array.dtype)
    first = -room.ctypes.data % 64 // array.itemsize + skip
    place = room[first : first + array.size].reshape(array.shape)
    place[...] = array
    return place


# --- what they give ---------------------------------------------------------------------------------------------------


def test_a_saved_model_gives_what_tensorflow_gives(tf: Any, made: Any, tmp_path: Path) -> None:
    model = made.classifier()
    backend = opened(made.export(model, tmp_path / "saved"))
    assert backend.name == "tensorflow"
    assert backend.spec.inputs == (TensorSpec("features", "float32", (4,)),)
    assert backend.spec.outputs == (TensorSpec("output_0", "float32", (3,)),)
    for rows in (1, 2, 7, 64):
        x = made.rows(rows, 4)
        expected = tf.saved_model.load(str(tmp_path / "saved")).signatures["serving_default"](tf.constant(x))
        np.testing.assert_array_equal(outputs_of(backend, x)[0], expected["output_0"].numpy())
        np.testing.assert_allclose(outputs_of(backend, x)[0], model.predict(x, verbose=0), rtol=1e-6)


@pytest.mark.parametrize("suffix", ["keras", "h5"])
def test_a_keras_file_gives_what_keras_gives(made: Any, tmp_path: Path, suffix: str) -> None:
    model = made.classifier()
    model.save(tmp_path / f"model.{suffix}")
    backend = opened(tmp_path)
    assert backend.spec.inputs == (TensorSpec("features", "float32", (4,)),)
    assert backend.spec.outputs == (TensorSpec("probabilities", "float32", (3,)),)
    x = made.rows(5, 4)
    np.testing.assert_allclose(outputs_of(backend, x)[0], model.predict(x, verbose=0), rtol=1e-6)


@pytest.mark.parametrize("as_keras", [True, False])
def test_inputs_and_outputs_go_by_their_names(made: Any, tmp_path: Path, as_keras: bool) -> None:
    model = made.two_in_two_out()
    path = tmp_path / "model.keras"
    if as_keras:
        model.save(path)
    else:
        path = made.export(model, tmp_path / "saved")
    backend = opened(path)
    inputs, outputs = ({spec.name: spec for spec in side} for side in (backend.spec.inputs, backend.spec.outputs))
    assert inputs == {"a": TensorSpec("a", "float32", (3,)), "b": TensorSpec("b", "int32", (2, 2))}
    label = next(name for name, spec in outputs.items() if spec.dtype == "int32")
    total = next(name for name in outputs if name != label)
    values = {"a": made.rows(6, 3), "b": made.rows(6, 2, 2, dtype="int32")}
    results = dict(zip(outputs, outputs_of(backend, *(values[name] for name in inputs)), strict=True))
    expected = model.predict(values, verbose=0)
    np.testing.assert_allclose(results[total], expected["total"], rtol=1e-5)
    np.testing.assert_array_equal(results[label], expected["label"])


@pytest.mark.parametrize("as_keras", [True, False])
def test_rows_may_vary_in_length(made: Any, tmp_path: Path, as_keras: bool) -> None:
    model = made.tokens()
    path = tmp_path / "model.keras"
    if as_keras:
        model.save(path)
    else:
        path = made.export(model, tmp_path / "saved")
    with pytest.raises(ModelLoadError, match="Set lengths"):
        opened(path)
    backend = opened(path, lengths=(4, 16))
    assert backend.spec.inputs == (TensorSpec("ids", "int32", (16,), True),)
    assert set(backend.spec.outputs) == {
        TensorSpec("most", "float32", (3,)),
        TensorSpec("states", "float32", (16, 3), True),
    }
    names = [spec.name for spec in backend.spec.outputs]
    for length in (4, 16):
        ids = made.rows(3, length, dtype="int32")
        results = dict(zip(names, outputs_of(backend, ids), strict=True))
        expected = model.predict(ids, verbose=0)
        for name, result in results.items():
            np.testing.assert_allclose(result, expected[name], rtol=1e-6)


def test_a_fixed_batch_is_filled_up(tf: Any, made: Any, tmp_path: Path) -> None:
    path = made.save_function(tmp_path / "saved", lambda x: {"y": 2 * x}, tf.TensorSpec((4, 2), tf.float32, "x"))
    backend = opened(path)
    assert backend.spec.max_batch_size == 4
    x = made.rows(3, 2)
    np.testing.assert_array_equal(outputs_of(backend, x)[0], 2 * x)


@pytest.mark.parametrize("dtype", ["bool", "uint8", "int8", "int16", "int64", "float16", "float64"])
@pytest.mark.parametrize("skip", [0, 1])
def test_element_types_wherever_rows_lie(tf: Any, made: Any, tmp_path: Path, dtype: str, skip: int) -> None:
    path = made.save_function(tmp_path / "saved", lambda x: {"y": x}, tf.TensorSpec((None, 3), dtype, "x"))
    backend = opened(path)
    assert backend.spec.outputs == (TensorSpec("y", dtype, (3,)),)
    x = aligned(made.rows(5, 3, dtype=dtype), skip)
    np.testing.assert_array_equal(outputs_of(backend, x)[0], x)


def test_what_lies_in_the_ring_is_not_written_to(tf: Any, made: Any, tmp_path: Path) -> None:
    path = made.save_function(
        tmp_path / "saved", lambda x: tf.nn.relu(x - 0.0), tf.TensorSpec((None, 4), tf.float32, "x")
    )
    negative = aligned(np.full((16, 4), -1, np.float32))
    in_place = made.save_function(tmp_path / "in place", tf.nn.relu, tf.TensorSpec((None, 4), tf.float32, "x"))
    for folder in (path, in_place):
        assert outputs_of(opened(folder), negative)[0].max() == 0
        assert (negative == -1).all()


def test_strings_are_bytes(tf: Any, made: Any, tmp_path: Path) -> None:
    def function(x: Any, y: Any) -> Any:
        return {"upper": tf.strings.upper(x), "number": tf.strings.as_string(y), "length": tf.strings.length(x)}

    spec = (tf.TensorSpec((None, 2), tf.string, "x"), tf.TensorSpec((None,), tf.int32, "y"))
    backend = opened(made.save_function(tmp_path / "saved", function, *spec))
    assert backend.spec.inputs == (TensorSpec("x", "bytes", (2,)), TensorSpec("y", "int32", ()))
    assert [tensor.dtype for tensor in backend.spec.outputs] == ["int32", "bytes", "bytes"]
    x = np.array([[b"a", b"\xff\x00"], [b"", b"ghi"]], object)
    length, number, upper = outputs_of(backend, x, np.int32([7, -1]))
    assert length.tolist() == [[1, 2], [0, 3]]
    assert number.tolist() == [b"7", b"-1"]
    assert upper.tolist() == [[b"A", b"\xff\x00"], [b"", b"GHI"]]


def test_what_no_tensor_can_be_is_left_out_of_the_outputs(
    tf: Any, made: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    spec = tf.TensorSpec((None,), tf.float32, "x")
    path = made.save_function(tmp_path / "both", lambda x: {"y": x, "small": tf.cast(x, tf.bfloat16)}, spec)
    with caplog.at_level(logging.WARNING):
        assert [output.name for output in opened(path).spec.outputs] == ["y"]
    assert "output 'small' (bfloat16) is not served" in caplog.text
    path = made.save_function(tmp_path / "small", lambda x: {"small": tf.cast(x, tf.bfloat16)}, spec)
    with pytest.raises(ModelLoadError, match="no output that Penstock can serve, only 'small'"):
        opened(path)


def test_an_error_of_a_row_says_what_happened(tf: Any, made: Any, tmp_path: Path) -> None:
    def checked(x: Any) -> Any:
        tf.debugging.assert_non_negative(x, message="no negative numbers")
        return {"y": x}

    backend = opened(made.save_function(tmp_path / "saved", checked, tf.TensorSpec((None, 1), tf.float32, "x")))
    with pytest.raises(RuntimeError, match="no negative numbers"):
        outputs_of(backend, np.float32([[-1]]))


# --- what cannot be served --------------------------------------------------------------------------------------------


def test_schemas_that_cannot_be_served_are_told(tf: Any, made: Any, tmp_path: Path) -> None:
    def refused(text: str, function: Callable[..., Any], *inputs: Any) -> None:
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        made.save_function(folder, function, *inputs)
        with pytest.raises(ModelLoadError, match=text):
            opened(folder)

    refused("is a tensor of complex64, which Penstock cannot serve", tf.abs, tf.TensorSpec((None,), tf.complex64, "x"))
    refused("is a tensor of bfloat16", lambda x: x, tf.TensorSpec((None,), tf.bfloat16, "x"))
    refused("is a scalar and has no batch", lambda x: x, tf.TensorSpec((), tf.float32, "x"))
    refused("shape of unknown rank", lambda x: x, tf.TensorSpec(None, tf.float32, "x"))
    refused("its first dimension must be the batch", tf.reduce_sum, tf.TensorSpec((None,), tf.float32, "x"))
    refused("dimension 2 has no fixed size", lambda x: x, tf.TensorSpec((None, 3, None), tf.float32, "x"))


def test_a_folder_without_a_signature_is_told(tf: Any, tmp_path: Path) -> None:
    module = tf.Module()
    module.x = tf.Variable(1.0)
    tf.saved_model.save(module, str(tmp_path / "saved"))
    with pytest.raises(ModelLoadError, match=r"no signature 'serving_default' \(it has none\)"):
        opened(tmp_path / "saved")


def test_conversions_are_not_for_tensorflow(made: Any, tmp_path: Path) -> None:
    with pytest.raises(ModelLoadError, match="convert = 'onnx' is not for TensorFlow"):
        opened(made.export(made.classifier(), tmp_path / "saved"), convert="onnx")


def test_weights_alone_are_told(made: Any, tmp_path: Path) -> None:
    (tmp_path / "weights.h5").write_bytes(made.h5_with(lambda file: file.create_dataset("kernel", data=[1.0])))
    with pytest.raises(ModelLoadError, match="weights without an architecture"):
        opened(tmp_path / "weights.h5")


@pytest.mark.parametrize("part", [0.0, 0.5, 0.99])
@pytest.mark.parametrize("suffix", ["keras", "h5", "pb"])
def test_files_that_were_cut_off_are_told(made: Any, tmp_path: Path, suffix: str, part: float) -> None:
    path = tmp_path / f"model.{suffix}"
    file = path
    if suffix == "pb":
        path = made.export(made.classifier(), tmp_path / "saved")
        file = path / "saved_model.pb"
    else:
        made.classifier().save(path)
    file.write_bytes(file.read_bytes()[: int(part * file.stat().st_size)])
    with pytest.raises(ModelLoadError, match=r"cut off on its way|holds no graph"):
        opened(path)


def test_variables_that_are_missing_are_told(made: Any, tmp_path: Path) -> None:
    path = made.export(made.classifier(), tmp_path / "saved")
    (path / "variables" / "variables.data-00000-of-00001").write_bytes(b"short")
    with pytest.raises(ModelLoadError, match=r"cannot load .*Check that the folder is complete"):
        opened(path)
