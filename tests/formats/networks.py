"""Small PyTorch models in each form that is served, with fixed seeds, and what PyTorch itself says of their rows."""

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import torch
from sklearn.datasets import load_digits

from penstock.worker.arrays import Array, room
from penstock.worker.backends import Backend

__all__ = ["NET", "answers", "digits", "exported", "net_in", "row_text", "run", "write_schema"]

NET = '''
import torch


class Net(torch.nn.Module):
    """Digits: 64 pixels to ten probabilities and the sum of the pixels."""

    def __init__(self, hidden: int = 16) -> None:
        super().__init__()
        self.first = torch.nn.Linear(64, hidden)
        self.norm = torch.nn.BatchNorm1d(hidden)
        self.second = torch.nn.Linear(hidden, 10)

    def forward(self, pixels):
        hidden = torch.relu(self.norm(self.first(pixels / 16)))
        return self.second(hidden).softmax(1), pixels.sum(1)
'''

SCHEMA = """{
  "inputs": [{"name": "pixels", "dtype": "float32", "shape": [64]}],
  "outputs": [
    {"name": "probabilities", "dtype": "float32", "shape": [10]},
    {"name": "ink", "dtype": "float32", "shape": []}
  ]%s
}"""
CLASS = ',\n  "class": "net.py:Net",\n  "arguments": {"hidden": 24}'


def digits() -> Array:
    """All 1,797 rows."""
    return load_digits().data.astype(np.float32)


def net_in(folder: Path, hidden: int = 24) -> Any:
    """Write net.py and return its class, trained for a few steps on the digits."""
    (folder / "net.py").write_text(NET)
    spec = importlib.util.spec_from_file_location("tests_net", folder / "net.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    torch.manual_seed(5)
    net = module.Net(hidden)
    rows, kinds = load_digits(return_X_y=True)
    optimizer = torch.optim.Adam(net.parameters(), 0.01)
    for _ in range(30):
        optimizer.zero_grad()
        probabilities, _ink = net(torch.from_numpy(rows.astype(np.float32)))
        torch.nn.functional.nll_loss(probabilities.log(), torch.from_numpy(kinds)).backward()
        optimizer.step()
    return net.eval()


def write_schema(folder: Path, *, with_class: bool = False) -> None:
    (folder / "schema.json").write_text(SCHEMA % (CLASS if with_class else ""))


def exported(path: Path, module: Any, *examples: Any, dynamic_shapes: Any = None, **options: Any) -> Path:
    """Save torch.export's program of the module; without dynamic_shapes the batch is of any size."""
    shapes = dynamic_shapes or tuple({0: torch.export.Dim("batch")} for _ in examples)
    program = torch.export.export(module, examples, dynamic_shapes=shapes, **options)
    torch.export.save(program, path)
    return path


def answers(net: Any, rows: Array) -> list[Array]:
    """What PyTorch itself says."""
    with torch.inference_mode():
        return [result.numpy() for result in net(torch.from_numpy(rows))]


def run(backend: Backend, *inputs: Array) -> list[Array]:
    """Run one batch as the ring would: read-only inputs, outputs to be written into."""
    rows, length = len(inputs[0]), inputs[0].shape[1] if inputs[0].ndim > 1 else 0
    given = [array.copy() for array in inputs]
    for array in given:
        array.flags.writeable = False
    outputs = [room((rows, *spec.shape_at(length)), spec.dtype) for spec in backend.spec.outputs]
    lengths = np.full(rows, length, np.int32) if backend.spec.varies else None
    backend.run(given, outputs, lengths)
    for array, before in zip(given, inputs, strict=True):
        np.testing.assert_array_equal(array, before)
    return outputs


def row_text(row: Array) -> list[float]:
    return [float(value) for value in row]
