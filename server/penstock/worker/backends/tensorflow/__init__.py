"""TensorFlow SavedModels and Keras models on TensorFlow's CPU kernels. The only package that imports tensorflow."""

from __future__ import annotations

from pathlib import Path

from penstock.core.errors import ModelLoadError
from penstock.worker.backends import LoadOptions, find_artefact
from penstock.worker.backends.tensorflow.backend import TensorFlowBackend
from penstock.worker.backends.tensorflow.keras_model import open_keras
from penstock.worker.backends.tensorflow.saved_model import open_saved_model

__all__ = ["TensorFlowBackend", "load"]


def load(path: Path, options: LoadOptions) -> TensorFlowBackend:
    """Load a SavedModel folder, a .keras or an .h5 file, or the one in a folder.

    ModelLoadError says what is wrong with it and how to mend it.
    """
    model = _model_of(path)
    if options.convert != "none":
        raise ModelLoadError(f"convert = {options.convert!r} is not for TensorFlow models: leave it out")
    opened = open_saved_model(model, options) if model.is_dir() else open_keras(model, options)
    return TensorFlowBackend(opened, options.lengths)


def _model_of(path: Path) -> Path:
    if not path.is_dir() or (path / "saved_model.pb").is_file():
        return path
    found = find_artefact(path)
    if found is None or found.suffix.lower() not in (".keras", ".h5"):
        raise ModelLoadError(
            f"{path} is neither a SavedModel folder (with a file saved_model.pb) nor a folder with one .keras or .h5 "
            "file"
        )
    return found
