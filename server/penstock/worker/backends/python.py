"""Plain Python models: a file or folder with a `class Model`. docs/models.md shows how to write one."""

from __future__ import annotations

import inspect
import os
import sys
from collections.abc import Mapping, Sequence
from enum import Enum, auto
from importlib.machinery import SourceFileLoader
from importlib.util import module_from_spec, spec_from_file_location
from itertools import chain, count
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np

from penstock.core.errors import ModelLoadError
from penstock.worker.arrays import Array
from penstock.worker.backends import LoadOptions, find_artefact
from penstock.worker.fault import describe
from penstock.worker.model import DTYPES, TEXTS, BadOutputError, ModelSpec, TensorSpec

__all__ = ["PythonBackend", "import_file", "load"]

MODULE_NAME = "penstock_model"


class Form(Enum):
    """How predict() takes rows of different lengths."""

    PADDED = auto()
    PADDED_WITH_LENGTHS = auto()
    RAGGED = auto()  # one behind the other: values of shape (total, ...), and where each row begins and ends


_EXAMPLE = """

    from penstock.worker import Tensor

    class Model:
        inputs = {"features": Tensor("float32", (4,))}
        outputs = {"score": Tensor("float32")}

        def load(self):
            ...

        def predict(self, batch):
            return {"score": batch["features"].sum(axis=1)}
"""


def load(path: Path, options: LoadOptions) -> PythonBackend:
    """Import the module, make its Model and let it load; ModelLoadError shows what is missing.

    `options.threads` is for the libraries a model uses: they read OMP_NUM_THREADS, which the supervisor has set. The
    last of `options.lengths` is the longest row.
    """
    module = _import(path)
    model_class = getattr(module, "Model", None)
    if not isinstance(model_class, type):
        raise ModelLoadError(f"{path} has no class Model. A model looks like this:{_EXAMPLE}")
    if not callable(getattr(model_class, "predict", None)):
        raise ModelLoadError(
            f"class Model in {path} has no method predict(self, batch). A model looks like this:{_EXAMPLE}"
        )
    try:
        model = model_class()
        if hasattr(model, "load"):
            model.load()
    except BaseException as error:
        raise ModelLoadError(f"class Model in {path} raised while it loaded: {describe(error)}") from error
    return PythonBackend(model, _spec_of(model, path, options.lengths[-1] if options.lengths else None), path)


class PythonBackend:
    """A user's Model and its schema."""

    name = "python"
    rerun = False  # it may have side effects
    may_refuse_zeros = True

    def __init__(self, model: Any, spec: ModelSpec, path: Path) -> None:
        self.spec = spec
        self._predict = model.predict
        self._input_names = tuple(tensor.name for tensor in spec.inputs)
        self._form = _form_of(model, spec, path)

    def run(self, inputs: Sequence[Array], outputs: Sequence[Array], lengths: Array | None = None) -> None:
        """Run the rows of `inputs` into `outputs`; see Backend.run."""
        if lengths is not None and self._form is Form.RAGGED:
            self._run_ragged(inputs, outputs, lengths)
            return
        more = {"lengths": lengths} if self._form is Form.PADDED_WITH_LENGTHS else {}
        result = self._predict(dict(zip(self._input_names, inputs, strict=True)), **more)
        for value, output, spec in zip(self._in_order(result), outputs, self.spec.outputs, strict=True):
            output[...] = _checked(value, output, output.shape, spec)

    def _run_ragged(self, inputs: Sequence[Array], outputs: Sequence[Array], lengths: Array) -> None:
        """Run the rows without their padding, one behind the other."""
        rows, padded_to = (
            len(lengths),
            next(array.shape[1] for array, spec in zip(inputs, self.spec.inputs, strict=True) if spec.varies),
        )
        cu_seqlens = np.zeros(rows + 1, np.int32)
        np.cumsum(lengths, out=cu_seqlens[1:])
        # Of all elements, padding included, those that are not padding.
        kept = np.flatnonzero(np.arange(padded_to) < lengths[:, np.newaxis])
        batch = {
            spec.name: _flat(array)[kept] if spec.varies else array
            for array, spec in zip(inputs, self.spec.inputs, strict=True)
        }
        result = self._predict(batch, cu_seqlens=cu_seqlens)
        for value, output, spec in zip(self._in_order(result), outputs, self.spec.outputs, strict=True):
            if spec.varies:
                _flat(output)[kept] = _checked(value, output, (len(kept), *output.shape[2:]), spec)
            else:
                output[...] = _checked(value, output, output.shape, spec)

    def _in_order(self, result: object) -> Sequence[object]:
        specs = self.spec.outputs
        if isinstance(result, Mapping):
            for spec in specs:
                if spec.name not in result:
                    raise BadOutputError(f"predict returned no output {spec.name!r}")
            if len(result) != len(specs):
                unknown = next(name for name in result if name not in {spec.name for spec in specs})
                raise BadOutputError(f"predict returned {unknown!r}, which is no output of the model")
            return [result[spec.name] for spec in specs]
        if len(specs) > 1:
            raise BadOutputError(f"predict returned {type(result).__name__}, expected a dict of {len(specs)} outputs")
        return [result]


