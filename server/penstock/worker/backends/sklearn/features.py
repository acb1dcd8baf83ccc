"""How the tensors of a request become what an estimator was fitted on: a matrix, or a table with named columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from penstock.core.errors import ModelLoadError
from penstock.worker.arrays import Array
from penstock.worker.backends.schema_file import Category, DeclaredTensor, Schema, schema_name, template
from penstock.worker.model import TensorSpec

__all__ = ["Features", "categories_of", "features_of", "selects_by_name"]

# What a warm-up puts into an input of strings.
Sample: TypeAlias = str | tuple[str, ...]
# What a matrix is called where nothing else is said.
_MATRIX = "features"


@dataclass(frozen=True, slots=True)
class Features:
    """The tensors of a request, and what makes of those of a batch what the estimator takes.

    `categorical` says whether some are text, or indices into categories.
    """

    inputs: tuple[TensorSpec, ...]
    make: Callable[[Sequence[Array]], Any]
    categorical: bool = False


def features_of(estimator: Any, file: Path, schema: Schema | None) -> Features:
    """Return what the estimator takes; ModelLoadError shows the schema file that is missing."""
    names = _names_of(estimator)
    count = getattr(estimator, "n_features_in_", None)
    by_name = selects_by_name(estimator)
    if schema is not None:
        return _declared(schema, names, count, by_name, _samples(estimator, schema))
    if by_name and names is not None:
        known = categories_of(estimator)
        columns = [_column(name, known.get(name, ())) for name in names]
        coded = any(column.categories for column in columns)
        places = "(requests send the index of a category, -1 for a missing one)" if coded else ""
        raise ModelLoadError(
            f"{file} was fitted on a table and picks its columns by name, and does not say their types: write "
            f"{schema_name(file)} with one input per column, such as:\n{template(columns, ())}"
            f"{places}"
        )
    if not isinstance(count, int | np.integer):
        raise ModelLoadError(
            f"{file} does not say how many features it takes: write {schema_name(file)}, such as:\n"
            f"{template([DeclaredTensor(_MATRIX, 'float64', (4,))], ())}"
        )
    return Features((TensorSpec(_MATRIX, "float64", (int(count),)),), _only)


def _only(inputs: Sequence[Array]) -> Array:
    return inputs[0]


def _samples(estimator: Any, schema: Schema) -> dict[str, Sample]:
    """Return text that the model's encoders know, by input: other text may make it raise."""
    steps = getattr(estimator, "steps", None)
    learned = getattr(steps[0][1] if steps else estimator, "categories_", None)
    first = schema.inputs[0]
    if len(schema.inputs) == 1 and learned is not None and first.shape == (len(learned),):
        return {first.name: tuple(str(categories[0]) for categories in learned)}
    known = {
        name: next((category for category in categories if isinstance(category, str)), "")
        for name, categories in categories_of(estimator).items()
    }
    return {name: sample for name, sample in known.items() if sample}


def _names_of(estimator: Any) -> list[str] | None:
    names = getattr(estimator, "feature_names_in_", None)
    return None if names is None else [str(name) for name in names]


def _column(name: str, categories: tuple[Category, ...]) -> DeclaredTensor:
    if categories and all(isinstance(category, str) for category in categories):
        return DeclaredTensor(name, "str")
    return DeclaredTensor(name, "int64" if categories else "float64", (), categories)


def _declared(
    schema: Schema, names: list[str] | None, count: int | None, by_name: bool, samples: Mapping[str, Sample]
) -> Features:
    for tensor in schema.inputs:
        if None in tensor.shape:
            raise ModelLoadError(
                f"{schema.file}: input {tensor.name!r} varies in length, which no model of scikit-learn can: give its "
                "first size a number"
            )
        if tensor.dtype == "bytes":
            raise ModelLoadError(f"{schema.file}: input {tensor.name!r} is bytes: text for scikit-learn is str")
    inputs = tuple(
        TensorSpec(
            tensor.name,
            tensor.dtype,
            tuple(size for size in tensor.shape if size is not None),
            sample=samples.get(tensor.name, "") if tensor.dtype == "str" else "",
        )
        for tensor in schema.inputs
    )
    if len(inputs) == 1 and inputs[0].shape:
        return _matrix(schema, inputs[0], names if by_name else None, count)
    if any(tensor.shape for tensor in inputs):
        raise ModelLoadError(
            f"{schema.file}: inputs must be one matrix, or one column each with the shape []: a row of scikit-learn is "
            "flat"
        )
    if names is None:
        return _stacked(schema, inputs, count)
    return _table(schema, inputs, names)


def _matrix(schema: Schema, tensor: TensorSpec, names: list[str] | None, count: int | None) -> Features:
    if count is not None and tensor.shape != (count,):
        raise ModelLoadError(
            f"{schema.file}: input {tensor.name!r} has the shape {list(tensor.shape)}, and the model was fitted on "
            f"{count} features: make it [{count}]"
        )
    text = tensor.dtype == "str"
    if names is None:
        return Features((tensor,), _only, text)
    import pandas

    columns = pandas.Index(names)
    return Features((tensor,), lambda inputs: pandas.DataFrame(inputs[0], columns=columns, copy=False), text)


