"""Where the demo keeps its files, and what the server would have to answer."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnxruntime
from numpy.typing import NDArray

__all__ = ["FOLDER", "MODEL", "SIDE", "TEST_SPLIT", "Split", "offline_labels"]

FOLDER = Path(__file__).resolve().parent.parent / ".demo"
MODEL = FOLDER / "digits.onnx"
TEST_SPLIT = FOLDER / "digits_test.npz"
SIDE = 8  # a digit is 8 x 8 pixels of 0 (white) to 16 (black), row by row


@dataclass(frozen=True, slots=True)
class Split:
    """The digits that the model has not seen in training.

    `pixels` is float32 of shape (digits, 64), `truth` int64 of shape (digits,).
    """

    pixels: NDArray[np.float32]
    truth: NDArray[np.int64]

    def save(self, path: Path) -> None:
        """Write the split as an .npz file."""
        np.savez(path, pixels=self.pixels, truth=self.truth)

    @classmethod
    def load(cls, path: Path) -> "Split":
        """Read a split that save() wrote."""
        with np.load(path) as arrays:
            return cls(pixels=arrays["pixels"], truth=arrays["truth"])


def offline_labels(model: Path, pixels: NDArray[np.float32]) -> NDArray[np.int64]:
    """Run the exported model without a server: the labels, int64 of shape (digits,)."""
    session = onnxruntime.InferenceSession(str(model), providers=["CPUExecutionProvider"])
    (labels,) = session.run(["label"], {"pixels": pixels})
    return np.asarray(labels, dtype=np.int64)
