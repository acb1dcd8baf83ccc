"""Backends: one file per format of model. Each is imported when a model needs it, never before."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Protocol

from penstock.core.devices import CPU
from penstock.core.errors import ModelLoadError
from penstock.processing.plan_files import files_of, find_plan, misspelt_plan
from penstock.worker.arrays import Array
from penstock.worker.model import ModelSpec

__all__ = ["Backend", "LoadOptions", "choose_backend", "find_artefact", "open_backend"]

BACKENDS = ("onnx", "torch", "tensorrt", "tensorflow", "sklearn", "xgboost", "mlflow", "python")
_ON_DEVICES = ("onnx", "torch", "tensorrt")


class Backend(Protocol):
    """A loaded model. Used by one thread."""

    @property
    def name(self) -> str:
        """The name of the backend: "onnx", "python"."""

    @property
    def spec(self) -> ModelSpec:
        """What the model takes and gives."""

    @property
    def rerun(self) -> bool:
        """Whether a batch may run twice, by default: true for formats that cannot have side effects."""

    @property
    def may_refuse_zeros(self) -> bool:
        """Whether raising for rows of zeros is the model's good right, and no fault that warm-up must find."""

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array], lengths: Array | None = None) -> None:
        """Run the rows of `inputs` and write their results into `outputs`, in the order of the schema.

        Both hold one array per tensor, shape (rows, *row shape). Rows that vary in length are padded with zeros to the
        same length; `lengths` are their own, int32 of shape (rows,). Raises BadOutputError when a result has another
        shape or element type than declared, and whatever the model raises.
        """


@dataclass(frozen=True, slots=True)
class LoadOptions:
    """How a model is to be loaded. `lengths` are what rows will be padded to where they vary in length.

    `trusted_digests` are the SHA-256 digests of the files whose pickles may run code, in hexadecimal; `trusted_types`
    the types that a skops file may hold beside those that skops itself trusts. `rows_max` is the most
    rows of a batch, as far as the settings say; `device` is one device, and `precision`
    what it computes in.
    """

    threads: int = 1
    lengths: Sequence[int] = ()
    convert: str = "none"
    trusted_digests: Sequence[str] = ()
    trusted_types: Sequence[str] = ()
    rows_max: int = 64
    device: str = CPU
    precision: str = "float32"


# What a file's name, or a name in a folder, says about what runs it.
_BY_SUFFIX = {
    ".onnx": "onnx",
    ".engine": "tensorrt",
    ".plan": "tensorrt",
    ".pt2": "torch",
    ".pt": "torch",
    ".pth": "torch",
    ".safetensors": "torch",
    ".keras": "tensorflow",
    ".h5": "tensorflow",
    ".skops": "sklearn",
    ".pkl": "sklearn",
    ".pickle": "sklearn",
    ".joblib": "sklearn",
    ".ubj": "xgboost",
    ".json": "xgboost",
    ".py": "python",
}
_BY_MEMBER = {"MLmodel": "mlflow", "saved_model.pb": "tensorflow", "__init__.py": "python", "model.py": "python"}
# What names of files end in that lie beside a model and are never the model itself.
_BESIDE = ("schema.json", "golden.json", "processing.json")


def choose_backend(path: Path, backend: str) -> str:
    """Name the backend for the model at `path`; ModelLoadError when there is none, or nothing at all."""
    if not path.exists():
        raise ModelLoadError(f"there is no model at {path}: check the path")
    if backend in BACKENDS:
        return backend
    if backend != "auto":
        raise ModelLoadError(f"there is no backend {backend!r}: choose one of {', '.join(BACKENDS)}, or leave it out")
    found = _backend_of(path)
    if found is None:
        misspelt = misspelt_plan(path)
        if misspelt is not None:
            raise ModelLoadError(f"{misspelt[0]} is no plan, and no model: did you mean {misspelt[1]}?")
        raise ModelLoadError(
            f"{path} is no model that Penstock knows: it serves ONNX (.onnx), PyTorch (.pt2, .pt, .pth, .safetensors), "
            "TensorRT (.engine, .plan), "
            "TensorFlow (a SavedModel folder, .keras, .h5), scikit-learn (.skops), XGBoost (.ubj, .json), folders of "
            "MLflow (with a file MLmodel) and plain Python models (a .py file or a folder with a class Model). If it "
            "is one of these, name its backend"
        )
    return found


def _backend_of(path: Path) -> str | None:
    if not path.is_dir():
        return _BY_SUFFIX.get(path.suffix.lower())
    for member, backend in _BY_MEMBER.items():
        if (path / member).is_file():
            return backend
    artefact = find_artefact(path)
    return _BY_SUFFIX.get(artefact.suffix.lower()) if artefact is not None else None


def find_artefact(folder: Path) -> Path | None:
    """Return the one file of a folder that is a model by its suffix; None when there is none, or several.

    A Python file beside another model declares its class and is not the model.
    """
    plan = find_plan(folder)
    named = {folder / name for name in files_of(plan)} if plan is not None else set()
    files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.endswith(_BESIDE)]
    files = [path for path in files if path not in named]
    models = [path for path in files if path.suffix.lower() in _BY_SUFFIX]
    declared = [path for path in models if path.suffix.lower() != ".py"]
    found = declared or models
    return found[0] if len(found) == 1 else None


def open_backend(path: Path, backend: str, options: LoadOptions) -> Backend:
    """Load the model at `path`, a file or a folder that holds it.

    ModelLoadError, with a text for the operator, when it cannot be served.
    """
    name = choose_backend(path, backend)
    if options.device != CPU and name not in _ON_DEVICES:
        raise ModelLoadError(
            f"device = {options.device!r} is for {' and '.join(_ON_DEVICES)} models, and this one's backend is {name}: "
            "set device = 'cpu' (a plain Python model may use a GPU by itself)"
        )
    module = import_module(f"{__name__}.{name}")
    loaded: Backend = module.load(path, options)
    if options.lengths and not loaded.spec.varies:
        raise ModelLoadError(
            "lengths is set, but no input of the model varies in length: leave it out, or export the model with a "
            "dynamic first dimension behind the batch"
        )
    return loaded
