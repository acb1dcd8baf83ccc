"""What a plan makes of a model's outputs, in one native call for a batch."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TypeAlias

from penstock.core.errors import ModelLoadError
from penstock.native._kernels import Answers as NativeAnswers
from penstock.processing.answers.answer import Answer
from penstock.processing.answers.classes import Classes
from penstock.processing.answers.numbers import Numbers
from penstock.processing.steps.numbers import Log, Power, Scale
from penstock.processing.steps.step import Step, UnlearnedError
from penstock.worker.arrays import Array, aligned_room
from penstock.worker.model import TEXTS, ModelSpec, NoNumberError, TensorSpec

__all__ = ["Answers"]

_FLOATS = ("float16", "float32", "float64")

_Run: TypeAlias = Callable[[Sequence[Array], Sequence[Array], Array | None], None]
_Result: TypeAlias = tuple[str, int, list[str]]


class Answers:
    """Runs a model and answers what the plan says. Arrays are kept from batch to batch; used by one thread."""

    def __init__(self, file: Path, answer: Answer, spec: ModelSpec, lane: str = "") -> None:
        """Raises ModelLoadError when the answer does not fit the model."""
        self._file = file
        self._native = NativeAnswers(lane)
        self._model = spec.outputs
        self._names = [tensor.name for tensor in spec.outputs]
        self.outputs: list[TensorSpec] = []
        self.labels: dict[str, tuple[int | str, ...]] = {}
        # By output of the model: the number of the answer's output that it writes itself, or None.
        self._written: list[int | None] = []
        self._reshapes = False
        self._check_names(answer)
        sources: list[str] = []
        for source, tensor in enumerate(spec.outputs):
            try:
                self._add(source, tensor, answer, spec.labels)
            except ValueError as error:
                raise self._error(tensor.name, f"does not fit the model: {error}") from error
            sources += [tensor.name] * (len(self.outputs) - len(sources))
        self._check_outputs(answer, sources)
        self._computes = len(self._kept()) > 0
        self._rows = 0
        self._room: list[Array | None] = [None] * len(self._model)

    def run(self, run: _Run, inputs: Sequence[Array], outputs: Sequence[Array], lengths: Array | None = None) -> None:
        """Run the model and fill the answer's outputs. NoNumberError for a row about which nothing can be said."""
        rows = len(outputs[0])
        if rows > self._rows:
            self._grow(rows)
        written = [
            room[:rows] if room is not None else outputs[place]  # type: ignore[index]
            for room, place in zip(self._room, self._written, strict=True)
        ]
        if self._reshapes:
            written = [
                array.reshape(rows, *tensor.shape) if not tensor.varies else array
                for array, tensor in zip(written, self._model, strict=True)
            ]
        run(inputs, written, lengths)
        if self._computes:
            missing = self._native.run(written, outputs)
            if missing >= 0:
                raise NoNumberError(f"output {self._names[missing]!r} of the model is no number (NaN)")

    def _error(self, where: str, text: str) -> ModelLoadError:
        return ModelLoadError(f"{self._file}: answer.{where} {text}")

    def _learned(self, where: str, quantile: float | None) -> float:
        if quantile is None:
            raise UnlearnedError(
                f"{self._file}: answer.{where} has no 'quantile': learn it with penstock calibrate, or give it"
            )
        return quantile

    def _check_names(self, answer: Answer) -> None:
        for name in answer:
            if name not in self._names:
                raise self._error(name, f"is no output of the model: it has {', '.join(self._names)}")

    def _check_outputs(self, answer: Answer, sources: Sequence[str]) -> None:
        """Refuse two outputs of one name; `sources` are the model's outputs that they are made of."""
        names = [tensor.name for tensor in self.outputs]
        if not names:
            raise ModelLoadError(f"{self._file}: the answer has no outputs: one must not be dropped")
        for place, name in enumerate(names):
            if name not in names[:place]:
                continue
            both = [sources[names.index(name)], sources[place]]
            where = f"{self._file}: the answer has two outputs {name!r}"
            if both[0] == both[1]:
                raise ModelLoadError(f"{where}, both made of {both[0]!r}: give one another name, or drop it")
            # What the plan says nothing of is what it can do without.
            dropped, named = sorted(both, key=lambda of: of in answer)
            raise ModelLoadError(
                f"{where}, made of the model's {both[0]!r} and {both[1]!r}: drop the one with "
                f"{self._member(dropped, 'drop', 'true')}, or give the other another name with "
                f"""{self._member(named, "name", '"..."')}"""
            )

    def _member(self, output: str, name: str, value: str) -> str:
        """Show a member of an output as the plan's format has it."""
        if self._file.suffix == ".toml":
            return f"{name} = {value} in [answer.{output}]"
        return f'"{output}": {{"{name}": {value}}} in "answer"'

    def _add(
        self,
        source: int,
        tensor: TensorSpec,
        answer: Answer,
        labels: Mapping[str, tuple[int | str, ...]],
    ) -> None:
        parts = answer.get(tensor.name, (Numbers(tensor.name, tensor.name),))
        if len(parts) == 1 and isinstance(parts[0], Numbers) and not parts[0].computes:
            self._pass(tensor, parts[0], labels)
            return
        if tensor.varies:
            raise self._error(tensor.name, "varies in length: it can have another name, and nothing else")
        self._written.append(None)
        for part in parts:
            if tensor.dtype in TEXTS:
                raise self._error(tensor.name, "holds strings: it can have another name, or be dropped")
            if isinstance(part, Classes):
                self._add_classes(source, tensor, part, labels.get(tensor.name, ()))
            else:
                self._add_numbers(source, tensor, part)

    def _pass(self, tensor: TensorSpec, part: Numbers, labels: Mapping[str, tuple[int | str, ...]]) -> None:
        """Let the model write an output as it is."""
        shape = tensor.shape
        if part.shape is not None:
            shape = self._shape(tensor, part, math.prod(tensor.shape))
            self._reshapes = True
        self._written.append(len(self.outputs))
        self.outputs.append(TensorSpec(part.name, tensor.dtype, shape, tensor.varies, unit=part.unit))
        if tensor.name in labels and shape == tensor.shape:
            self.labels[part.name] = labels[tensor.name]

    def _shape(self, tensor: TensorSpec, part: Numbers, elements: int) -> tuple[int, ...]:
        if part.shape is None:
            return tensor.shape
        if tensor.varies or math.prod(part.shape) != elements:
            raise self._error(
                f"{tensor.name}.shape",
                f"is {list(part.shape)}, and a row is {list(tensor.declared_shape)}: elements must be as many",
            )
        return part.shape

    def _add_classes(self, source: int, tensor: TensorSpec, part: Classes, of_model: tuple[int | str, ...]) -> None:
        elements = math.prod(tensor.shape)
        classes = 2 if elements == 1 and not part.multilabel else elements
        labels = part.labels or tuple(str(label) for label in of_model) or tuple(str(place) for place in range(classes))
        self._check_classes(tensor, part, labels, classes)
        exclusive = not part.multilabel and (elements == 1 or part.scores != "sigmoid")
        results: list[_Result] = []
        width = min(part.conformal.most or classes, classes) if part.conformal else 0
        wide = "float64" if tensor.dtype == "float64" else "float32"
        shapes: dict[str, tuple[str, tuple[int, ...]]] = {
            "label": ("str", ()),
            "confidence": (wide, ()),
            "probabilities": (wide, (classes,)),
            "top_labels": ("str", (part.top,)),
            "top_scores": (wide, (part.top,)),
            "abstained": ("bool", ()),
            "reason": ("str", ()),
            "set": ("str", (width,)),
            "set_size": ("int32", ()),
            "labels": ("str", (classes,)),
            "count": ("int32", ()),
        }
        thresholds = _of_labels(part.threshold, labels, 0.0)
        for given in part.give:
            dtype, shape = shapes[given]
            texts = _texts(part, given, labels, thresholds) if dtype == "str" else []
            results.append((given, len(self.outputs), texts))
            self.outputs.append(TensorSpec(part.named(given), dtype, shape))
        if "probabilities" in part.give:
            self.labels[part.named("probabilities")] = labels
        cuts = _of_labels(part.cut, labels, 0.5)
        conformal = part.conformal
        self._native.add_classes(
            source,
            tensor.dtype,
            elements,
            scores=part.scores,
            exclusive=exclusive,
            temperature=part.calibration.temperature,
            lines=list(part.calibration.platt),
            curves=[(list(x), list(y)) for x, y in part.calibration.isotonic],
            confidence=part.confidence,
            thresholds=thresholds,
            cuts=cuts[-1:] if exclusive else cuts,
            set="" if conformal is None else conformal.rule,
            quantile=1.0 if conformal is None else self._learned(f"{tensor.name}.conformal", conformal.quantile),
            set_width=width,
            top=part.top,
            results=results,
        )

    def _check_classes(self, tensor: TensorSpec, part: Classes, labels: Sequence[str], classes: int) -> None:
        name = tensor.name
        if tensor.dtype not in _FLOATS:
            raise self._error(name, f"has scores, and is {tensor.dtype}: they are {', '.join(_FLOATS)}")
        if len(labels) != classes:
            raise self._error(f"{name}.labels", f"are {len(labels)}, and the model has {classes} classes")
        if part.abstain and part.threshold is None:
            raise self._error(f"{name}.abstain", "needs a threshold: learn it with penstock calibrate, or give it")
        if part.top > classes:
            raise self._error(f"{name}.top", f"is {part.top}, and the model has {classes} classes")
        if part.scores == "softmax" and math.prod(tensor.shape) == 1:
            raise self._error(f"{name}.scores", "is softmax, and the model has one score a row: that takes sigmoid")
        if part.scores == "sigmoid" and math.prod(tensor.shape) > 1 and not part.multilabel:
            raise self._error(
                f"{name}.scores",
                "is sigmoid, and the model has several scores a row: say multilabel, or softmax if one label is right",
            )
        if part.cut is not None and not part.multilabel and classes != 2:
            raise self._error(f"{name}.cut", f"is for two classes or multilabel, and the model has {classes} classes")
        if isinstance(part.cut, Mapping) and not part.multilabel and list(part.cut) != [labels[-1]]:
            raise self._error(f"{name}.cut", f"is, for two classes, one number: that of {labels[-1]!r}")
        maps = len(part.calibration.platt) + len(part.calibration.isotonic)
        if maps not in (0, classes) and not (maps == 1 and classes == 2):
            raise self._error(f"{name}.calibration", f"is for {maps} classes, and the model has {classes}")
        if isinstance(part.threshold, Mapping) or isinstance(part.cut, Mapping):
            for given in ("threshold", "cut"):
                by_label = getattr(part, given)
                unknown = [label for label in by_label if label not in labels] if isinstance(by_label, Mapping) else []
                if unknown:
                    raise self._error(
                        f"{name}.{given}", f"is for {unknown[0]!r}, which is no label: {', '.join(labels)}"
                    )

    def _add_numbers(self, source: int, tensor: TensorSpec, part: Numbers) -> None:
        elements = math.prod(tensor.shape)
        if part.element is not None and part.elements != elements:
            raise self._error(f"{tensor.name}.columns", f"are {part.elements}, and the model has {elements}")
        count = elements if part.element is None else 1
        shape = () if part.element is not None else self._shape(tensor, part, elements)
        dtype = _number_dtype(tensor, part)
        results: list[_Result] = []
        interval = part.interval
        bounds = ("low", "high") if interval is not None else ()
        for given in ("value", *bounds):
            results.append((given, len(self.outputs), []))
            name = part.name if given == "value" else f"{part.name}_{given}"
            self.outputs.append(TensorSpec(name, dtype, shape, unit=part.unit))
        self._native.add_numbers(
            source,
            tensor.dtype,
            elements,
            first=part.element or 0,
            count=count,
            steps=[_undone(step) for step in reversed(part.inverse)],
            bounds=(part.minimum, part.maximum),
            decimals=-1 if part.decimals is None else part.decimals,
            quantile=0.0 if interval is None else self._learned(f"{tensor.name}.interval", interval.quantile),
            by=self._by(tensor, part),
            to=dtype,
            results=results,
        )

    def _by(self, tensor: TensorSpec, part: Numbers) -> tuple[int, str, int] | None:
        if part.interval is None or not part.interval.by:
            return None
        where, by = f"{tensor.name}.interval.by", part.interval.by
        if by not in self._names:
            raise self._error(where, f"is {by!r}, which is no output of the model: it has {', '.join(self._names)}")
        place = self._names.index(by)
        scale = self._model[place]
        if scale.dtype not in _FLOATS or scale.varies:
            raise self._error(where, f"is {by!r}, which is {scale.dtype}: it must be floats of a fixed shape")
        return place, scale.dtype, math.prod(scale.shape)

    def _kept(self) -> list[int]:
        return [source for source, place in enumerate(self._written) if place is None]

    def _grow(self, rows: int) -> None:
        for source in self._kept():
            self._room[source] = aligned_room(self._model[source], rows)
        self._rows = rows


