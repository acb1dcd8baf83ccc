"""ONNX graphs with random weights of a fixed seed: what they compute is real, what they know is nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import pairwise
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from bench.models.mlp import mlp_layers

__all__ = ["write_cnn", "write_encoder", "write_extremes", "write_mlp"]

OPSET = 18
IR_VERSION = 10  # the newest that every supported ONNX Runtime reads

Constants: TypeAlias = Mapping[str, NDArray[Any]]
# Name, element type of ONNX, shape of one row.
Tensor: TypeAlias = tuple[str, int, Sequence[int]]


def write_mlp(path: Path, widths: Sequence[int], seed: int = 1) -> Path:
    """Write a multilayer perceptron with ReLU and softmax: "x" float32 [widths[0]] to "y" float32 [widths[-1]]."""
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, NDArray[Any]] = {}
    value = "x"
    for layer, (weights, bias) in enumerate(mlp_layers(widths, seed)):
        constants[f"w{layer}"], constants[f"b{layer}"] = weights, bias
        nodes.append(helper.make_node("Gemm", [value, f"w{layer}", f"b{layer}"], [f"z{layer}"]))
        value = f"z{layer}"
        if layer < len(widths) - 2:
            nodes.append(helper.make_node("Relu", [value], [f"a{layer}"]))
            value = f"a{layer}"
    nodes.append(helper.make_node("Softmax", [value], ["y"], axis=1))
    return _save(path, nodes, ("x", TensorProto.FLOAT, widths[:1]), ("y", TensorProto.FLOAT, widths[-1:]), constants)


def write_extremes(path: Path, width: int) -> Path:
    """Write a model that answers the smallest and the largest of `width` numbers: a large row, a small reply."""
    nodes = [
        helper.make_node("ReduceMin", ["x", "axis"], ["low"], keepdims=1),
        helper.make_node("ReduceMax", ["x", "axis"], ["high"], keepdims=1),
        helper.make_node("Concat", ["low", "high"], ["y"], axis=1),
    ]
    axis = {"axis": np.array([1], dtype=np.int64)}
    return _save(path, nodes, ("x", TensorProto.FLOAT, [width]), ("y", TensorProto.FLOAT, [2]), axis)


def write_cnn(
    path: Path, size: int = 224, channels: Sequence[int] = (16, 32, 64), classes: int = 10, seed: int = 1
) -> Path:
    """Write a small convolutional network: "image" uint8 [size, size, 3] to "y" float32 [classes]."""
    generator = np.random.default_rng(seed)
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["float", "white"], ["scaled"]),
        helper.make_node("Transpose", ["scaled"], ["c0"], perm=[0, 3, 1, 2]),
    ]
    constants: dict[str, NDArray[Any]] = {"white": np.array(255, dtype=np.float32)}
    for layer, (into, out) in enumerate(pairwise((3, *channels))):
        width, stride = (7, 4) if layer == 0 else (3, 2)
        weights = generator.standard_normal((out, into, width, width)) / np.sqrt(into * width * width)
        constants[f"k{layer}"] = weights.astype(np.float32)
        pads = [width // 2] * 4
        nodes += [
            helper.make_node("Conv", [f"c{layer}", f"k{layer}"], [f"s{layer}"], strides=[stride, stride], pads=pads),
            helper.make_node("Relu", [f"s{layer}"], [f"c{layer + 1}"]),
        ]
    last = f"c{len(channels)}"
    constants["head"] = generator.standard_normal((channels[-1], classes)).astype(np.float32)
    nodes += [
        helper.make_node("GlobalAveragePool", [last], ["pooled"]),
        helper.make_node("Flatten", ["pooled"], ["features"]),
        helper.make_node("MatMul", ["features", "head"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["y"], axis=1),
    ]
    image = ("image", TensorProto.UINT8, [size, size, 3])
    return _save(path, nodes, image, ("y", TensorProto.FLOAT, [classes]), constants)


def write_encoder(
    path: Path, tokens: int = 64, width: int = 128, layers: int = 2, words: int = 1000, seed: int = 1
) -> Path:
    """Write a transformer encoder of one head: "ids" int64 [tokens], 0 being padding, to "y" float32 [width].

    Padding is masked in the attention and left out of the mean at the end.
    """
    generator = np.random.default_rng(seed)
    constants: dict[str, NDArray[Any]] = {
        "zero": np.array(0, dtype=np.int64),
        "last": np.array([2], dtype=np.int64),
        "middle": np.array([1], dtype=np.int64),
        "far": np.array(-1e9, dtype=np.float32),
        "root": np.array(np.sqrt(width), dtype=np.float32),
        "table": (generator.standard_normal((words, width)) * 0.5).astype(np.float32),
        "places": (generator.standard_normal((tokens, width)) * 0.1).astype(np.float32),
    }
    nodes = [
        helper.make_node("Equal", ["ids", "zero"], ["is_padding"]),
        helper.make_node("Cast", ["is_padding"], ["padding"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["padding", "middle"], ["padding_row"]),
        helper.make_node("Mul", ["padding_row", "far"], ["mask"]),
        helper.make_node("Gather", ["table", "ids"], ["words"]),
        helper.make_node("Add", ["words", "places"], ["h0"]),
    ]
    for layer in range(layers):
        nodes += _attention(layer, constants, generator, width)
    nodes += [
        helper.make_node("Not", ["is_padding"], ["is_word"]),
        helper.make_node("Cast", ["is_word"], ["word"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["word", "last"], ["word_column"]),
        helper.make_node("Mul", [f"h{layers}", "word_column"], ["kept"]),
        helper.make_node("ReduceSum", ["kept", "middle"], ["sum"], keepdims=0),
        helper.make_node("ReduceSum", ["word", "middle"], ["count"], keepdims=1),
        helper.make_node("Div", ["sum", "count"], ["y"]),
    ]
    ids = ("ids", TensorProto.INT64, [tokens])
    return _save(path, nodes, ids, ("y", TensorProto.FLOAT, [width]), constants)


def _attention(
    layer: int, constants: dict[str, NDArray[Any]], generator: np.random.Generator, width: int
) -> list[onnx.NodeProto]:
    """Write one layer from h<layer> to h<layer + 1>: attention and a feed-forward network, each with a residual."""
    into, out = f"h{layer}", f"h{layer + 1}"

    def node(kind: str, inputs: Sequence[str], name: str, **attributes: Any) -> onnx.NodeProto:
        return helper.make_node(kind, inputs, [f"{name}{layer}"], **attributes)

    for name, rows, columns in (
        ("wq", width, width),
        ("wk", width, width),
        ("wv", width, width),
        ("w1", width, 4 * width),
        ("w2", 4 * width, width),
    ):
        weights = generator.standard_normal((rows, columns)) / np.sqrt(rows)
        constants[f"{name}{layer}"] = weights.astype(np.float32)
    constants[f"scale{layer}"] = np.ones(width, dtype=np.float32)
    constants[f"shift{layer}"] = np.zeros(width, dtype=np.float32)
    return [
        node("MatMul", [into, f"wq{layer}"], "q"),
        node("MatMul", [into, f"wk{layer}"], "k"),
        node("MatMul", [into, f"wv{layer}"], "v"),
        node("Transpose", [f"k{layer}"], "kt", perm=[0, 2, 1]),
        node("MatMul", [f"q{layer}", f"kt{layer}"], "scores"),
        node("Div", [f"scores{layer}", "root"], "scaled"),
        node("Add", [f"scaled{layer}", "mask"], "masked"),
        node("Softmax", [f"masked{layer}"], "weights", axis=-1),
        node("MatMul", [f"weights{layer}", f"v{layer}"], "mixed"),
        node("Add", [into, f"mixed{layer}"], "residual"),
        node("LayerNormalization", [f"residual{layer}", f"scale{layer}", f"shift{layer}"], "normal", axis=-1),
        node("MatMul", [f"normal{layer}", f"w1{layer}"], "wide"),
        node("Relu", [f"wide{layer}"], "active"),
        node("MatMul", [f"active{layer}", f"w2{layer}"], "narrow"),
        helper.make_node("Add", [f"normal{layer}", f"narrow{layer}"], [out]),
    ]


def _save(path: Path, nodes: Sequence[onnx.NodeProto], into: Tensor, out: Tensor, constants: Constants) -> Path:
    """Write a graph of one input and one output with a free batch dimension."""
    x, y = (helper.make_tensor_value_info(name, kind, ["batch", *shape]) for name, kind, shape in (into, out))
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, path.stem, [x], [y], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(model.SerializeToString())
    return path
