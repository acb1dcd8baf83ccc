"""What a fitted estimator answers, by its kind: labels and probabilities, predictions, or features."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeAlias

import numpy as np

from penstock.core.errors import ModelLoadError
from penstock.worker.arrays import Array, text_dtype

__all__ = ["Answers", "answers_of"]

# More classes than this are not worth naming to every client that asks for the model's description.
LABELS_MAX = 1000

Labels: TypeAlias = tuple[int | str, ...]


@dataclass(frozen=True, slots=True)
class Answers:
    """Computes outputs by name. `prepare` is what they have in common, the steps of a pipeline before the last.

    With `classes_by_probability` labels are the classes of the largest probability, by the estimator's own definition,
    and need not be computed once more.
    """

    functions: Mapping[str, Callable[[Any], Array]]
    prepare: Callable[[Any], Any] | None = None
    labels: Mapping[str, Labels] = field(default_factory=dict)
    classes_by_probability: Array | None = None

    @property
    def names(self) -> tuple[str, ...]:
        """What there is."""
        return tuple(self.functions)

    def run(self, features: Any, names: Sequence[str]) -> list[Array]:
        """Return the outputs of these names."""
        if self.prepare is not None:
            features = self.prepare(features)
        if self.classes_by_probability is not None and len(names) == 2:
            probabilities = self.functions["probabilities"](features)
            found = {
                "label": self.classes_by_probability.take(probabilities.argmax(axis=1)),
                "probabilities": probabilities,
            }
            return [found[name] for name in names]
        return [self.functions[name](features) for name in names]


def answers_of(estimator: Any, file: Path) -> Answers:
    """Return what a fitted estimator answers; ModelLoadError when it answers nothing about new rows."""
    from sklearn.base import is_classifier, is_clusterer, is_outlier_detector

    last, prepare = _without_first_steps(estimator)
    if is_classifier(estimator):
        return _classifier(last, prepare, file)
    if not hasattr(last, "predict"):
        if hasattr(last, "transform"):
            return Answers({"features": lambda features: _dense(last.transform(features))}, prepare)
        raise ModelLoadError(
            f"{file} holds a {type(last).__name__}, which has neither predict nor transform: it says nothing about "
            "rows that it was not fitted on. Save an estimator that does"
        )
    if is_outlier_detector(estimator):
        functions = {"label": last.predict}
        if hasattr(last, "decision_function"):
            functions["score"] = last.decision_function
        return Answers(functions, prepare)
    return Answers({"label" if is_clusterer(estimator) else "prediction": last.predict}, prepare)


def _without_first_steps(estimator: Any) -> tuple[Any, Callable[[Any], Any] | None]:
    """Split a pipeline before its last step: what its predict and predict_proba both do is then done once."""
    from sklearn.pipeline import Pipeline

    if type(estimator) is not Pipeline or estimator.steps[-1][1] in (None, "passthrough"):
        return estimator, None
    if len(estimator.steps) == 1:
        return estimator.steps[0][1], None
    return estimator.steps[-1][1], estimator[:-1].transform


def _dense(result: Any) -> Array:
    return np.asarray(result.toarray() if hasattr(result, "toarray") else result)


def _classifier(last: Any, prepare: Callable[[Any], Any] | None, file: Path) -> Answers:
    from sklearn.ensemble import ExtraTreesClassifier, RandomForestClassifier

    classes = getattr(last, "classes_", None)
    if isinstance(classes, list):  # one array per output: probabilities are a list, too
        if not (all(map(_are_numbers, classes)) or all(map(_are_text, classes))):
            raise ModelLoadError(
                f"{file} gives several labels that are neither all numbers nor all text: save one model per label"
            )
        return Answers({"label": last.predict}, prepare)
    if classes is None:
        return Answers({"label": last.predict}, prepare)
    classes = np.asarray(classes)
    as_they_are = _are_numbers(classes) or _are_text(classes)
    label = last.predict if as_they_are else _index_in(classes, last.predict)
    functions: dict[str, Callable[[Any], Array]] = {"label": label}
    named: dict[str, Labels] = {}
    if not as_they_are:
        named["label"] = _labels(classes)
    by_probability = None
    if hasattr(last, "predict_proba"):
        functions["probabilities"] = last.predict_proba
        named["probabilities"] = _labels(classes)
        # Their predict is the argmax of predict_proba, by the source; a forest is worth running once.
        if type(last) in (RandomForestClassifier, ExtraTreesClassifier):
            by_probability = classes if as_they_are else np.arange(len(classes))
    # Nobody can read an index without its names, however many there are.
    shown = {name: labels for name, labels in named.items() if name == "label" or len(labels) <= LABELS_MAX}
    return Answers(functions, prepare, shown, by_probability)


def _are_numbers(classes: Any) -> bool:
    return np.asarray(classes).dtype.kind in "iuf"


def _are_text(classes: Any) -> bool:
    return text_dtype(np.asarray(classes)) == "str"


def _index_in(classes: Array, predict: Callable[[Any], Any]) -> Callable[[Any], Array]:
    """Return a predict whose labels are places in `classes`, which are neither numbers nor text."""
    order = np.argsort(classes)

    def label(features: Any) -> Array:
        places: Array = order[np.searchsorted(classes, predict(features), sorter=order)]
        return places

    return label


def _labels(classes: Array) -> Labels:
    """Return classes as they are written in JSON: whole numbers, or text."""
    if classes.dtype.kind in "iu" or (classes.dtype.kind == "f" and bool((classes == np.floor(classes)).all())):
        return tuple(int(label) for label in classes)
    return tuple(str(label) for label in classes)
