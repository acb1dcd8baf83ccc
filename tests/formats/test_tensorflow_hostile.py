"""TensorFlow and Keras files that mean harm: what reaches out of the process is refused before it is loaded."""

import hashlib
import json
import zipfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from penstock.core.errors import ModelLoadError
from penstock.worker.arrays import Array
from penstock.worker.backends import Backend, LoadOptions, open_backend

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


def answers_of(backend: Backend, x: Array) -> list[Any]:
    """Run a batch of a model whose one output has the shape and type of its one input."""
    x.flags.writeable = False
    y = np.zeros_like(x)
    backend.run([x], [y])
    answer: list[Any] = y.tolist()
    return answer


# --- graphs that reach out --------------------------------------------------------------------------------------------


def reaching_out(tf: Any, target: Path) -> dict[str, Callable[[Any], Any]]:
    """Return functions that touch a file, or run code, by the operation that does."""

    def python(x: Any) -> Any:
        target.write_text("pwned")
        return x

    def written(x: Any) -> Any:
        with tf.control_dependencies([tf.raw_ops.WriteFile(filename=str(target), contents="pwned")]):
            return tf.identity(x)

    def saved(x: Any) -> Any:
        with tf.control_dependencies(
            [tf.raw_ops.SaveV2(prefix=str(target), tensor_names=["x"], shape_and_slices=[""], tensors=[x])]
        ):
            return tf.identity(x)

    def printed(x: Any) -> Any:
        with tf.control_dependencies([tf.print("pwned", output_stream=f"file://{target}")]):
            return tf.identity(x)

    def in_a_branch(x: Any) -> Any:
        return tf.cond(tf.reduce_sum(x) > 0, lambda: written(x), lambda: x)

    def restored(x: Any) -> Any:
        values = tf.raw_ops.RestoreV2(prefix="/etc/x", tensor_names=["x"], shape_and_slices=[""], dtypes=[tf.float32])
        return x + values[0]

    def counted(x: Any) -> Any:
        return x + tf.cast(tf.data.TextLineDataset("/etc/passwd").reduce(0, lambda n, _: n + 1), tf.float32)

    def size_of(x: Any, text: Any) -> Any:
        return x + tf.cast(tf.strings.length(text), tf.float32)

    return {
        "EagerPyFunc": lambda x: tf.ensure_shape(tf.py_function(python, [x], tf.float32), (None,)),
        "PyFunc": lambda x: tf.ensure_shape(tf.numpy_function(python, [x], tf.float32), (None,)),
        "WriteFile": written,
        "ReadFile": lambda x: size_of(x, tf.io.read_file("/etc/passwd")),
        "MatchingFiles": lambda x: size_of(x, tf.strings.reduce_join(tf.io.matching_files("/etc/*"))),
        "SaveV2": saved,
        "RestoreV2": restored,
        "PrintV2 to a file": printed,
        "StatelessIf": in_a_branch,
        "TextLineDataset": counted,
    }  # fmt: skip


OPERATIONS = [
    "EagerPyFunc", "PyFunc", "WriteFile", "ReadFile", "MatchingFiles", "SaveV2", "RestoreV2", "PrintV2 to a file",
    "StatelessIf", "TextLineDataset",
]  # fmt: skip


@pytest.mark.parametrize("operation", OPERATIONS)
def test_graphs_that_reach_out_are_refused(tf: Any, made: Any, tmp_path: Path, operation: str) -> None:
    target = tmp_path / "target"
    function = reaching_out(tf, target)[operation]
    path = made.save_function(tmp_path / "saved", function, tf.TensorSpec((None,), tf.float32, "x"))
    named = "WriteFile" if operation == "StatelessIf" else operation
    with pytest.raises(ModelLoadError, match=rf"reaches out of its process \(.*{named}.*trusted_digests"):
        opened(path)
    assert not list(tmp_path.glob("target*"))


def test_a_digest_that_is_trusted_lets_a_graph_reach_out(tf: Any, made: Any, tmp_path: Path) -> None:
    function = reaching_out(tf, tmp_path / "target")["WriteFile"]
    path = made.save_function(tmp_path / "saved", function, tf.TensorSpec((None,), tf.float32, "x"))
    digest = hashlib.sha256((path / "saved_model.pb").read_bytes()).hexdigest()
    x = np.float32([1, 2])
    assert answers_of(opened(path, trusted_digests=(digest,)), x) == [1, 2]
    assert (tmp_path / "target").read_text() == "pwned"