def _stacked(schema: Schema, inputs: tuple[TensorSpec, ...], count: int | None) -> Features:
    """Put columns side by side, for a model that was fitted on a matrix."""
    if any(tensor.categories for tensor in schema.inputs):
        raise ModelLoadError(
            f"{schema.file}: the model was fitted on a matrix of numbers, which has no categories: leave them out"
        )
    if count is not None and len(inputs) != count:
        raise ModelLoadError(f"{schema.file}: inputs has {len(inputs)} columns, and the model was fitted on {count}")
    text = any(tensor.dtype == "str" for tensor in inputs)
    if text and count is None and len(inputs) == 1:  # a vectoriser, which takes texts and no table of them
        return Features(inputs, _only, text)
    return Features(inputs, lambda arrays: np.column_stack(list(arrays)), text)


def _table(schema: Schema, inputs: tuple[TensorSpec, ...], names: list[str]) -> Features:
    import pandas

    declared = [tensor.name for tensor in inputs]
    missing = [name for name in names if name not in declared]
    unknown = [name for name in declared if name not in names]
    if missing or unknown:
        raise ModelLoadError(
            f"{schema.file}: the inputs are not the columns that the model was fitted on: "
            + "; ".join(
                f"{what} {', '.join(map(repr, which))}"
                for what, which in (("there is no", missing), ("the model knows no", unknown))
                if which
            )
        )
    decoders = [_decoder(tensor) if tensor.dtype != "str" else _missing_when_empty for tensor in schema.inputs]
    places = [declared.index(name) for name in names]

    def make(arrays: Sequence[Array]) -> Any:
        columns = {}
        for name, place in zip(names, places, strict=True):
            decode = decoders[place]
            columns[name] = arrays[place] if decode is None else decode(arrays[place])
        return pandas.DataFrame(columns, copy=False)

    return Features(inputs, make, any(decode is not None for decode in decoders))


def _decoder(tensor: DeclaredTensor) -> Callable[[Array], Array] | None:
    """Return what makes categories of their indices; -1 is a missing one. ValueError for any other index."""
    if not tensor.categories:
        return None
    count = len(tensor.categories)
    text = any(isinstance(category, str) for category in tensor.categories)
    # The last place is where -1 leads to.
    known = np.array([*tensor.categories, np.nan], object if text else np.float64)
    whole = not text and all(isinstance(category, int) for category in tensor.categories)

    def decode(indices: Array) -> Array:
        low = int(indices.min(initial=0))
        if low < -1 or int(indices.max(initial=0)) >= count:
            raise ValueError(f"{tensor.name!r} is an index from 0 to {count - 1}, or -1 for a missing value")
        values: Array = known[indices]
        return values.astype(np.int64) if whole and low >= 0 else values

    return decode


def _missing_when_empty(column: Array) -> Array:
    """Return text with a missing value for what is empty, as pandas reads a table."""
    empty = np.asarray(column == "", bool)
    if not empty.any():
        return column
    column = column.copy()
    column[empty] = np.nan
    return column


def selects_by_name(estimator: Any) -> bool:
    """Tell whether an estimator takes its columns out of a table by their names."""
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import FeatureUnion, Pipeline

    if isinstance(estimator, Pipeline):
        return bool(estimator.steps) and selects_by_name(estimator.steps[0][1])
    if isinstance(estimator, FeatureUnion):
        return any(selects_by_name(part) for _, part in estimator.transformer_list)
    if isinstance(estimator, ColumnTransformer):
        return any(_column_names(columns) for _, _, columns in estimator.transformers_)
    inner = getattr(estimator, "best_estimator_", None) or getattr(estimator, "estimator_", None)
    return inner is not None and selects_by_name(inner)


def _column_names(columns: Any) -> list[str]:
    """Return the names in a ColumnTransformer's choice of columns; none where it is made by place."""
    if isinstance(columns, str):
        return [columns]
    if isinstance(columns, slice):
        return [end for end in (columns.start, columns.stop) if isinstance(end, str)]
    return (
        [column for column in columns if isinstance(column, str)] if isinstance(columns, Sequence | np.ndarray) else []
    )


def categories_of(estimator: Any) -> dict[str, tuple[Category, ...]]:
    """Return the categories that encoders of a pipeline have learned, by column; missing ones are left out."""
    from sklearn.compose import ColumnTransformer
    from sklearn.pipeline import Pipeline

    if isinstance(estimator, Pipeline):
        return categories_of(estimator.steps[0][1]) if estimator.steps else {}
    if not isinstance(estimator, ColumnTransformer):
        inner = getattr(estimator, "best_estimator_", None) or getattr(estimator, "estimator_", None)
        return {} if inner is None else categories_of(inner)
    found: dict[str, tuple[Category, ...]] = {}
    for _, transformer, columns in estimator.transformers_:
        steps = [step for _, step in transformer.steps] if isinstance(transformer, Pipeline) else [transformer]
        names = [columns] if isinstance(columns, str) else _column_names(columns)
        learned: Sequence[Any] = next((step.categories_ for step in steps if hasattr(step, "categories_")), [])
        if len(learned) == len(names):
            found |= {name: _known(each) for name, each in zip(names, learned, strict=True)}
    return found


def _known(categories: Any) -> tuple[Category, ...]:
    """Return categories as JSON has them, without NaN and None."""
    values = [value.item() if isinstance(value, np.generic) else value for value in categories]
    return tuple(value for value in values if value is not None and value == value)
