"""The models of the benchmarks: ONNX graphs with random weights of a fixed seed, and a Python model for the soak."""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

__all__ = ["POISON", "PYTHON_MODEL", "W1_WIDTHS", "W2_WIDTHS", "write_extremes", "write_mlp", "write_models"]

OPSET = 18
IR_VERSION = 10  # the newest that every supported ONNX Runtime reads

W1_WIDTHS = (32, 64, 64, 3)
W2_WIDTHS = (256, 2048, 2048, 10)

# The Python model raises for a row whose first number is this.
POISON = -12345.0

PYTHON_MODEL = f'''\
"""Twice the input; raises for a row that starts with the poison value."""

from penstock.worker import Tensor


class Model:
    inputs = {{"x": Tensor("float32", (8,))}}
    outputs = {{"y": Tensor("float32", (8,))}}

    def predict(self, batch):
        x = batch["x"]
        if (x[:, 0] == {POISON}).any():
            raise ValueError("poison")
        return {{"y": x * 2}}
'''


def write_mlp(path: Path, widths: Sequence[int], seed: int = 1) -> Path:
    """Write a multilayer perceptron with ReLU and softmax; input "x", output "y", float32, free batch dimension."""
    generator = np.random.default_rng(seed)
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, NDArray[np.float32]] = {}
    value = "x"
    for layer, (rows, columns) in enumerate(pairwise(widths)):
        weights[f"w{layer}"] = (generator.standard_normal((rows, columns)) / np.sqrt(rows)).astype(np.float32)
        weights[f"b{layer}"] = (generator.standard_normal(columns) / 10).astype(np.float32)
        nodes.append(helper.make_node("Gemm", [value, f"w{layer}", f"b{layer}"], [f"z{layer}"]))
        value = f"z{layer}"
        if layer < len(widths) - 2:
            nodes.append(helper.make_node("Relu", [value], [f"a{layer}"]))
            value = f"a{layer}"
    nodes.append(helper.make_node("Softmax", [value], ["y"], axis=1))
    return _save(path, nodes, widths[0], widths[-1], weights)


def write_extremes(path: Path, width: int) -> Path:
    """Write a model that answers the smallest and the largest of `width` numbers: a large row, a small reply."""
    axis = np.array([1], dtype=np.int64)
    nodes = [
        helper.make_node("ReduceMin", ["x", "axis"], ["low"], keepdims=1),
        helper.make_node("ReduceMax", ["x", "axis"], ["high"], keepdims=1),
        helper.make_node("Concat", ["low", "high"], ["y"], axis=1),
    ]
    return _save(path, nodes, width, 2, {"axis": axis})


def write_models(folder: Path) -> dict[str, Path]:
    """Write W1 and W2 of the benchmarks into `folder`; their paths by name."""
    folder.mkdir(parents=True, exist_ok=True)
    return {
        "w1": write_mlp(folder / "w1.onnx", W1_WIDTHS),
        "w2": write_mlp(folder / "w2.onnx", W2_WIDTHS),
    }


def _save(
    path: Path,
    nodes: Sequence[onnx.NodeProto],
    width_in: int,
    width_out: int,
    constants: dict[str, NDArray[np.float32]] | dict[str, NDArray[np.int64]],
) -> Path:
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", width_in])
    y = helper.make_tensor_value_info("y", TensorProto.FLOAT, ["batch", width_out])
    initializers = [numpy_helper.from_array(array, name) for name, array in constants.items()]
    graph = helper.make_graph(nodes, path.stem, [x], [y], initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=IR_VERSION)
    onnx.checker.check_model(model)
    path.write_bytes(model.SerializeToString())
    return path
