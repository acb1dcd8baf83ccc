"""Perceptrons with random weights of a fixed seed: their weights, their answers, and files of them in other formats."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from penstock.load.rows import Row

__all__ = ["Layer", "mlp_answers", "mlp_layers", "write_exported_mlp", "write_saved_mlp"]

# Weights [inputs, outputs] and bias [outputs], float32.
Layer: TypeAlias = tuple[NDArray[np.float32], NDArray[np.float32]]


def mlp_layers(widths: Sequence[int], seed: int = 1) -> list[Layer]:
    """Draw the layers of a perceptron: ReLU between them, softmax behind the last."""
    generator = np.random.default_rng(seed)
    layers: list[Layer] = []
    for rows, columns in pairwise(widths):
        weights = (generator.standard_normal((rows, columns)) / np.sqrt(rows)).astype(np.float32)
        layers.append((weights, (generator.standard_normal(columns) / 10).astype(np.float32)))
    return layers


def mlp_answers(layers: Sequence[Layer], rows: Iterable[Row]) -> list[Row]:
    """Answer one row at a time, in float64."""
    return [{"y": _answer(layers, row["x"].astype(np.float64)).astype(np.float32)} for row in rows]


def write_exported_mlp(path: Path, widths: Sequence[int], seed: int = 1) -> Path:
    """Write the perceptron of write_mlp() as a PyTorch exported program (.pt2); its path."""
    import torch

    parts: list[Any] = []
    for weights, bias in mlp_layers(widths, seed):
        linear = torch.nn.Linear(*weights.shape)
        with torch.no_grad():
            linear.weight.copy_(torch.from_numpy(weights.T.copy()))
            linear.bias.copy_(torch.from_numpy(bias))
        parts += [linear, torch.nn.ReLU()]
    module = _naming(torch, torch.nn.Sequential(*parts[:-1], torch.nn.Softmax(dim=1)))
    example = torch.zeros(2, widths[0])
    batch = torch.export.Dim("batch", min=1, max=4096)
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.export.save(torch.export.export(module.eval(), (example,), dynamic_shapes=({0: batch},)), path)
    return path


def write_saved_mlp(folder: Path, widths: Sequence[int], seed: int = 1) -> Path:
    """Write the perceptron of write_mlp() as a TensorFlow SavedModel; its folder."""
    import tensorflow as tf

    layers = [(tf.Variable(weights), tf.Variable(bias)) for weights, bias in mlp_layers(widths, seed)]
    module = tf.Module()
    module.layers = layers

    def serve(x: Any) -> dict[str, Any]:
        value = x
        for number, (weights, bias) in enumerate(layers, 1):
            value = tf.matmul(value, weights) + bias
            value = tf.nn.relu(value) if number < len(layers) else tf.nn.softmax(value)
        return {"y": value}

    module.serve = tf.function(serve, input_signature=[tf.TensorSpec([None, widths[0]], tf.float32, name="x")])
    folder.parent.mkdir(parents=True, exist_ok=True)
    tf.saved_model.save(module, str(folder), signatures={"serving_default": module.serve})
    return folder


def _naming(torch: Any, inner: Any) -> Any:
    """Wrap a module so that its input is called x and its output y."""

    class Named(torch.nn.Module):  # type: ignore[misc]  # torch is an extra, and has no types without it
        def __init__(self) -> None:
            super().__init__()
            self.inner = inner

        def forward(self, x: Any) -> dict[str, Any]:
            return {"y": self.inner(x)}

    return Named()


def _answer(layers: Sequence[Layer], x: NDArray[np.float64]) -> NDArray[np.float64]:
    for number, (weights, bias) in enumerate(layers, 1):
        x = x @ weights.astype(np.float64) + bias
        if number < len(layers):
            x = np.maximum(x, 0)
    powers = np.exp(x - x.max())
    return np.asarray(powers / powers.sum())
