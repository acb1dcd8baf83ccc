"""Folders that MLflow has saved: the file MLmodel says which format lies where, and what goes in and out.

MLflow itself is not needed, and of what it would run (loader modules, code folders) nothing is. The only file that
imports yaml.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from penstock.core.errors import ModelLoadError
from penstock.worker.backends import Backend, LoadOptions
from penstock.worker.backends.schema_file import (
    DeclaredTensor,
    Schema,
    find_schema,
    read_schema,
    schema_name,
    template,
)
from penstock.worker.model import DTYPES

__all__ = ["load"]

# A signature of ten thousand columns has 700 kB.
FILE_BYTES_MAX = 4 << 20
# MLflow's types of columns.
_COLUMN_TYPES = {
    "boolean": "bool",
    "integer": "int32",
    "long": "int64",
    "float": "float32",
    "double": "float64",
    "string": "str",
}


def load(path: Path, options: LoadOptions) -> Backend:
    """Load the model in a folder with a file MLmodel; ModelLoadError says what is wrong with it and how to mend it."""
    file = path / "MLmodel"
    described = _described(file)
    flavours = _mapping(described.get("flavors"), "flavors", file)
    for name, open_flavour in _FLAVOURS.items():
        if name in flavours:
            folder = _Folder(path, _mapping(flavours[name], f"flavors.{name}", file), described.get("signature"))
            return open_flavour(folder, options)
    if "python_function" in flavours:
        raise ModelLoadError(
            f"{file}: the model is MLflow's python_function only: it is code that needs MLflow and its environment. "
            "Log it in the flavour of its framework, or write it as a plain Python model"
        )
    raise ModelLoadError(
        f"{file}: of its flavours ({', '.join(map(str, flavours))}) none can be served: these can, "
        f"{', '.join(_FLAVOURS)}"
    )


def _described(file: Path) -> Mapping[str, Any]:
    try:
        import yaml
    except ImportError as error:
        raise ModelLoadError("folders of MLflow need PyYAML: pip install 'penstock[mlflow]'") from error
    try:
        if file.stat().st_size > FILE_BYTES_MAX:
            raise ModelLoadError(f"{file} has more than {FILE_BYTES_MAX} bytes: it describes no model")
        document = yaml.safe_load(file.read_text("utf-8"))
    except OSError as error:
        raise ModelLoadError(f"{file} cannot be read: {error.strerror}") from error
    except (yaml.YAMLError, ValueError, RecursionError) as error:
        text = " ".join(str(error).split())
        raise ModelLoadError(f"{file} is no YAML ({text}): save the model with MLflow again") from error
    return _mapping(document, "the document", file)


def _mapping(value: object, where: str, file: Path) -> Mapping[str, Any]:
    if not isinstance(value, dict):
        raise ModelLoadError(f"{file}: {where} is no mapping: save the model with MLflow again")
    return value


class _Folder:
    """A folder, what MLmodel says about one flavour of its model, and its signature."""

    def __init__(self, path: Path, flavour: Mapping[str, Any], signature: object) -> None:
        self.path = path
        self.flavour = flavour
        self._signature = signature if isinstance(signature, dict) else {}

    @property
    def file(self) -> Path:
        """The file MLmodel."""
        return self.path / "MLmodel"

    def member(self, *names: str) -> Path:
        """Return the path that the first of these members gives; ModelLoadError when it leads out of the folder."""
        value = next((self.flavour[name] for name in names if self.flavour.get(name) is not None), None)
        if not isinstance(value, str) or not value:
            raise ModelLoadError(f"{self.file}: the flavour has no path {names[0]!r}: save the model with MLflow again")
        parts = PurePosixPath(value)
        found = self.path / value
        if parts.is_absolute() or ".." in parts.parts or not found.resolve().is_relative_to(self.path.resolve()):
            raise ModelLoadError(f"{self.file}: {names[0]} is {value!r}, which leads out of the folder: do not use it")
        if not found.exists():
            raise ModelLoadError(
                f"{self.file}: {names[0]} is {value!r}, and there is no such file: copy the folder again"
            )
        return found

    def schema(self) -> Schema | None:
        """Return what a schema file in the folder says, else the inputs of the signature; None without both."""
        found = find_schema(self.path)
        if found is not None:
            return read_schema(found)
        inputs = self.tensors("inputs")
        return Schema(self.file, inputs) if inputs else None

    def tensors(self, which: str) -> tuple[DeclaredTensor, ...]:
        """Return the inputs or outputs of the signature; ModelLoadError for types that no tensor has."""
        text = self._signature.get(which)
        if text is None:
            return ()
        try:
            specs = json.loads(text)
            return tuple(self._tensor(spec, which) for spec in specs)
        except (ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
            raise ModelLoadError(
                f"{self.file}: signature.{which} is none that MLflow writes ({error!r}): write {schema_name(self.path)}"
            ) from error

    def _tensor(self, spec: Mapping[str, Any], which: str) -> DeclaredTensor:
        name = spec.get("name") or ("features" if which == "inputs" else "output")
        if spec["type"] == "tensor":
            tensor = spec["tensor-spec"]
            shape = tuple(None if size == -1 else int(size) for size in tensor["shape"][1:])
            if tensor["dtype"] in DTYPES and None not in shape[1:]:
                return DeclaredTensor(name, tensor["dtype"], shape)
        elif spec["type"] in _COLUMN_TYPES:
            return DeclaredTensor(name, _COLUMN_TYPES[spec["type"]])
        example = template([DeclaredTensor(name, "int64", (), ("red", "green"))], ())
        raise ModelLoadError(
            f"{self.file}: {name!r} in signature.{which} is {json.dumps(spec)}, which is no tensor of numbers or "
            f"strings: write "
            f"{schema_name(self.path)} with all inputs, such as:\n{example}"
        )


# --- flavours ---------------------------------------------------------------------------------------------------------


def _onnx(folder: _Folder, options: LoadOptions) -> Backend:
    from penstock.worker.backends import onnx

    return onnx.load(folder.member("data"), options)


def _xgboost(folder: _Folder, options: LoadOptions) -> Backend:
    from penstock.worker.backends import xgboost

    file = folder.member("data")
    booster = xgboost.open_booster(file)
    return xgboost.serve(booster, file, folder.schema(), options)


def _sklearn(folder: _Folder, options: LoadOptions) -> Backend:
    """What MLmodel says about trusted types, whoever made the folder says: only the setting counts."""
    from penstock.worker.backends import sklearn

    file = folder.member("pickled_model")
    kind = ".skops" if folder.flavour.get("serialization_format") == "skops" else ".pkl"
    estimator = sklearn.open_estimator(file, options, kind)
    return sklearn.serve(estimator, file, folder.schema(), options)


def _pytorch(folder: _Folder, options: LoadOptions) -> Backend:
    from penstock.worker.backends import torch

    data = folder.member("model_data")
    file = next((data / name for name in ("model.pt2", "model.pth") if (data / name).is_file()), data)
    inputs, outputs = (folder.tensors(which) for which in ("inputs", "outputs"))
    if file.suffix != ".pth" or not inputs or find_schema(file) is not None:
        return torch.load(file, options)
    # A pickled module says nothing about its inputs. The signature does, and the backend looks for it beside the file.
    with tempfile.TemporaryDirectory(prefix="penstock-mlflow-") as beside:
        (Path(beside) / file.name).symlink_to(file.resolve())
        (Path(beside) / "schema.json").write_text(template(inputs, outputs))
        try:
            return torch.load(Path(beside) / file.name, options)
        except ModelLoadError as error:
            raise ModelLoadError(str(error).replace(beside, str(data))) from error


def _tensorflow(folder: _Folder, options: LoadOptions) -> Backend:
    from penstock.worker.backends import tensorflow

    if folder.flavour.get("saved_model_dir") is not None:
        return tensorflow.load(folder.member("saved_model_dir"), options)
    return _keras(folder, options)


def _keras(folder: _Folder, options: LoadOptions) -> Backend:
    from penstock.worker.backends import tensorflow

    data = folder.member("data")
    names = ("model.keras", "model.h5", "model")
    return tensorflow.load(next((data / name for name in names if (data / name).exists()), data), options)


# In this order: a folder may have several, and the first that is there is taken.
_FLAVOURS: dict[str, Callable[[_Folder, LoadOptions], Backend]] = {
    "onnx": _onnx,
    "xgboost": _xgboost,
    "sklearn": _sklearn,
    "pytorch": _pytorch,
    "tensorflow": _tensorflow,
    "keras": _keras,
}
