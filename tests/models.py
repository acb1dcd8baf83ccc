"""Small models for the tests: ONNX graphs whose answers can be computed by hand, and Python models."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

__all__ = ["ECHO_SOURCE", "affine", "echo", "mlp", "pair", "tokens"]

OPSET = 18
IR_VERSION = 10  # the newest that every supported ONNX Runtime reads


def save(
    path: Path,
    nodes: list[onnx.NodeProto],
    inputs: list[onnx.ValueInfoProto],
    outputs: list[onnx.ValueInfoProto],
    weights: dict[str, np.ndarray],
) -> Path:
    """Check a graph and write it to `path`."""
    initializers = [numpy_helper.from_array(array, name) for name, array in weights.items()]
    graph = helper.make_graph(nodes, path.stem, inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path


def tensor(name: str, dtype: int, *shape: int | str) -> onnx.ValueInfoProto:
    """Declare a tensor with a free batch dimension before `shape`."""
    return helper.make_tensor_value_info(name, dtype, ["batch", *shape])


def affine(folder: Path) -> Path:
    """Y = 2 x + 1, float32 of shape (4,): exact for small integers, so any mix-up of rows shows."""
    return save(
        folder / "affine.onnx",
        [helper.make_node("Mul", ["x", "two"], ["twice"]), helper.make_node("Add", ["twice", "one"], ["y"])],
        [tensor("x", TensorProto.FLOAT, 4)],
        [tensor("y", TensorProto.FLOAT, 4)],
        {"two": np.float32([2.0]), "one": np.float32([1.0])},
    )


def mlp(folder: Path, widths: tuple[int, ...] = (32, 64, 64, 3), seed: int = 0) -> Path:
    """Return a multilayer perceptron with ReLU and softmax; the default is workload W1 of the benchmarks."""
    generator = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, np.ndarray] = {}
    value = "x"
    for layer, (rows, columns) in enumerate(pairwise(widths)):
        weights[f"w{layer}"] = (generator.standard_normal((rows, columns)) / np.sqrt(rows)).astype(np.float32)
        weights[f"b{layer}"] = generator.standard_normal(columns).astype(np.float32)
        nodes.append(helper.make_node("Gemm", [value, f"w{layer}", f"b{layer}"], [f"z{layer}"]))
        value = f"z{layer}"
        if layer < len(widths) - 2:
            nodes.append(helper.make_node("Relu", [value], [f"a{layer}"]))
            value = f"a{layer}"
    nodes.append(helper.make_node("Softmax", [value], ["y"], axis=1))
    inputs = [tensor("x", TensorProto.FLOAT, widths[0])]
    return save(folder / "mlp.onnx", nodes, inputs, [tensor("y", TensorProto.FLOAT, widths[-1])], weights)


def pair(folder: Path) -> Path:
    """Two inputs, two outputs: `scaled` = 3 a, float32 (2, 3); `total` = the sum of b, int64 scalar from (5,)."""
    return save(
        folder / "pair.onnx",
        [
            helper.make_node("Mul", ["a", "three"], ["scaled"]),
            helper.make_node("ReduceSum", ["b", "axis"], ["total"], keepdims=0),
        ],
        [tensor("a", TensorProto.FLOAT, 2, 3), tensor("b", TensorProto.INT64, 5)],
        [tensor("scaled", TensorProto.FLOAT, 2, 3), tensor("total", TensorProto.INT64)],
        {"three": np.float32([3.0]), "axis": np.int64([1])},
    )


def tokens(folder: Path) -> Path:
    """Rows of any length: `states`, 3 numbers for each of `ids`, and `mean`, theirs where `mask` is not 0.

    The numbers are small integers, so that sums do not depend on the order, and padding with zeros adds nothing.
    """
    table = np.random.default_rng(5).integers(-50, 50, (20, 3)).astype(np.float32)
    return save(
        folder / "tokens.onnx",
        [
            helper.make_node("Gather", ["table", "ids"], ["states"]),
            helper.make_node("Unsqueeze", ["mask", "last"], ["column"]),
            helper.make_node("Mul", ["states", "column"], ["masked"]),
            helper.make_node("ReduceSum", ["masked", "first"], ["sums"], keepdims=0),
            helper.make_node("ReduceSum", ["mask", "first"], ["count"], keepdims=1),
            helper.make_node("Div", ["sums", "count"], ["mean"]),
        ],
        [tensor("ids", TensorProto.INT64, "length"), tensor("mask", TensorProto.FLOAT, "length")],
        [tensor("states", TensorProto.FLOAT, "length", 3), tensor("mean", TensorProto.FLOAT, 3)],
        {"table": table, "last": np.int64([2]), "first": np.int64([1])},
    )


ECHO_SOURCE = '''\
"""Gives back what it got; a row that starts with a negative number makes it raise."""

from penstock.worker import Tensor


class Model:
    inputs = {"x": Tensor("float32", (4,))}
    outputs = {"y": Tensor("float32", (4,))}

    def load(self):
        pass

    def predict(self, batch):
        if (batch["x"][:, 0] < 0).any():
            raise ValueError("negative")
        return {"y": batch["x"]}
'''


def echo(folder: Path) -> Path:
    """Write a Python model that answers its input and raises for rows that start with a negative number."""
    path = folder / "echo.py"
    path.write_text(ECHO_SOURCE)
    return path
