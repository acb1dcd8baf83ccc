"""XGBoost models, saved as UBJSON (.ubj) or JSON (.json). The only file that imports xgboost."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from penstock.core.errors import ModelLoadError
from penstock.worker.arrays import Array
from penstock.worker.backends import Backend, LoadOptions, find_artefact
from penstock.worker.backends.probing import copy_results, first_line, probe_outputs
from penstock.worker.backends.schema_file import DeclaredTensor, Schema, find_schema, read_schema, refuse_strings
from penstock.worker.model import ModelSpec, TensorSpec

__all__ = ["XgboostBackend", "load", "open_booster", "serve"]

# What comes of a row, by objective; of all others a "prediction".
_OUTPUTS = {
    "binary:logistic": "probabilities",
    "multi:softprob": "probabilities",
    "multi:softmax": "label",
    "binary:hinge": "label",
}


def load(path: Path, options: LoadOptions) -> Backend:
    """Load a .ubj or .json file; ModelLoadError says what is wrong with it and how to mend it."""
    file = find_artefact(path) if path.is_dir() else path
    if file is None:
        raise ModelLoadError(f"{path} holds no model, or several: leave one .ubj or .json file in the folder")
    schema = find_schema(path)
    return serve(open_booster(file), file, read_schema(schema) if schema else None, options)


def open_booster(file: Path) -> Any:
    """Return the Booster in a file, by its content where the suffix is neither .ubj nor .json."""
    try:
        import xgboost
    except ImportError as error:
        raise ModelLoadError("XGBoost models need xgboost: pip install 'penstock[xgboost]'") from error
    booster = xgboost.Booster()
    try:
        known = file.suffix.lower() in (".ubj", ".json")
        booster.load_model(str(file) if known else bytearray(file.read_bytes()))
    except (xgboost.core.XGBoostError, ValueError, OSError) as error:
        raise ModelLoadError(
            f"{file} is no XGBoost model that xgboost {xgboost.__version__} can load ({_reason(error)}): save it with "
            f"Booster.save_model('model.ubj'), and check that the file is complete"
        ) from error
    return booster


def _reason(error: Exception) -> str:
    """Return what XGBoost says, without the time, the place in its source and the stack."""
    line = first_line(error)
    return line.partition(": ")[2] if line.startswith("[") and ": " in line else line


def serve(booster: Any, file: Path, schema: Schema | None, options: LoadOptions) -> Backend:
    """Return the backend of a booster; `schema` says more about its inputs, `file` is for errors."""
    if options.convert != "none":
        raise ModelLoadError(
            f"{file}: convert = {options.convert!r} is not for XGBoost, which is fast itself: leave it out"
        )
    booster.set_param({"nthread": options.threads})
    return XgboostBackend(booster, file, schema)


class XgboostBackend:
    """A booster and its schema. Missing values are NaN."""

    name = "xgboost"
    rerun = True
    may_refuse_zeros = False

    def __init__(self, booster: Any, file: Path, schema: Schema | None) -> None:
        learner = json.loads(booster.save_config())["learner"]
        name = _OUTPUTS.get(learner["objective"]["name"], "prediction")
        self._predict = _predict_of(booster, learner["gradient_booster"]["name"])
        inputs, self._matrix = _features(booster, file, schema)
        self._whole = name == "label"
        self._names = (name,)
        outputs = probe_outputs(self._names, self._answer, inputs, None)
        self.spec = ModelSpec(inputs, outputs, labels=_labels(outputs[0]))

    def _answer(self, inputs: Sequence[Array]) -> list[Array]:
        result = self._predict(self._matrix(inputs))
        return [result.astype(np.int64) if self._whole else result]

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array], lengths: Array | None = None) -> None:
        """Run the rows of `inputs` into `outputs`; see Backend.run. No input varies in length."""
        copy_results(self._names, self._answer(inputs), outputs, False)


def _labels(output: TensorSpec) -> dict[str, tuple[int | str, ...]]:
    if output.name == "probabilities" and output.shape:
        return {output.name: tuple(range(output.shape[0]))}
    return {}


def _predict_of(booster: Any, kind: str) -> Callable[[Array], Array]:
    """Return what predicts a matrix as XGBoost does: after early stopping with the trees up to the best only."""
    import xgboost

    attributes = booster.attributes()
    rounds = (0, int(attributes["best_iteration"]) + 1) if "best_iteration" in attributes else (0, 0)
    if kind == "gblinear":  # cannot predict in place
        return lambda rows: booster.predict(xgboost.DMatrix(rows), validate_features=False)
    return lambda rows: booster.inplace_predict(rows, iteration_range=rounds, validate_features=False)


# --- inputs -----------------------------------------------------------------------------------------------------------


def _features(
    booster: Any, file: Path, schema: Schema | None
) -> tuple[tuple[TensorSpec, ...], Callable[[Sequence[Array]], Array]]:
    """Return the inputs, and what makes one float32 matrix of them, which is what XGBoost computes in."""
    count = int(booster.num_features())
    if schema is None:
        return (TensorSpec("features", "float32", (count,)),), lambda inputs: inputs[0]
    refuse_strings(schema, "XGBoost")
    inputs = tuple(
        TensorSpec(tensor.name, tensor.dtype, tuple(size for size in tensor.shape if size is not None))
        for tensor in schema.inputs
    )
    if any(None in tensor.shape for tensor in schema.inputs) or (
        any(tensor.shape for tensor in inputs) and (len(inputs) > 1 or inputs[0].shape != (count,))
    ):
        raise ModelLoadError(
            f"{schema.file}: inputs must be one matrix of the shape [{count}], as {file.name} was trained, or "
            f"{count} columns with the shape []"
        )
    if inputs[0].shape:
        return inputs, lambda arrays: arrays[0]
    places = _places(booster, schema, count)
    columns = [schema.inputs[place] for place in places]

    def matrix(arrays: Sequence[Array]) -> Array:
        table = np.empty((len(arrays[0]), count), np.float32)
        for column, (tensor, place) in enumerate(zip(columns, places, strict=True)):
            table[:, column] = arrays[place]
            if tensor.categories:
                _check_categories(tensor, arrays[place])
                table[arrays[place] < 0, column] = np.nan
        return table

    return inputs, matrix


def _places(booster: Any, schema: Schema, count: int) -> list[int]:
    """Return where the model's features are among the inputs: by their names if it has any, else in order."""
    declared = [tensor.name for tensor in schema.inputs]
    names = booster.feature_names
    if names is None and len(declared) == count:
        return list(range(count))
    if names is None or sorted(names) != sorted(declared):
        wanted = ", ".join(map(repr, names)) if names is not None else f"{count} of them"
        raise ModelLoadError(f"{schema.file}: the inputs must be the features that the model was trained on: {wanted}")
    return [declared.index(name) for name in names]


def _check_categories(tensor: DeclaredTensor, indices: Array) -> None:
    if int(indices.min(initial=0)) < -1 or int(indices.max(initial=0)) >= len(tensor.categories):
        raise ValueError(
            f"{tensor.name!r} is an index from 0 to {len(tensor.categories) - 1}, or -1 for a missing value"
        )
