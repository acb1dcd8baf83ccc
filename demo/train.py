"""Train a classifier on the digits and export it to ONNX: `python -m demo.train`.

The split and the seeds are fixed, so that every machine trains the same model up to its floating-point rounding.
"""

import numpy as np
from skl2onnx import to_onnx
from skl2onnx.common.data_types import FloatTensorType
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from sklearn.neural_network import MLPClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from demo.digits import FOLDER, MODEL, SIDE, TEST_SPLIT, Split, offline_labels

__all__ = ["main"]

SEED = 7
HIDDEN_UNITS = 64


def main() -> None:
    """Train, export, and keep the test split beside the model."""
    images, truth = load_digits(return_X_y=True)
    train_x, test_x, train_y, test_y = train_test_split(
        images.astype(np.float32), truth.astype(np.int64), test_size=0.3, random_state=SEED, stratify=truth
    )
    classifier = make_pipeline(
        StandardScaler(), MLPClassifier(hidden_layer_sizes=(HIDDEN_UNITS,), max_iter=300, random_state=SEED)
    )
    classifier.fit(train_x, train_y)

    FOLDER.mkdir(exist_ok=True)
    Split(pixels=test_x, truth=test_y).save(TEST_SPLIT)
    # The model comes last and by rename: its presence is what tells make that training is done.
    unfinished = MODEL.with_suffix(".unfinished")
    unfinished.write_bytes(export(classifier))
    accuracy = float(np.mean(offline_labels(unfinished, test_x) == test_y))
    unfinished.replace(MODEL)
    print(f"trained on {len(train_x)} digits: {accuracy:.2%} of {len(test_x)} unseen ones are right ({MODEL.name})")


def export(classifier: Pipeline) -> bytes:
    """Return the classifier as ONNX: pixels float32 (n, 64) in; label int64 (n,), probabilities float32 (n, 10) out."""
    model = to_onnx(
        classifier,
        initial_types=[("pixels", FloatTensorType([None, SIDE * SIDE]))],
        # Without ZipMap the probabilities are one tensor instead of a list of dictionaries.
        options={id(classifier): {"zipmap": False}},
        target_opset=18,
    )
    return bytes(model.SerializeToString())


if __name__ == "__main__":
    main()
