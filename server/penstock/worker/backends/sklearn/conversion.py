"""`convert = "onnx"`: an estimator turned into ONNX when it is loaded, and kept only if it predicts the same."""

from __future__ import annotations

import logging
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from penstock.core.errors import ModelLoadError
from penstock.worker.arrays import Array, room
from penstock.worker.backends import Backend, LoadOptions, onnx
from penstock.worker.backends.probing import first_line
from penstock.worker.backends.sklearn.features import Features
from penstock.worker.model import ModelSpec, TensorSpec

if TYPE_CHECKING:
    from penstock.worker.backends.sklearn import SklearnBackend

__all__ = ["ConvertedBackend", "converted"]

logger = logging.getLogger("penstock.worker.sklearn")

# The newest opset that every supported ONNX Runtime and skl2onnx know.
OPSET = {"": 17, "ai.onnx.ml": 3}
ROWS = 512
RTOL, ATOL = 1e-5, 1e-7
# Two classes that are this close in probability are a tie: rounding decides.
TIE = 1e-5
# What skl2onnx calls the outputs that are served here.
_ONNX_NAMES = {
    "label": "label",
    "probabilities": "probabilities",
    "score": "scores",
    "prediction": "variable",
    "features": "variable",
}


def converted(
    estimator: Any, file: Path, original: SklearnBackend, features: Features, options: LoadOptions
) -> ConvertedBackend:
    """Return a backend that runs the estimator as ONNX; ModelLoadError when it cannot, or predicts something else."""
    if features.categorical:
        raise ModelLoadError(
            f'{file}: convert = "onnx" is for numbers, and the model has columns of text or categories: '
            'set convert = "none"'
        )
    batches = list(_drawn(estimator, original.spec.inputs))
    reasons = []
    # float64 is what most estimators compute in; trees round their features to float32 first, and so must the graph.
    for dtype in ("float64", "float32"):
        try:
            backend = ConvertedBackend(original, _session_of(estimator, original, dtype, options), dtype)
            for rows in batches:
                _compare(original, backend, rows)
        except _DiffersError as error:
            reasons.append(f"in {dtype}, {error}")
            continue
        logger.info("%s runs as ONNX in %s: it agrees on %d rows", file.name, dtype, ROWS * len(batches))
        return backend
    raise ModelLoadError(
        f'{file} cannot be served as ONNX: {"; ".join(reasons)}. Set convert = "none" to run it with scikit-learn'
    )


class _DiffersError(Exception):
    """Why a conversion is no good: it cannot be made, cannot be run, or predicts something else."""


def _session_of(estimator: Any, original: SklearnBackend, dtype: str, options: LoadOptions) -> Backend:
    try:
        from skl2onnx import to_onnx
        from skl2onnx.common.data_types import DoubleTensorType, FloatTensorType
    except ImportError as error:
        raise ModelLoadError(
            "convert = \"onnx\" needs skl2onnx and onnxruntime: pip install 'penstock[onnx]' skl2onnx"
        ) from error
    kind = DoubleTensorType if dtype == "float64" else FloatTensorType
    types = [(tensor.name, kind([None, *(tensor.shape or (1,))])) for tensor in original.spec.inputs]
    choices = {id(estimator): {"zipmap": False}} if _is_classifier(estimator) else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            model = to_onnx(estimator, initial_types=types, options=choices, target_opset=OPSET)
        _keep_outputs(model, original.spec)
        with tempfile.TemporaryDirectory(prefix="penstock-onnx-") as folder:
            path = Path(folder) / "converted.onnx"
            path.write_bytes(model.SerializeToString())
            return onnx.load(path, options)
    except _DiffersError:
        raise
    except Exception as error:
        raise _DiffersError(f"it cannot be converted ({type(error).__name__}: {first_line(error)})") from error


def _is_classifier(estimator: Any) -> bool:
    from sklearn.base import is_classifier

    return bool(is_classifier(estimator))


def _keep_outputs(model: Any, spec: ModelSpec) -> None:
    """Leave only the outputs that are served, in their order; labels that are places are found by their probability."""
    outputs = {output.name: output for output in model.graph.output}
    wanted = [_ONNX_NAMES[name] for name in _names(spec.outputs) if name not in spec.labels or name != "label"]
    if not wanted or not set(wanted) <= outputs.keys():
        raise _DiffersError(f"it gives {', '.join(map(repr, outputs))} and not {', '.join(map(repr, wanted))}")
    del model.graph.output[:]
    model.graph.output.extend([outputs[name] for name in wanted])


def _names(tensors: Sequence[TensorSpec]) -> list[str]:
    return [tensor.name for tensor in tensors]


class ConvertedBackend:
    """The estimator's schema in front of its ONNX session, whose tensors have other types and shapes."""

    name = "sklearn"
    rerun = True

    def __init__(self, original: SklearnBackend, session: Backend, dtype: str) -> None:
        self.spec = original.spec
        self.may_refuse_zeros = original.may_refuse_zeros
        self._session = session
        self._dtype = dtype
        names = _names(self.spec.outputs)
        by_probability = "label" in names and "label" in self.spec.labels
        self._label = names.index("label") if by_probability else None
        self._served = [place for place in range(len(names)) if place != self._label]
        self._probabilities = names.index("probabilities") if by_probability else 0
        for place, tensor in zip(self._served, session.spec.outputs, strict=True):
            if _size(tensor) != _size(self.spec.outputs[place]):
                raise _DiffersError(f"{names[place]!r} has the shape {tensor.shape}")

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array], lengths: Array | None = None) -> None:
        """Run the rows of `inputs` into `outputs`; see Backend.run."""
        rows = len(inputs[0])
        takes, gives = self._session.spec.inputs, self._session.spec.outputs
        shaped = [
            array.astype(self._dtype, copy=False).reshape(rows, *tensor.shape)
            for array, tensor in zip(inputs, takes, strict=True)
        ]
        # Outputs are contiguous, so these are views of them.
        views = [outputs[place].reshape(rows, *tensor.shape) for place, tensor in zip(self._served, gives, strict=True)]
        self._session.run(shaped, views)
        if self._label is not None:
            outputs[self._label][...] = outputs[self._probabilities].argmax(axis=1)


