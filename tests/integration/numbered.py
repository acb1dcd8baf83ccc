"""Models whose answers say which version gave them."""

from pathlib import Path

import numpy as np
from onnx import TensorProto, helper

from tests import models

__all__ = ["ROW", "times"]

ROW = [1.0, 2.0, 3.0, 4.0]


def times(folder: Path, factor: int) -> Path:
    """y = factor * x."""
    return models.save(
        folder / f"times{factor}.onnx",
        [helper.make_node("Mul", ["x", "factor"], ["y"])],
        [models.tensor("x", TensorProto.FLOAT, 4)],
        [models.tensor("y", TensorProto.FLOAT, 4)],
        {"factor": np.float32([factor])},
    )
