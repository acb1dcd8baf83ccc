"""Classifiers in an answer: what is given of an output with a score for each class."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any, TypeAlias

from penstock.core.written_file import WrittenFile, shown

__all__ = ["GIVEN", "Calibration", "Classes", "Conformal", "PerLabel", "read_alpha", "read_classes", "read_quantile"]

# What a classifier's output can give, and the member that it needs.
GIVEN: Mapping[str, str] = {
    "label": "",
    "confidence": "",
    "probabilities": "",
    "top_labels": "top",
    "top_scores": "top",
    "abstained": "threshold",
    "reason": "threshold",
    "set": "conformal",
    "set_size": "conformal",
    "labels": "",
    "count": "",
}
_OF_SEVERAL = ("labels", "count", "probabilities", "top_labels", "top_scores")
_SCORES = ("softmax", "sigmoid", "none")
_CONFIDENCES = ("maximum", "margin", "entropy")

# Points x, y of lines; x ascends.
Curve: TypeAlias = tuple[tuple[float, ...], tuple[float, ...]]
# A number for all labels or for some; the rest have none.
PerLabel: TypeAlias = float | Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Calibration:
    """Scores are divided by the temperature; Platt's (a, b) or a curve goes over what `scores` made."""

    temperature: float = 1.0
    platt: tuple[tuple[float, float], ...] = ()
    isotonic: tuple[Curve, ...] = ()


@dataclass(frozen=True, slots=True)
class Conformal:
    """Sets that hold the true label with a probability of 1 - alpha. `most` is the room for labels, 0 for all.

    Without a quantile it is still to be learned.
    """

    rule: str
    alpha: float
    quantile: float | None = None
    most: int = 0


@dataclass(frozen=True, slots=True)
class Classes:
    """An output with a score for each class, and what is given of it: see GIVEN.

    A single score is that of the second of two classes. With `multilabel` classes do not exclude each other.
    """

    output: str
    scores: str
    name: str = ""
    multilabel: bool = False
    labels: tuple[str, ...] = ()
    calibration: Calibration = field(default_factory=Calibration)
    confidence: str = "maximum"
    give: tuple[str, ...] = ()
    top: int = 0
    threshold: PerLabel | None = None
    cut: PerLabel | None = None
    abstain: str = ""
    conformal: Conformal | None = None

    def named(self, given: str) -> str:
        """Name what it gives."""
        return f"{self.name}_{given}" if self.name else given


def read_classes(reading: WrittenFile, output: str, members: Mapping[str, Any], where: str) -> Classes:
    """Read it; ModelLoadError names what is wrong in it. Whether it fits the model is found out with the model."""
    allowed = ("name", "multilabel", "labels", "calibration", "confidence", "give", "top", "threshold", "cut")
    reading.members(members, where, needed=("scores",), allowed=(*allowed, "abstain", "conformal"))
    labels = _labels(reading, members.get("labels", []), f"{where}.labels")
    classes = Classes(
        output,
        reading.choice(members["scores"], f"{where}.scores", _SCORES),
        reading.text(members["name"], f"{where}.name") if "name" in members else "",
        reading.flag(members.get("multilabel", False), f"{where}.multilabel"),
        labels,
        _calibration(reading, members.get("calibration", {}), f"{where}.calibration"),
        reading.choice(members.get("confidence", "maximum"), f"{where}.confidence", _CONFIDENCES),
        top=reading.whole(members["top"], f"{where}.top", least=1) if "top" in members else 0,
        threshold=_per_label(reading, members, "threshold", where, labels),
        cut=_per_label(reading, members, "cut", where, labels),
        abstain=_any_text(reading, members.get("abstain", ""), f"{where}.abstain"),
        conformal=_conformal(reading, members["conformal"], f"{where}.conformal") if "conformal" in members else None,
    )
    if classes.multilabel:
        _check_multilabel(reading, classes, members, where)
    return replace(classes, give=_give(reading, classes, members, where))


def _check_multilabel(reading: WrittenFile, classes: Classes, members: Mapping[str, Any], where: str) -> None:
    if classes.scores == "softmax":
        raise reading.error(f"{where}.scores", "is softmax, whose classes exclude each other: multilabel takes sigmoid")
    for name in ("threshold", "conformal", "confidence"):
        if name in members:
            raise reading.error(
                f"{where}.{name}", "is for one label of several, and with multilabel each has its own: cut chooses them"
            )


def _give(reading: WrittenFile, classes: Classes, members: Mapping[str, Any], where: str) -> tuple[str, ...]:
    """Return what is asked for, or else what the other members are good for."""
    has = {"": True, "top": classes.top > 0, "threshold": classes.threshold is not None}
    has["conformal"] = classes.conformal is not None
    possible = _OF_SEVERAL if classes.multilabel else tuple(name for name in GIVEN if name not in ("labels", "count"))
    if "give" not in members:
        return tuple(name for name in possible if has[GIVEN[name]] and name != "probabilities")
    at = f"{where}.give"
    names = reading.items(members["give"], at, f"{', '.join(possible)}", least=1)
    for place, name in enumerate(names):
        reading.choice(name, f"{at}[{place}]", possible)
        if not has[GIVEN[name]]:
            raise reading.error(f"{at}[{place}]", f"is {name!r}, which needs the member {GIVEN[name]!r}")
        if name in names[:place]:
            raise reading.error(f"{at}[{place}]", f"is {name!r} for the second time")
    return tuple(names)