def _size(tensor: TensorSpec) -> int:
    return int(np.prod(tensor.shape, dtype=np.int64))


# --- rows to compare on -----------------------------------------------------------------------------------------------


def _drawn(estimator: Any, inputs: Sequence[TensorSpec]) -> Iterator[list[Array]]:
    """Yield batches of rows: from the ranges that the model has learned, from wider ones, and from where trees divide.

    The thresholds of trees lie half-way between numbers that were fitted, which is where other numbers lie exactly.
    """
    width = sum(_size(tensor) for tensor in inputs)
    centre, spread, cuts = _learned(estimator, width)
    generator = np.random.default_rng(20_240_229)
    wide = generator.standard_normal((2, ROWS, width)) * spread
    batches = [centre + wide[0], centre + 4 * wide[1]]
    if cuts:
        columns = [
            generator.choice(cuts[place], ROWS) if place in cuts else batches[0][:, place] for place in range(width)
        ]
        batches.append(np.column_stack(columns))
    for matrix in batches:
        at, batch = 0, []
        for tensor in inputs:
            part = matrix[:, at : at + _size(tensor)]
            at += _size(tensor)
            part = np.rint(part) if np.dtype(tensor.dtype).kind == "i" else part
            batch.append(np.ascontiguousarray(part.astype(tensor.dtype)).reshape(ROWS, *tensor.shape))
        yield batch


def _learned(estimator: Any, width: int) -> tuple[Array, Array, dict[int, Array]]:
    """Return where features lie, how far they spread, and the thresholds that trees have for them, by feature.

    Known from a scaler, from the trees, or nothing: then around 0 and by 1.
    """
    steps = getattr(estimator, "steps", None)
    centre, spread, scaled = np.zeros(width), np.ones(width), False
    for part in [part for _, part in steps] if steps else [estimator]:
        scale = None if scaled else _scale_of(part, width)
        trees = [tree.tree_ for tree in np.ravel(getattr(part, "estimators_", [part])) if hasattr(tree, "tree_")]
        if scale is not None:
            (centre, spread), scaled = scale, True
        elif trees and trees[0].n_features == width:
            cuts = {place: centre[place] + spread[place] * own for place, own in _cuts(trees).items()}
            for place, own in cuts.items() if not scaled else ():
                centre[place], spread[place] = own.mean(), own.std() or abs(own.mean()) or 1.0
            return centre, spread, cuts
    return centre, spread, {}


def _scale_of(part: Any, width: int) -> tuple[Array, Array] | None:
    """Return what a scaler subtracts, and what it divides by, if the part is one."""
    centre: Any = getattr(part, "mean_", getattr(part, "center_", None))
    spread: Any = getattr(part, "scale_", None)
    if centre is None or spread is None or np.shape(centre) != (width,) or np.shape(spread) != (width,):
        return None
    return np.asarray(centre, np.float64), np.asarray(spread, np.float64)


def _cuts(trees: Sequence[Any]) -> dict[int, Array]:
    """Return the thresholds of trees, by feature; a leaf has the feature -2."""
    features = np.concatenate([tree.feature for tree in trees])
    thresholds = np.concatenate([tree.threshold for tree in trees])
    return {int(place): thresholds[features == place] for place in np.unique(features[features >= 0])}


# --- comparing --------------------------------------------------------------------------------------------------------


def _compare(original: SklearnBackend, backend: ConvertedBackend, rows: Sequence[Array]) -> None:
    """Raise _DiffersError, which says by how much, when the ONNX model gives something else for the rows."""
    outputs = original.spec.outputs
    expected, got = ([room((ROWS, *tensor.shape), tensor.dtype) for tensor in outputs] for _ in range(2))
    try:
        original.run(rows, expected)
    except ValueError as error:
        raise _DiffersError(f"scikit-learn itself refuses the rows to compare them on ({first_line(error)})") from error
    try:
        backend.run(rows, got)
    except Exception as error:
        raise _DiffersError(f"it does not run ({first_line(error)})") from error
    names = _names(outputs)
    ties = _ties(expected[names.index("probabilities")]) if "probabilities" in names else np.zeros(ROWS, bool)
    for name, right, found in zip(names, expected, got, strict=True):
        right, found = right.reshape(ROWS, -1), found.reshape(ROWS, -1)
        if name == "label":
            wrong, extent = (right != found).any(axis=1) & ~ties, ""
            allowed = "labels must be equal but for ties"
        else:
            wrong = ~np.isclose(found, right, RTOL, ATOL, equal_nan=True).all(axis=1)
            extent = f" by up to {np.nanmax(np.abs(right - found), initial=0.0):.3g}"
            allowed = f"{RTOL:g} of the value and {ATOL:g} are allowed"
        if wrong.any():
            raise _DiffersError(f"{name!r} differs{extent} in {int(wrong.sum())} of {ROWS} rows ({allowed})")


def _ties(probabilities: Array) -> Array:
    """Tell which rows have two classes that are equally probable."""
    if probabilities.ndim != 2 or probabilities.shape[1] < 2:
        return np.zeros(len(probabilities), bool)
    highest = np.sort(probabilities, axis=1)[:, -2:]
    ties: Array = highest[:, 1] - highest[:, 0] < TIE
    return ties
