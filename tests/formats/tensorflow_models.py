"""TensorFlow models for the tests, honest and hostile."""

import io
import json
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import keras
import numpy as np
import tensorflow as tf

__all__ = [
    "archive_with",
    "classifier",
    "export",
    "graph_of",
    "h5_with",
    "save_function",
    "tokens",
    "two_in_two_out",
]


def classifier(seed: int = 1) -> Any:
    """Return a small Keras classifier of four features."""
    keras.utils.set_random_seed(seed)
    return keras.Sequential(
        [
            keras.Input((4,), name="features"),
            keras.layers.Dense(8, activation="relu"),
            keras.layers.Dense(3, activation="softmax", name="probabilities"),
        ]
    )


def two_in_two_out() -> Any:
    """Return a Keras model that takes a dict and gives one: `total` and `label`, an integer."""
    a, b = keras.Input((3,), name="a"), keras.Input((2, 2), dtype="int32", name="b")
    flat = keras.ops.cast(keras.layers.Flatten()(b), "float32")
    total = keras.layers.Dense(2, name="total")(keras.layers.Concatenate()([a, flat]))
    return keras.Model({"b": b, "a": a}, {"total": total, "label": keras.ops.argmax(total, axis=-1)})


def tokens() -> Any:
    """Return a Keras model of rows of any length: `states` of each token, and `most`, the largest of each."""
    ids = keras.Input((None,), dtype="int32", name="ids")
    states = keras.layers.Embedding(20, 3, name="states")(ids)
    return keras.Model(ids, {"states": states, "most": keras.layers.GlobalMaxPooling1D(name="most")(states)})


def export(model: Any, folder: Path) -> Path:
    """Export a Keras model as a SavedModel."""
    model.export(str(folder), verbose=False)
    return folder


def save_function(folder: Path, function: Callable[..., Any], *inputs: Any, **more: Any) -> Path:
    """Save a function of tensors as a SavedModel; `inputs` are tf.TensorSpec, `more` what it holds."""
    module = tf.Module()
    for name, value in more.items():
        setattr(module, name, value)
    module.function = tf.function(function, input_signature=inputs, autograph=False)
    tf.saved_model.save(module, str(folder), signatures=module.function)
    return folder


def graph_of(folder: Path) -> tuple[Any, Callable[[], None]]:
    """Return the saved graph of a folder, and what writes it back."""
    from tensorflow.core.protobuf.saved_model_pb2 import SavedModel

    graph, file = SavedModel(), folder / "saved_model.pb"
    graph.ParseFromString(file.read_bytes())

    def write() -> None:
        file.write_bytes(graph.SerializeToString())

    return graph, write


def archive_with(path: Path, change: Callable[[dict[str, Any]], Any] = lambda config: None, **members: bytes) -> Path:
    """Rewrite a .keras archive with another architecture, and other members."""
    with zipfile.ZipFile(path) as archive:
        content = {name: archive.read(name) for name in archive.namelist()}
    config = json.loads(content["config.json"])
    change(config)
    content["config.json"] = json.dumps(config).encode()
    content |= {name.replace("__", "."): value for name, value in members.items()}
    with zipfile.ZipFile(path, "w") as archive:
        for name, value in content.items():
            archive.writestr(name, value)
    return path


def h5_with(fill: Callable[[Any], Any]) -> bytes:
    """Return an HDF5 file that `fill` has filled."""
    buffer = io.BytesIO()
    with h5py.File(buffer, "w") as file:
        fill(file)
    return buffer.getvalue()


def rows(*shape: int, dtype: str = "float32") -> Any:
    """Return some numbers."""
    return (np.arange(np.prod(shape)).reshape(shape) % 7).astype(dtype)