def test_what_saves_the_variables_may_not_be_called_by_the_model(made: Any, tmp_path: Path) -> None:
    path = made.export(made.classifier(), tmp_path / "saved")
    graph, write = made.graph_of(path)
    library = graph.meta_graphs[0].graph_def.library.function
    saver = next(function for function in library if "_traced_save" in function.signature.name)
    caller = next(function for function in library if "signature_wrapper" in function.signature.name)
    node = caller.node_def.add(op="StatefulPartitionedCall", name="hidden", input=[])
    node.attr["f"].func.name = saver.signature.name
    write()
    with pytest.raises(
        ModelLoadError, match=r"reaches out of its process .*StatefulPartitionedCall of __inference__traced_save"
    ):
        opened(path)


def test_a_function_of_the_model_is_no_saver(made: Any, tmp_path: Path) -> None:
    path = made.export(made.classifier(), tmp_path / "saved")
    graph, write = made.graph_of(path)
    meta = graph.meta_graphs[0]
    saver = next(f for f in meta.graph_def.library.function if "_traced_save" in f.signature.name)
    meta.object_graph_def.concrete_functions[saver.signature.name].SetInParent()
    write()
    with pytest.raises(ModelLoadError, match=r"reaches out of its process .*SaveV2"):
        opened(path)


def test_operations_that_nobody_knows_are_refused(made: Any, tmp_path: Path) -> None:
    path = made.export(made.classifier(), tmp_path / "saved")
    graph, write = made.graph_of(path)
    graph.meta_graphs[0].graph_def.node.add(op="MinerOp", name="miner")
    write()
    with pytest.raises(ModelLoadError, match="MinerOp, which this TensorFlow does not know"):
        opened(path)


def test_tables_in_memory_may_be_used_and_tables_of_files_not(tf: Any, made: Any, tmp_path: Path) -> None:
    def looked_up(table: Any) -> Callable[[Any], Any]:
        return lambda x: {"y": table.lookup(x)}

    spec = tf.TensorSpec((None,), tf.int64, "x")
    pairs = tf.lookup.KeyValueTensorInitializer([1, 2], [10, 20], tf.int64, tf.int64)
    table = tf.lookup.StaticHashTable(pairs, -1)
    backend = opened(made.save_function(tmp_path / "memory", looked_up(table), spec, table=table))
    assert answers_of(backend, np.int64([2, 5, 1])) == [20, -1, 10]

    (tmp_path / "lines").write_text("7\n8\n")
    lines = tf.lookup.TextFileInitializer(
        str(tmp_path / "lines"),
        tf.int64,
        tf.lookup.TextFileIndex.WHOLE_LINE,
        tf.int64,
        tf.lookup.TextFileIndex.LINE_NUMBER,
    )
    table = tf.lookup.StaticHashTable(lines, -1)
    path = made.save_function(tmp_path / "file", looked_up(table), spec, table=table)
    with pytest.raises(ModelLoadError, match="InitializeTableFromTextFile"):
        opened(path)
    graph, write = made.graph_of(path)
    graph.meta_graphs[0].asset_file_def[0].filename = "../../lines"
    write()
    with pytest.raises(ModelLoadError, match=r"the asset '\.\./\.\./lines', which leads out of the folder"):
        opened(path)


# --- Keras files that need code, or lie -------------------------------------------------------------------------------


def layer_of(config: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = config["config"]["layers"][1]
    return found


def as_lambda(config: dict[str, Any]) -> None:
    layer = layer_of(config)
    code = {"class_name": "__lambda__", "config": {"code": "4wEAAAA=", "defaults": None, "closure": None}}
    layer.update(class_name="Lambda", config={"name": "evil", "function": code, "trainable": True})


def as_custom_class(config: dict[str, Any]) -> None:
    layer_of(config).update(class_name="Mine", module=None, registered_name="package>Mine")


def as_foreign_class(config: dict[str, Any]) -> None:
    layer_of(config).update(class_name="Popen", module="subprocess", registered_name="Popen")


def as_foreign_function(config: dict[str, Any]) -> None:
    layer_of(config)["config"]["activation"] = {
        "class_name": "function", "module": "os", "config": "system", "registered_name": "system",
    }  # fmt: skip


def as_download(config: dict[str, Any]) -> None:
    layer_of(config)["config"]["activation"] = {
        "class_name": "function", "module": "keras.utils", "config": "get_file", "registered_name": "get_file",
    }  # fmt: skip


def as_pickle(config: dict[str, Any]) -> None:
    layer_of(config).update(class_name="TorchModuleWrapper", config={"module": {"class_name": "__bytes__"}})


def as_lookup(config: dict[str, Any]) -> None:
    layer_of(config).update(class_name="StringLookup", config={"vocabulary": "/etc/passwd"})


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (as_lambda, "Lambda layer, which is Python code|a lambda, which is Python code"),
        (as_custom_class, "custom class 'package>Mine', whose code is not in the file"),
        (as_foreign_class, "class 'Popen' of subprocess, whose code is not in the file"),
        (as_foreign_function, "function 'system' of os, which is no part of Keras' layers"),
        (as_download, "function 'get_file' of keras.utils, which is no part of Keras' layers"),
        (as_pickle, "TorchModuleWrapper, which is a pickle"),
        (as_lookup, "StringLookup layer that reads the file '/etc/passwd'"),
    ],
)
def test_what_needs_code_is_refused(made: Any, tmp_path: Path, change: Callable[[Any], None], text: str) -> None:
    path = tmp_path / "model.keras"
    made.classifier().save(path)
    made.archive_with(path, change)
    with pytest.raises(ModelLoadError, match=f"({text}).*trusted_digests"):
        opened(path)


