"""What is tested, and how: from `penstock-test.toml` and the command line, which wins."""

from __future__ import annotations

import difflib
import math
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from penstock.core.errors import ConfigError
from penstock.testing.accuracy import AccuracyOptions
from penstock.testing.fuzz import Extremes, FuzzOptions
from penstock.testing.latency import LatencyOptions

__all__ = ["FILE_NAME", "THRESHOLDS", "TestPlan", "check_document", "plan_of", "read_plan_file"]

FILE_NAME = "penstock-test.toml"

# The metric that each bounds.
THRESHOLDS = {
    "min_accuracy": "accuracy",
    "min_f1": "f1",
    "min_auc": "auc",
    "min_r2": "r2",
    "max_mae": "mae",
    "max_rmse": "rmse",
}
_PATHS = ("labels",)


@dataclass(frozen=True, slots=True)
class TestPlan:
    """What is tested, and how.

    Attributes:
        model: A path, NAME=PATH, a model of `config`, or its name at a server.
        version: The version at a server; None is the one that answers.
        config: The file with the settings under which a path is served.
        settings: Settings that win over it.
        golden: Files with golden rows beside those that the model carries.
        fuzz: None: no rows are made.
        latency: None: not measured.
        accuracy: None: not measured.
        seed: What chance there is comes from it.
    """

    __test__ = False  # not one for pytest to collect

    model: str
    version: str | None = None
    config: Path | None = None
    settings: Mapping[str, Any] = field(default_factory=dict)
    golden: tuple[Path, ...] = ()
    fuzz: FuzzOptions | None = None
    latency: LatencyOptions | None = None
    accuracy: AccuracyOptions | None = None
    seed: int = 1


def read_plan_file(file: Path) -> dict[str, Any]:
    """Read the file, with paths made what they are from here. ConfigError says what is wrong, and where."""
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"cannot read {file}: {error.strerror}") from error
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise ConfigError(f"{file}: not valid TOML: {error}") from error
    _check(document, str(file))
    for name in ("model", "config"):
        if name in document:
            document[name] = _from(file, document[name], name)
    document["golden"] = [str(file.parent / path) for path in document.get("golden", [])]
    accuracy = document.get("accuracy", {})
    for name in _PATHS:
        if name in accuracy:
            accuracy[name] = str(file.parent / accuracy[name])
    return document


def _from(file: Path, text: str, name: str) -> str:
    label, equals, path = text.partition("=")
    if equals and "/" not in label:
        return f"{label}={file.parent / path}"
    # What is no path is the name of a model of `config`, or of a server's.
    return str(file.parent / text) if name == "config" or (file.parent / text).exists() else text


def plan_of(document: Mapping[str, Any]) -> TestPlan:
    """Return the plan that a document in the form of the file says. ConfigError for what makes no sense."""
    if "model" not in document:
        raise ConfigError(f"there is no model: penstock test MODEL, or a {FILE_NAME} with model = ...")
    seed = document.get("seed", 1)
    fuzz = dict(document.get("fuzz", {}))
    if "extremes" in fuzz:
        fuzz["extremes"] = Extremes(fuzz["extremes"])
    latency = document.get("latency", {})
    if latency and "p99_ms" not in latency:
        raise ConfigError("latency: there is no p99_ms to hold the model to")
    return TestPlan(
        model=document["model"],
        version=document.get("version"),
        config=Path(document["config"]) if "config" in document else None,
        settings=document.get("settings", {}),
        golden=tuple(map(Path, document.get("golden", ()))),
        fuzz=FuzzOptions(seed=seed, **fuzz) if fuzz.get("rows") != 0 else None,
        latency=LatencyOptions(seed=seed, **latency) if latency else None,
        accuracy=_accuracy(document.get("accuracy", {})),
        seed=seed,
    )