def _of_labels(given: float | Mapping[str, float] | None, labels: Sequence[str], default: float) -> list[float]:
    """Return a number for each label, or nothing."""
    if given is None:
        return []
    return [given.get(label, default) if isinstance(given, Mapping) else given for label in labels]


def _texts(part: Classes, given: str, labels: Sequence[str], thresholds: Sequence[float]) -> list[str]:
    """Return the strings of codes, the last for none."""
    if given == "label":
        return [*labels, part.abstain]
    if given == "reason":
        return [
            *(f"confidence in {label} is below {least:g}" for label, least in zip(labels, thresholds, strict=True)),
            "",
        ]
    return [*labels, ""]


def _number_dtype(tensor: TensorSpec, part: Numbers) -> str:
    if part.cast:
        return part.cast
    if tensor.dtype in _FLOATS:
        return tensor.dtype
    if part.inverse or part.interval is not None:
        return "float64"
    return "uint8" if tensor.dtype == "bool" else tensor.dtype


def _undone(step: Step) -> tuple[str, float, float]:
    """Return the native step that undoes a step."""
    if isinstance(step, Log):
        return "exp", step.offset, 0.0
    if isinstance(step, Power):
        assert step.exponent is not None
        return step.kind.replace("-", "_"), step.exponent, 0.0
    assert isinstance(step, Scale)
    assert step.center is not None
    assert step.width is not None
    if step.kind == "min-max":
        return "affine", 1 / step.center, -step.width / step.center
    return "affine", step.width, step.center