def test_a_lambda_in_an_h5_file_is_refused(made: Any, tmp_path: Path) -> None:
    path = tmp_path / "model.h5"
    made.classifier().save(path)
    import h5py

    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        config["config"]["layers"][1] = {
            "class_name": "Lambda",
            "config": {"name": "evil", "function": ["code", None, None]},
        }
        file.attrs["model_config"] = json.dumps(config)
    with pytest.raises(ModelLoadError, match="a Lambda layer, which is Python code"):
        opened(path)


def test_a_lambda_that_is_trusted_is_served(made: Any, tmp_path: Path) -> None:
    import keras

    path = tmp_path / "model.keras"
    keras.Sequential([keras.Input((2,), name="x"), keras.layers.Lambda(lambda x: x * 3.0, name="y")]).save(path)
    with pytest.raises(ModelLoadError, match="which is Python code"):
        opened(path)
    backend = opened(path, trusted_digests=(hashlib.sha256(path.read_bytes()).hexdigest(),))
    assert answers_of(backend, np.float32([[1, 2]])) == [[3, 6]]


def weights_with(fill: Callable[[Any], Any]) -> Callable[[Any, Path], None]:
    def write(made: Any, path: Path) -> None:
        made.archive_with(path, model__weights__h5=made.h5_with(fill))

    return write


def a_link_out(file: Any) -> None:
    import h5py

    file["layers"] = h5py.ExternalLink("/etc/passwd", "/")


def a_dataset_elsewhere(file: Any) -> None:
    file.create_dataset("layers", (16,), "u1", external=[("/etc/passwd", 0, 16)])


def a_huge_dataset(file: Any) -> None:
    file.create_dataset("layers", (1 << 20, 1 << 20), "f4", chunks=(1024, 1024))


def a_bomb(made: Any, path: Path) -> None:
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive, archive.open("assets/zeros", "w") as member:
        for _ in range(1100):
            member.write(bytes(1 << 20))


def a_way_out(made: Any, path: Path) -> None:
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("assets/../../../target", "pwned")


@pytest.mark.parametrize(
    ("spoil", "text"),
    [
        (weights_with(a_link_out), "has weights 'layers' that lie in another file"),
        (weights_with(a_dataset_elsewhere), "has weights 'layers' that lie in another file"),
        (weights_with(a_huge_dataset), "would unpack to 4398046511104 bytes"),
        (a_bomb, "more than 20 times"),
        (a_way_out, "leads out of the folder"),
    ],
)
def test_archives_that_lie_are_refused(
    made: Any, tmp_path: Path, spoil: Callable[[Any, Path], None], text: str
) -> None:
    path = tmp_path / "model.keras"
    made.classifier().save(path)
    spoil(made, path)
    before = sorted(tmp_path.parent.rglob("target"))
    with pytest.raises(ModelLoadError, match=text):
        opened(path)
    assert sorted(tmp_path.parent.rglob("target")) == before


def test_no_operation_that_names_a_file_is_let_through(tf: Any) -> None:
    """The lists of operations, against all that this TensorFlow has."""
    from tensorflow.python.framework import op_def_registry

    from penstock.worker.backends.tensorflow.saved_model import _IN_MEMORY, _OUTSIDE

    def allowed(name: str) -> bool:
        definition = op_def_registry.get(name)
        return not _OUTSIDE.fullmatch(name) and (not definition.is_stateful or bool(_IN_MEMORY.fullmatch(name)))

    names = [name for name in dir(tf.raw_ops) if name[0].isupper() and op_def_registry.get(name) is not None]
    assert len(names) > 1000
    told: Sequence[str] = ("file", "path", "url", "address", "directory", "socket", "descriptor_source")
    suspicious = []
    for name in filter(allowed, names):
        definition = op_def_registry.get(name)
        for argument in (*definition.input_arg, *definition.attr):
            if any(word in argument.name.lower().split("_") for word in (*told, "filename")):
                suspicious.append((name, argument.name))
    assert not suspicious