def _flat(array: Array) -> Array:
    """See (rows, length, ...) as (rows x length, ...), in the same memory."""
    return array.reshape(-1, *array.shape[2:])


def _checked(value: object, output: Array, shape: tuple[int, ...], spec: TensorSpec) -> Array:
    """Return what is to be copied into an output, if it has the shape and a type that fits without a surprise."""
    try:
        # NumPy's own strings would lose the zeros at their ends.
        result = np.asarray(value, object if spec.dtype in TEXTS else None)
    except (ValueError, TypeError) as error:
        raise BadOutputError(f"output {spec.name!r} is no array: its rows differ in shape") from error
    if result.shape != shape:
        raise BadOutputError(f"output {spec.name!r} has shape {result.shape}, expected {shape}")
    if result.dtype != output.dtype and not _fits(result, output):
        raise BadOutputError(f"output {spec.name!r} is {result.dtype}, expected {output.dtype}")
    return result


def _fits(result: Array, output: Array) -> bool:
    """Tell whether values may change their type: float64 to float32 may, 0.5 to an integer and -1 to uint8 may not."""
    if result.dtype.kind in "iu" and output.dtype.kind in "iu":
        limits = np.iinfo(output.dtype)
        return result.size == 0 or (int(result.min()) >= limits.min and int(result.max()) <= limits.max)
    return np.can_cast(result.dtype, output.dtype, "same_kind")


class _UncachedLoader(SourceFileLoader):
    """Compiles the file as it is now: cached bytecode is told apart by size and second, so may be an older file's."""

    def path_stats(self, path: str | bytes | os.PathLike[str]) -> Mapping[str, Any]:
        """Leave the cache out: without a time there is no cached file to look for."""
        raise OSError("not cached")


def _import(path: Path) -> ModuleType:
    file = path
    if path.is_dir():
        named = next((path / name for name in ("__init__.py", "model.py") if (path / name).is_file()), None)
        # A file that was registered alone is a folder's only one, and keeps its name.
        found = named or find_artefact(path)
        if found is None or found.suffix != ".py":
            raise ModelLoadError(
                f"the folder {path} has neither an __init__.py nor a model.py, nor a single Python file, with a class "
                "Model"
            )
        file = found
    return import_file(file)


def import_file(file: Path) -> ModuleType:
    """Import a Python file, as a package if it is an `__init__.py`; ModelLoadError names the line where it fails.

    What lies beside it can be imported by its plain name.
    """
    is_package = file.name == "__init__.py"
    if file.suffix != ".py":
        raise ModelLoadError(f"{file} is no Python file: its name must end in .py")
    name = _unused_module_name()
    spec = spec_from_file_location(
        name,
        file,
        loader=_UncachedLoader(name, str(file)),
        submodule_search_locations=[str(file.parent)] if is_package else None,
    )
    assert spec is not None and spec.loader is not None
    # Nothing is written beside a user's model, and no module beside it is cached for the next worker either.
    sys.dont_write_bytecode = True
    # As for a script: what lies beside the model can be imported by its plain name.
    sys.path.insert(0, str(file.parent.resolve()))
    module = module_from_spec(spec)
    sys.modules[name] = module
    try:
        spec.loader.exec_module(module)
    except BaseException as error:
        raise ModelLoadError(f"{file} cannot be imported: {describe(error)}{_place_of(error, file)}") from error
    return module


