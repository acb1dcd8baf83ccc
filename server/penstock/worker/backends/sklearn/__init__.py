"""scikit-learn models: skops files, and pickles that are trusted by their digest. The door to scikit-learn."""

from __future__ import annotations

import logging
import pickle
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from penstock.core.errors import ModelLoadError
from penstock.worker.arrays import Array
from penstock.worker.backends import Backend, LoadOptions, find_artefact
from penstock.worker.backends.probing import copy_results, first_line, probe_outputs
from penstock.worker.backends.schema_file import Schema, find_schema, read_schema
from penstock.worker.backends.sklearn.answers import Answers, answers_of
from penstock.worker.backends.sklearn.features import Features, categories_of, features_of
from penstock.worker.backends.trust import check_archive, refuse_pickle
from penstock.worker.model import DTYPES, TEXTS, ModelSpec, TensorSpec

__all__ = ["SklearnBackend", "UntrustedTypesError", "categories_of", "load", "open_estimator", "serve"]

logger = logging.getLogger("penstock.worker.sklearn")

# Naming this type is what skops asks for with every forest and every boosted tree.
_TREE = "sklearn.tree._tree.Tree"
_PICKLES = (".pkl", ".pickle", ".joblib")


class UntrustedTypesError(ModelLoadError):
    """A .skops file has types beside what skops trusts. `doubt` is what to know of them before they are trusted."""

    def __init__(self, text: str, types: Sequence[str], doubt: str) -> None:
        super().__init__(text)
        self.types = tuple(types)
        self.doubt = doubt


def load(path: Path, options: LoadOptions) -> Backend:
    """Load a .skops file, or a pickle that is trusted; ModelLoadError says what is wrong and how to mend it."""
    file = find_artefact(path) if path.is_dir() else path
    if file is None:
        raise ModelLoadError(f"{path} holds no model, or several: leave one .skops file in the folder")
    schema = find_schema(path)
    return serve(open_estimator(file, options), file, read_schema(schema) if schema else None, options)


def open_estimator(file: Path, options: LoadOptions, kind: str | None = None) -> Any:
    """Return the estimator in a file, of the kind that its suffix says if no other is given (".skops", ".pkl")."""
    try:
        import sklearn
    except ImportError as error:
        raise ModelLoadError("scikit-learn models need scikit-learn: pip install 'penstock[sklearn]'") from error
    kind = kind or file.suffix.lower()
    if kind != ".skops" and kind not in _PICKLES:
        raise ModelLoadError(
            f"{file} is no scikit-learn model: it must be a .skops file (skops.io.dump), or a trusted .pkl or .joblib"
        )
    with warnings.catch_warnings(record=True) as said:
        warnings.simplefilter("always")
        estimator = _open_skops(file, options) if kind == ".skops" else _open_pickle(file, options, kind)
    for warning in said:
        logger.warning("%s: %s", file.name, first_line(Exception(str(warning.message))))
    if not isinstance(estimator, sklearn.base.BaseEstimator):
        raise ModelLoadError(
            f"{file} holds a {type(estimator).__name__}, which is no estimator of scikit-learn: save the fitted "
            "estimator or pipeline itself"
        )
    return estimator


def _open_skops(file: Path, options: LoadOptions) -> Any:
    try:
        from skops import io
        from skops.io.exceptions import UntrustedTypesFoundException
    except ImportError as error:
        raise ModelLoadError(".skops files need skops: pip install 'penstock[sklearn]'") from error
    check_archive(file)
    trusted = list(options.trusted_types)
    try:
        return io.load(file, trusted=trusted)
    except UntrustedTypesFoundException as error:
        untrusted = sorted(set(io.get_untrusted_types(file=file)) - set(trusted))
        named = ", ".join(f'"{name}"' for name in [*trusted, *untrusted])
        tree = ""
        if _TREE in untrusted:
            tree = (
                " (a tree's node numbers are not checked when it predicts: one that was made to do harm can crash the "
                "worker or read its memory)"
            )
        doubt = (
            f"{file} holds types that are not trusted: {', '.join(untrusted)}{tree}. If you trust whoever made the "
            "file with them, "
        )
        text = f"{doubt}name them in the model's settings: trusted_types = [{named}]"
        raise UntrustedTypesError(text, untrusted, doubt) from error
    except Exception as error:
        raise ModelLoadError(
            f"{file} cannot be read by skops ({type(error).__name__}: {first_line(error)}): check that the file is "
            "complete, and that scikit-learn and what else the model uses are as new here as where it was saved"
        ) from error