def _labels(reading: WrittenFile, value: object, where: str) -> tuple[str, ...]:
    labels = reading.items(value, where, "labels")
    for place, label in enumerate(labels):
        if not isinstance(label, str | int) or isinstance(label, bool):
            raise reading.error(f"{where}[{place}]", f"is {shown(label)}: a label is a string or a whole number")
        if str(label) in map(str, labels[:place]):
            raise reading.error(f"{where}[{place}]", f"is {shown(label)} for the second time")
    return tuple(str(label) for label in labels)


def _calibration(reading: WrittenFile, value: object, where: str) -> Calibration:
    members = reading.mapping(value, where)
    reading.members(members, where, allowed=("temperature", "platt", "isotonic"))
    if len(members) > 1:
        raise reading.error(where, f"has {' and '.join(members)}: one of them is enough")
    if "temperature" in members:
        temperature = reading.number(members["temperature"], f"{where}.temperature")
        if temperature <= 0:
            raise reading.error(f"{where}.temperature", f"is {temperature:g}: it must be more than 0")
        return Calibration(temperature)
    if "platt" in members:
        return Calibration(platt=_lines(reading, members["platt"], f"{where}.platt"))
    if "isotonic" not in members:
        return Calibration()
    curves = members["isotonic"]
    at = f"{where}.isotonic"
    if not isinstance(curves, list):
        return Calibration(isotonic=(_curve(reading, curves, at),))
    items = reading.items(curves, at, "curves, one for each class", least=1)
    return Calibration(isotonic=tuple(_curve(reading, of, f"{at}[{place}]") for place, of in enumerate(items)))


def _lines(reading: WrittenFile, value: object, where: str) -> tuple[tuple[float, float], ...]:
    items = reading.items(value, where, "a and b, or such pairs, one for each class", least=1)
    pairs = items if isinstance(items[0], list) else [items]
    lines = []
    for place, pair in enumerate(pairs):
        at = f"{where}[{place}]" if pairs is items else where
        numbers = reading.items(pair, at, "two numbers, a and b")
        if len(numbers) != 2:
            raise reading.error(at, f"has {len(numbers)} numbers: a and b are two")
        lines.append((reading.number(numbers[0], f"{at}[0]"), reading.number(numbers[1], f"{at}[1]")))
    return tuple(lines)


def _curve(reading: WrittenFile, value: object, where: str) -> Curve:
    members = reading.mapping(value, where)
    reading.members(members, where, needed=("x", "y"))
    x, y = (_floats(reading, members[name], f"{where}.{name}") for name in ("x", "y"))
    if len(x) != len(y):
        raise reading.error(where, f"has {len(x)} x and {len(y)} y: each point has both")
    if not all(0 <= share <= 1 for share in y):
        raise reading.error(f"{where}.y", "has a number that is no probability: they are from 0 to 1")
    if any(after <= before for before, after in pairwise(x)):
        raise reading.error(f"{where}.x", "does not ascend: each must be more than the one before it")
    return x, y


def _floats(reading: WrittenFile, value: object, where: str) -> tuple[float, ...]:
    items = reading.items(value, where, "numbers", least=1)
    return tuple(reading.number(item, f"{where}[{place}]") for place, item in enumerate(items))


def _per_label(
    reading: WrittenFile, members: Mapping[str, Any], name: str, where: str, labels: Sequence[str]
) -> PerLabel | None:
    """Return a share for all labels, or one for some."""
    if name not in members:
        return None
    value, at = members[name], f"{where}.{name}"
    if not isinstance(value, dict):
        return _share(reading, value, at)
    for label in value:
        if labels and label not in labels:
            raise reading.error(at, f"has a member {label!r}, which is no label: they are {', '.join(labels)}")
    return {label: _share(reading, share, f"{at}.{label}") for label, share in value.items()}


def _share(reading: WrittenFile, value: object, where: str) -> float:
    share = reading.number(value, where)
    if not 0 <= share <= 1:
        raise reading.error(where, f"is {share:g}: it must be from 0 to 1")
    return share


def _conformal(reading: WrittenFile, value: object, where: str) -> Conformal:
    members = reading.mapping(value, where)
    reading.members(members, where, needed=("rule", "alpha"), allowed=("quantile", "most"))
    return Conformal(
        reading.choice(members["rule"], f"{where}.rule", ("lac", "aps")),
        read_alpha(reading, members["alpha"], f"{where}.alpha"),
        read_quantile(reading, members, where),
        reading.whole(members["most"], f"{where}.most", least=1) if "most" in members else 0,
    )


def read_quantile(reading: WrittenFile, members: Mapping[str, Any], where: str) -> float | None:
    """Read what penstock calibrate finds out."""
    if "quantile" not in members:
        return None
    quantile = reading.number(members["quantile"], f"{where}.quantile")
    if quantile < 0:
        raise reading.error(f"{where}.quantile", f"is {quantile:g}: it must be 0 or more")
    return quantile


def read_alpha(reading: WrittenFile, value: object, where: str) -> float:
    """Read the share that may be wrong."""
    alpha = reading.number(value, where)
    if not 0 < alpha < 1:
        raise reading.error(where, f"is {alpha:g}: it must be between 0 and 1, the share that may be wrong")
    return alpha


def _any_text(reading: WrittenFile, value: object, where: str) -> str:
    return "" if value == "" else reading.text(value, where)