def _unused_module_name() -> str:
    """Name the module so that the models of one worker do not take each other's place in sys.modules."""
    names = chain([MODULE_NAME], (f"{MODULE_NAME}_{number}" for number in count(2)))
    return next(name for name in names if name not in sys.modules)


def _place_of(error: BaseException, file: Path) -> str:
    """Name the last line of the model's own file that the error came through."""
    trace = error.__traceback__
    line = error.lineno if isinstance(error, SyntaxError) else None
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == str(file):
            line = trace.tb_lineno
        trace = trace.tb_next
    return f" (line {line})" if line is not None else ""


def _form_of(model: Any, spec: ModelSpec, path: Path) -> Form:
    """Tell by the names of predict's parameters in which form the model takes rows that vary in length."""
    if not spec.varies:
        return Form.PADDED
    try:
        names = inspect.signature(model.predict).parameters.keys()
    except (TypeError, ValueError):  # a callable that is not written in Python
        return Form.PADDED
    if {"lengths", "cu_seqlens"} <= names:
        raise ModelLoadError(
            f"Model.predict in {path} takes both lengths and cu_seqlens: padded rows come with the one, rows without "
            "padding with the other; drop one of them"
        )
    if "cu_seqlens" in names:
        return Form.RAGGED
    return Form.PADDED_WITH_LENGTHS if "lengths" in names else Form.PADDED


def _spec_of(model: Any, path: Path, longest: int | None) -> ModelSpec:
    size = getattr(model, "max_batch_size", None)
    if size is not None and (not isinstance(size, int) or isinstance(size, bool) or size < 1):
        raise ModelLoadError(f"Model.max_batch_size in {path} is {size!r}: it must be a whole number of 1 or more")
    spec = ModelSpec(
        inputs=_tensors_of(model, "inputs", path, longest),
        outputs=_tensors_of(model, "outputs", path, longest),
        max_batch_size=size,
    )
    if not spec.varies and any(tensor.varies for tensor in spec.outputs):
        raise ModelLoadError(f"an output of Model in {path} varies in length and no input does: give it a size")
    return spec


def _tensors_of(model: Any, attribute: str, path: Path, longest: int | None) -> tuple[TensorSpec, ...]:
    declared = getattr(model, attribute, None)
    if not isinstance(declared, Mapping) or not declared:
        raise ModelLoadError(f"Model.{attribute} in {path} must be a dict of names to Tensor(dtype, shape):{_EXAMPLE}")
    return tuple(
        _tensor_of(name, tensor, f"Model.{attribute}[{name!r}] in {path}", longest) for name, tensor in declared.items()
    )


def _tensor_of(name: object, tensor: object, where: str, longest: int | None) -> TensorSpec:
    try:
        dtype = np.dtype(tensor.dtype).name  # type: ignore[attr-defined]
        declared = tuple(tensor.shape)  # type: ignore[attr-defined]
        varies = declared[:1] == (None,)
        shape = tuple(int(size) for size in (declared[1:] if varies else declared))
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelLoadError(f'{where} must be a Tensor, for example Tensor("float32", (4,))') from error
    if dtype not in DTYPES:
        raise ModelLoadError(f"{where} has dtype {dtype!r}: it must be one of {', '.join(sorted(DTYPES))}")
    if not isinstance(name, str) or not name:
        raise ModelLoadError(f"{where}: a tensor's name must be a string")
    if any(size < 1 for size in shape):
        raise ModelLoadError(f"{where} has shape {shape}: each size must be 1 or more, without the batch dimension")
    if varies and longest is None:
        raise ModelLoadError(
            f"{where} varies in length: set lengths for the model, the lengths that rows are padded to, such as "
            "[32, 128, 512]; the last one is the longest that is taken"
        )
    return TensorSpec(name, dtype, (longest, *shape) if varies and longest else shape, varies)