def _open_pickle(file: Path, options: LoadOptions, kind: str) -> Any:
    refuse_pickle(file, options, "Save the model with skops.io.dump(model, 'model.skops') instead.")
    try:
        if kind == ".joblib":
            import joblib

            return joblib.load(file)
        with file.open("rb") as opened:
            return pickle.load(opened)
    except Exception as error:
        raise ModelLoadError(
            f"{file} cannot be unpickled ({type(error).__name__}: {first_line(error)}): check that the file is "
            "complete and that what it was pickled with is installed, in the same releases"
        ) from error


def serve(estimator: Any, file: Path, schema: Schema | None, options: LoadOptions) -> Backend:
    """Return the backend of a fitted estimator; `schema` says more about its inputs, `file` is for errors."""
    if options.convert not in ("none", "onnx"):
        raise ModelLoadError(
            f'{file}: convert = {options.convert!r} is not for scikit-learn: "onnx" is, or leave it out'
        )
    _limit_threads(options.threads)
    features = features_of(estimator, file, schema)
    backend = SklearnBackend(features, answers_of(estimator, file), schema)
    if options.convert != "onnx":
        return backend
    from penstock.worker.backends.sklearn.conversion import converted

    return converted(estimator, file, backend, features, options)


def _limit_threads(threads: int) -> None:
    """Keep the process to so many threads: those of BLAS and OpenMP, and none of joblib's, nor its processes."""
    import joblib
    import threadpoolctl

    threadpoolctl.threadpool_limits(threads)
    # An estimator fitted with n_jobs=-1 would start a process per core to answer a batch.
    joblib.parallel_config(backend="sequential")


class SklearnBackend:
    """A fitted estimator and what it answers."""

    name = "sklearn"
    rerun = True

    def __init__(self, features: Features, answers: Answers, schema: Schema | None) -> None:
        # Some estimators take positive numbers only, and warm-up runs zeros.
        self.may_refuse_zeros = False
        # A model that was fitted on columns may get a plain matrix: they are in the same order.
        warnings.filterwarnings("ignore", message="X does not have valid feature names")
        self._make = features.make
        self._answers = answers
        found = self._probe(features.inputs)
        outputs = _declared(found, schema) if schema is not None and schema.outputs else found
        self._names = [tensor.name for tensor in outputs]
        self.spec = ModelSpec(
            inputs=features.inputs,
            outputs=outputs,
            labels={name: labels for name, labels in answers.labels.items() if name in self._names},
        )

    def _probe(self, inputs: Sequence[TensorSpec]) -> tuple[TensorSpec, ...]:
        def run(arrays: Sequence[Array]) -> Sequence[Array]:
            try:
                return self.answer(arrays, self._answers.names)
            except ValueError:
                ones = [array if array.dtype.hasobject else np.ones_like(array) for array in arrays]
                results = self.answer(ones, self._answers.names)
                self.may_refuse_zeros = True
                return results

        outputs = probe_outputs(self._answers.names, run, inputs, None)
        for tensor in outputs:
            if tensor.dtype not in DTYPES:
                raise ModelLoadError(
                    f"the model's {tensor.name!r} is a {tensor.dtype}, which Penstock cannot serve: fit it on "
                    "numbers or text"
                )
        return outputs

    def answer(self, inputs: Sequence[Array], names: Sequence[str]) -> list[Array]:
        """Return the outputs of these names for the rows of `inputs`."""
        return self._answers.run(self._make(inputs), names)

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array], lengths: Array | None = None) -> None:
        """Run the rows of `inputs` into `outputs`; see Backend.run. No input varies in length."""
        copy_results(self._names, self.answer(inputs, self._names), outputs, False)


def _is_castable(dtype: str, declared: str) -> bool:
    if dtype in TEXTS or declared in TEXTS:
        return dtype == declared
    return bool(np.can_cast(dtype, declared, "same_kind"))


def _declared(found: Sequence[TensorSpec], schema: Schema) -> tuple[TensorSpec, ...]:
    """Return the outputs that a schema file asks for: some of those that there are, perhaps less precise."""
    by_name = {tensor.name: tensor for tensor in found}
    outputs = []
    for declared in schema.outputs:
        tensor = by_name.get(declared.name)
        if tensor is None:
            raise ModelLoadError(
                f"{schema.file}: outputs has {declared.name!r}, which the model does not give: it gives "
                f"{', '.join(map(repr, by_name))}"
            )
        if declared.shape != tensor.shape or not _is_castable(tensor.dtype, declared.dtype):
            raise ModelLoadError(
                f"{schema.file}: output {declared.name!r} is declared as {declared.dtype} of shape "
                f"{list(declared.shape)}, and is {tensor.dtype} of shape {list(tensor.shape)}"
            )
        outputs.append(TensorSpec(declared.name, declared.dtype, tensor.shape))
    return tuple(outputs)
