"""The models of the benchmarks, made when they are needed."""

from pathlib import Path

from bench.models.affine import AFFINE_WIDTH, affine_answers, write_affine
from bench.models.graphs import write_cnn, write_encoder, write_extremes, write_mlp
from bench.models.mlp import mlp_answers, mlp_layers, write_exported_mlp, write_saved_mlp
from bench.models.planned import PLANNED_WIDTHS, planned_answers, planned_rows, write_planned
from bench.models.python import POISON, PYTHON_MODEL
from bench.models.trees import tree_answers, tree_rows, write_trees

__all__ = [
    "AFFINE_WIDTH",
    "PLANNED_WIDTHS",
    "POISON",
    "PYTHON_MODEL",
    "W1_WIDTHS",
    "W2_WIDTHS",
    "affine_answers",
    "mlp_answers",
    "mlp_layers",
    "planned_answers",
    "planned_rows",
    "tree_answers",
    "tree_rows",
    "write_affine",
    "write_cnn",
    "write_encoder",
    "write_exported_mlp",
    "write_extremes",
    "write_mlp",
    "write_models",
    "write_planned",
    "write_saved_mlp",
    "write_trees",
]

W1_WIDTHS = (32, 64, 64, 3)
W2_WIDTHS = (256, 2048, 2048, 10)


def write_models(folder: Path) -> dict[str, Path]:
    """Write W1 and W2 into `folder`; their paths by name."""
    return {
        "w1": write_mlp(folder / "w1.onnx", W1_WIDTHS),
        "w2": write_mlp(folder / "w2.onnx", W2_WIDTHS),
    }