def _accuracy(table: Mapping[str, Any]) -> AccuracyOptions | None:
    if not table:
        return None
    for name in ("labels", "target"):
        if name not in table:
            what = "--labels FILE" if name == "labels" else "--target COLUMN"
            raise ConfigError(f"accuracy: {name} is missing: {what} says what is true")
    thresholds = {metric: float(table[name]) for name, metric in THRESHOLDS.items() if name in table}
    slices = table.get("slices", {})
    others = {name: table[name] for name in ("target", "output", "scores") if name in table}
    return AccuracyOptions(
        labels=Path(table["labels"]),
        classes=tuple(table.get("classes", ())),
        thresholds=thresholds,
        slice=slices.get("column"),
        slice_rows_min=slices.get("rows_min", 1),
        slice_thresholds={metric: float(slices[name]) for name, metric in THRESHOLDS.items() if name in slices},
        **others,
    )


# --- what the file may hold -------------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Number:
    minimum: float
    maximum: float = math.inf
    whole: bool = False

    @property
    def expected(self) -> str:
        kind = "a whole number" if self.whole else "a number"
        return f"{kind} from {self.minimum:g}" + ("" if self.maximum == math.inf else f" to {self.maximum:g}")

    def fits(self, value: object) -> bool:
        kinds: Any = int if self.whole else int | float
        return isinstance(value, kinds) and not isinstance(value, bool) and self.minimum <= value <= self.maximum


@dataclass(frozen=True, slots=True)
class _Text:
    expected: str = "a text"
    choices: tuple[str, ...] = ()

    def fits(self, value: object) -> bool:
        return isinstance(value, str) and bool(value) and (not self.choices or value in self.choices)


@dataclass(frozen=True, slots=True)
class _Texts:
    expected: str = "a list of texts"

    def fits(self, value: object) -> bool:
        return isinstance(value, list) and all(isinstance(item, str) and item for item in value)


@dataclass(frozen=True, slots=True)
class _Flag:
    expected: str = "true or false"

    def fits(self, value: object) -> bool:
        return isinstance(value, bool)


@dataclass(frozen=True, slots=True)
class _Settings:
    expected: str = "a table of settings"

    def fits(self, value: object) -> bool:
        return isinstance(value, dict) and all(
            isinstance(item, str | int | float | bool | list) for item in value.values()
        )


_SHARE = _Number(0, 1)
_ANY = _Number(-math.inf)
_BOUNDS: Mapping[str, Any] = {
    "min_accuracy": _SHARE,
    "min_f1": _SHARE,
    "min_auc": _SHARE,
    "min_r2": _ANY,
    "max_mae": _Number(0),
    "max_rmse": _Number(0),
}
_KNOWN: Mapping[str, Any] = {
    "model": _Text(),
    "version": _Text(),
    "config": _Text(),
    "settings": _Settings(),
    "golden": _Texts(),
    "seed": _Number(0, 2**63 - 1, whole=True),
    "fuzz": {
        "rows": _Number(0, 100_000, whole=True),
        "extremes": _Text("'answer', 'refuse' or 'off'", tuple(Extremes)),
        "non_finite": _Flag(),
        "rtol": _Number(0),
        "atol": _Number(0),
    },
    "latency": {
        "p99_ms": _Number(0.001),
        "rate": _Number(0.001),
        "duration_s": _Number(0.1, 86_400),
        "warm_up_s": _Number(0, 3_600),
    },
    "accuracy": {
        "labels": _Text(),
        "target": _Text(),
        "output": _Text(),
        "scores": _Text(),
        "classes": _Texts(),
        **_BOUNDS,
        "slices": {"column": _Text(), "rows_min": _Number(1, whole=True), **_BOUNDS},
    },
}


def check_document(document: Mapping[str, Any], where: str) -> None:
    """ConfigError unless a document has the form of the file; `where` is told."""
    _check(document, where)


def _check(document: Mapping[str, Any], where: str, known: Mapping[str, Any] = _KNOWN, prefix: str = "") -> None:
    for name, value in document.items():
        if name not in known:
            near = difflib.get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise ConfigError(f"{where}: {prefix}{name}: unknown; {hint}")
        kind = known[name]
        if isinstance(kind, dict):
            if not isinstance(value, dict):
                raise ConfigError(f"{where}: {prefix}{name}: expected a table, [{prefix}{name}]")
            _check(value, where, kind, f"{prefix}{name}.")
        elif not kind.fits(value):
            raise ConfigError(f"{where}: {prefix}{name} = {value!r}: expected {kind.expected}")
