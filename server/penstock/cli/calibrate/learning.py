"""What `penstock calibrate` does: rows through the answer's own kernels, and what was learned into the plan."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, TypeAlias
from zipfile import BadZipFile

import numpy as np
from numpy.typing import NDArray

from penstock.cli.calibrate.checks import (
    SCORES,
    Doubt,
    are_probabilities,
    check_scores,
    check_truth,
    doubts_of_rows,
    doubts_of_scores,
    output_of,
)
from penstock.cli.processing import plan_at, write_plan
from penstock.core.errors import ConfigError
from penstock.core.written_file import WrittenFile
from penstock.processing.answers.answer import read_answer
from penstock.processing.answers.calibration import (
    calibration_error,
    curve_of,
    distances_of,
    likelihood,
    line_of,
    quantile_of,
    temperature_of,
    threshold_of,
)
from penstock.processing.answers.classes import Calibration, Classes
from penstock.processing.answers.numbers import Numbers
from penstock.processing.faults import place_of_row
from penstock.processing.plan import read_plan
from penstock.processing.plan_files import FILE_BYTES_MAX
from penstock.processing.record import Record
from penstock.processing.slots import Table
from penstock.processing.spelling import number_in
from penstock.processing.tables import read_table
from penstock.worker.answers import Answers
from penstock.worker.model import ModelSpec, TensorSpec

__all__ = ["Wanted", "calibrate"]

Floats: TypeAlias = NDArray[np.float64]
Places: TypeAlias = NDArray[np.int64]

_METHODS = ("temperature", "platt", "isotonic")
_RULES = ("lac", "aps")
_SEED = 0
# A hundredth is noise.
_WORSE = 1.01


@dataclass(frozen=True, slots=True)
class Wanted:
    """What is to be learned; None for what is to stay as it is."""

    truth: str
    of: str | None = None
    method: str | None = None
    alpha: float | None = None
    rule: str = "lac"
    precision: float | None = None

    @property
    def only_method(self) -> bool:
        """Whether nothing else shares the rows."""
        return self.alpha is None and self.precision is None


def calibrate(path: Path, table: Path, wanted: Wanted, output: Path | None) -> Iterator[str]:
    """Learn and write the plan; lines about it, of which a Doubt is a warning.

    Without an `output` a plan in JSON is written where it was. ConfigError when something cannot be learned from the
    table.
    """
    _check(wanted)
    plan = plan_at(path)
    if output is None and plan.suffix != ".json":
        raise ConfigError(f"{plan}: a plan is written as .json: say where with -o, such as -o processing.json")
    read = read_plan(plan)
    answer = copy.deepcopy(dict(read.answer or {}))
    values = _read(table)
    name = output_of(plan, answer, table, (column for column in values if column != wanted.truth), wanted.of)
    parts = read_answer(WrittenFile(plan, "plan", FILE_BYTES_MAX), {name: answer.setdefault(name, {})})[name]
    if len(parts) != 1:
        raise ConfigError(f"{plan}: answer.{name} is dropped or taken apart: nothing can be learned for it")
    scores = _matrix(table, values, name)
    if isinstance(parts[0], Classes):
        lines = list(_classes(plan, parts[0], scores, _Truth(table, values, wanted.truth), wanted, answer[name]))
    else:
        lines = list(_numbers(plan, parts[0], scores, table, values, wanted, answer[name]))
    write_plan(replace(read, answer=answer), output or plan)
    yield from lines
    yield f"{output or plan}: written"


def _check(wanted: Wanted) -> None:
    if wanted.method is not None and wanted.method not in _METHODS:
        raise ConfigError(f"--method is {wanted.method!r}: it can be {', '.join(_METHODS)}")
    if wanted.rule not in _RULES:
        raise ConfigError(f"--rule is {wanted.rule!r}: it can be {', '.join(_RULES)}")
    for name, share in (("alpha", wanted.alpha), ("precision", wanted.precision)):
        if share is not None and not 0 < share < 1:
            raise ConfigError(f"--{name} is {share:g}: it must be between 0 and 1")
    if wanted.method is None and wanted.alpha is None and wanted.precision is None:
        raise ConfigError("say what is to be learned: --method, --alpha or --precision")


def _read(file: Path) -> Table:
    if file.suffix in (".csv", ".parquet", ".pq"):
        return read_table(file, Record((), {}))
    if file.suffix != ".npz":
        raise ConfigError(f"{file}: tables are .csv, .parquet or .npz")
    # What NumPy says is no help: it advises to run what is in the file.
    wrong = f"{file}: is no .npz of numbers and strings: write it with numpy.savez, and no array of objects"
    try:
        arrays = np.load(file, allow_pickle=False)
        if isinstance(arrays, np.ndarray):
            raise ConfigError(f"{file}: is a single array, .npy: write it by the output's name with numpy.savez")
        with arrays:
            return {name: arrays[name] for name in arrays.files}
    except OSError as error:
        raise ConfigError(f"{file}: cannot be read: {error.strerror or error}") from error
    except (ValueError, EOFError, KeyError, BadZipFile) as error:
        raise ConfigError(wrong) from error


def _matrix(file: Path, table: Table, name: str) -> Floats:
    """Return an output, shape (rows, elements): column NAME, of lists if need be, or NAME[0], NAME[1] and so on."""
    columns = [name] if name in table else []
    while not columns or columns[0] != name:
        column = f"{name}[{len(columns)}]"
        if column not in table:
            break
        columns.append(column)
    if not columns:
        raise ConfigError(
            f"{file}: has neither a column {name!r} nor {name + '[0]'!r}: its columns are {', '.join(table) or 'none'}"
        )
    if not all(len(table[column]) for column in columns):
        raise ConfigError(f"{file}: has no rows")
    try:
        parts = [np.array([_number(value) for value in table[column]], np.float64) for column in columns]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{file}: {name}: holds something that is no number: {error}") from error
    matrix = parts[0].reshape(len(parts[0]), -1) if len(parts) == 1 else np.column_stack(parts)
    if not np.isfinite(matrix).all():
        row = int(np.flatnonzero(~np.isfinite(matrix).all(axis=1))[0])
        raise ConfigError(f"{file}: {place_of_row(file, row)}: {name} is missing or no number")
    return matrix


def _number(value: Any) -> Any:
    return float(value) if isinstance(value, str) else value


class _Truth:
    """The column that says what is right."""

    def __init__(self, file: Path, table: Table, name: str) -> None:
        self.file, self.name = file, name
        self._table = table

    def _values(self) -> Sequence[Any]:
        if self.name not in self._table:
            raise ConfigError(f"{self.file}: there is no column {self.name!r} to be the truth")
        return list(self._table[self.name])

    def places(self, labels: Sequence[str]) -> Places:
        """Return the place of each row's label."""
        known = {label: place for place, label in enumerate(labels)}
        places = np.empty(len(values := self._values()), np.int64)
        for row, value in enumerate(values):
            spelt = str(value)
            if spelt not in known:
                spelt = _place_spelt(spelt, labels)
            if spelt not in known:
                place = place_of_row(self.file, row)
                raise ConfigError(
                    f"{self.file}: {place}: {self.name} is {spelt!r}, which is no label: the plan's labels, or without "
                    f"them the places of classes, are {', '.join(labels)}"
                )
            places[row] = known[spelt]
        return places

    def several(self, classes: int) -> NDArray[np.bool_]:
        """Return which classes each row is of, shape (rows, classes), of classes that do not exclude each other."""
        matrix = _matrix(self.file, self._table, self.name)
        if matrix.shape[1] != classes or not np.isin(matrix, (0, 1)).all():
            raise ConfigError(f"{self.file}: {self.name}: a row must have {classes} of 0 and 1, one for each label")
        return np.asarray(matrix == 1)


def _place_spelt(text: str, labels: Sequence[str]) -> str:
    """Return the label that others write otherwise: 2.0 for 2, and true for the second of two."""
    if text.lower() in ("true", "false") and len(labels) == 2:
        return labels[text.lower() == "true"]
    number = number_in(text)
    return str(int(number)) if number is not None and number.is_integer() else text


def _probabilities(plan: Path, part: Classes, scores: Floats) -> Floats:
    """Return what the part's kernels make of scores, shape (rows, classes)."""
    part = replace(part, give=("probabilities",), top=0, threshold=None, cut=None, conformal=None, abstain="")
    classes = 2 if scores.shape[1] == 1 and not part.multilabel else scores.shape[1]
    return _through(plan, part, scores, (classes,))


def _through(plan: Path, part: Classes | Numbers, scores: Floats, shape: tuple[int, ...]) -> Floats:
    output = TensorSpec(part.output, "float64", scores.shape[1:])
    answers = Answers(plan, {part.output: (part,)}, ModelSpec((), (output,)))
    result = np.empty((len(scores), *shape))
    answers.run(lambda _, outputs, __: np.copyto(outputs[0], scores), (), (result,))
    return result


def _classes(
    plan: Path, part: Classes, scores: Floats, truth: _Truth, wanted: Wanted, members: dict[str, Any]
) -> Iterator[str]:
    classes = 2 if scores.shape[1] == 1 and not part.multilabel else scores.shape[1]
    labels = part.labels or tuple(str(place) for place in range(classes))
    _probabilities(plan, replace(part, labels=labels), scores[:1])  # whether they fit
    right: NDArray[Any] = truth.several(classes) if part.multilabel else truth.places(labels)
    if len(right) != len(scores):
        raise ConfigError(f"{truth.file}: {truth.name} has {len(right)} rows, and {part.output} has {len(scores)}")
    first, rest = _halves(len(scores), wanted)
    check_truth(truth.file, truth.name, labels, right)
    check_scores(plan, part, truth.file, scores, wanted.method)
    yield from doubts_of_scores(plan, part, scores)
    yield from doubts_of_rows(wanted.method, len(first), 0 if wanted.only_method else len(rest))
    if wanted.method is not None:
        bare = replace(part, calibration=Calibration())
        calibration = _calibration(plan, bare, scores[first], right[first], wanted.method)
        part = replace(part, calibration=calibration)
        members["calibration"] = _written(calibration, wanted.method)
        if not part.multilabel:
            before, after = (_probabilities(plan, of, scores[rest]) for of in (bare, part))
            yield from _compared(wanted.method, len(first), before, after, right[rest])
        else:
            yield f"{wanted.method} from {len(first)} rows"
    probabilities = _probabilities(plan, part, scores[rest])
    if wanted.alpha is not None:
        yield _sets(part, probabilities, right[rest], wanted.alpha, wanted.rule, members)
    if wanted.precision is not None and part.multilabel:
        yield from _cuts(labels, probabilities, right[rest], wanted.precision, members)
    elif wanted.precision is not None:
        yield from _thresholds(plan, part, scores[rest], right[rest], labels, wanted.precision, members)


def _compared(method: str, rows: int, before: Floats, after: Floats, right: Places) -> Iterator[str]:
    """Say what a method is good for, over rows that it has not learned from where there are such."""
    now, off = likelihood(after, right), calibration_error(after, right)
    told = f"{method} from {rows} rows; over {len(right)} negative log-likelihood "
    if not are_probabilities(before):
        yield f"{told}{now:.4f}, calibration error {off:.4f}"
        return
    then = likelihood(before, right)
    yield f"{told}{then:.4f}, now {now:.4f}, calibration error {calibration_error(before, right):.4f}, now {off:.4f}"
    if now > then * _WORSE:
        better = "" if method == "temperature" else " or --method temperature,"
        yield Doubt(
            f"{method} makes probabilities worse than they were, {now:.4f} after {then:.4f}: take more rows,{better} "
            "or leave --method out"
        )


def _halves(rows: int, wanted: Wanted) -> tuple[Places, Places]:
    """Return the rows for the method and those for the rest: the same where there is only one of both."""
    places = np.arange(rows)
    if wanted.method is None or wanted.only_method:
        return places, places
    if rows < 2:
        raise ConfigError(f"{rows} row is too few to be shared by --method and what is learned after it")
    mixed = np.random.default_rng(_SEED).permutation(places)
    return np.sort(mixed[: rows // 2]), np.sort(mixed[rows // 2 :])


def _calibration(plan: Path, bare: Classes, scores: Floats, right: NDArray[Any], method: str) -> Calibration:
    """Learn from scores what bends the probabilities of a part without calibration."""
    probabilities = _probabilities(plan, bare, scores)
    if method == "temperature":
        return Calibration(_temperature(bare, scores, probabilities, right))
    # Of two classes the second one is enough; a decision function without limits is taken as it is.
    given = scores if bare.scores == "none" else probabilities
    columns = list(range(given.shape[1]))
    if not bare.multilabel and probabilities.shape[1] == 2:
        columns = columns[-1:]
    of_class = [right[:, k] if bare.multilabel else right == k for k in range(probabilities.shape[1])][-len(columns) :]
    pairs = [(given[:, column], positive) for column, positive in zip(columns, of_class, strict=True)]
    if method == "platt":
        return Calibration(platt=tuple(line_of(*pair) for pair in pairs))
    curves = [curve_of(*pair) for pair in pairs]
    return Calibration(isotonic=tuple((tuple(x), tuple(y)) for x, y in curves))


def _temperature(bare: Classes, scores: Floats, probabilities: Floats, right: NDArray[Any]) -> float:
    logits = scores
    single = scores.shape[1] == 1 or bare.multilabel
    if bare.scores == "none":
        tiny = np.finfo(np.float64).tiny
        logits = np.log(np.maximum(scores, tiny))
        if single:
            logits = logits - np.log(np.maximum(1 - scores, tiny))
    if single:
        each = logits.reshape(-1, 1)
        logits, right = np.hstack([np.zeros_like(each), each]), np.asarray(right).astype(np.int64).reshape(-1)
    return temperature_of(logits, right)


def _written(calibration: Calibration, method: str) -> dict[str, Any]:
    if method == "temperature":
        return {"temperature": calibration.temperature}
    if method == "platt":
        lines = [list(line) for line in calibration.platt]
        return {"platt": lines[0] if len(lines) == 1 else lines}
    curves = [{"x": list(x), "y": list(y)} for x, y in calibration.isotonic]
    return {"isotonic": curves[0] if len(curves) == 1 else curves}


def _sets(part: Classes, probabilities: Floats, right: Places, alpha: float, rule: str, members: dict[str, Any]) -> str:
    if part.multilabel:
        raise ConfigError(f"{part.output} is multilabel, and sets are of labels that exclude each other")
    quantile = quantile_of(distances_of(probabilities, right, rule), alpha)
    kept = {"most": part.conformal.most} if part.conformal is not None and part.conformal.most else {}
    members["conformal"] = {"rule": rule, "alpha": alpha, "quantile": quantile, **kept}
    _give(members, "set", "set_size")
    return f"sets ({rule}) from {len(right)} rows: the quantile is {quantile:.4g}"


def _thresholds(
    plan: Path,
    part: Classes,
    scores: Floats,
    right: Places,
    labels: Sequence[str],
    precision: float,
    members: dict[str, Any],
) -> Iterator[str]:
    """Find for each label the confidence from which on it is right often enough."""
    sure = replace(
        part, labels=tuple(labels), give=("label", "confidence"), top=0, threshold=None, conformal=None, abstain=""
    )
    answers = Answers(plan, {part.output: (sure,)}, _spec(part.output, scores))
    given, confidences = np.empty(len(scores), object), np.empty(len(scores))
    answers.run(lambda _, outputs, __: np.copyto(outputs[0], scores), (), (given, confidences))
    thresholds = {}
    for place, label in enumerate(labels):
        rows = np.array([of == label for of in given], bool)
        found = threshold_of(confidences[rows], right[rows] == place, precision)
        thresholds[label] = 1.0 if found is None else found
        yield _told("threshold", label, thresholds[label], found is not None, precision, int(rows.sum()))
    members["threshold"] = thresholds
    _give(members, "abstained")


def _cuts(
    labels: Sequence[str], probabilities: Floats, right: NDArray[np.bool_], precision: float, members: dict[str, Any]
) -> Iterator[str]:
    cuts = {}
    for place, label in enumerate(labels):
        found = threshold_of(probabilities[:, place], right[:, place], precision)
        cuts[label] = 1.0 if found is None else found
        yield _told("cut", label, cuts[label], found is not None, precision, len(right))
    members["cut"] = cuts


def _told(what: str, label: str, value: float, reached: bool, precision: float, rows: int) -> str:
    if reached:
        return f"{what} of {label}: {value:.4g}, from {rows} rows"
    return f"{what} of {label}: 1, because no confidence has {precision:.0%} of {rows} rows right"


def _spec(name: str, scores: Floats) -> ModelSpec:
    return ModelSpec((), (TensorSpec(name, "float64", scores.shape[1:]),))


def _numbers(
    plan: Path,
    part: Numbers,
    scores: Floats,
    file: Path,
    table: Table,
    wanted: Wanted,
    members: dict[str, Any],
) -> Iterator[str]:
    """Learn how far from the truth an answer in its unit is."""
    if wanted.alpha is None or wanted.method is not None or wanted.precision is not None:
        raise ConfigError(
            f"{plan}: answer.{part.output} has no 'scores', so it holds numbers: for an interval say --alpha, and "
            f"nothing else; for a classifier add {SCORES}"
        )
    try:
        truth = _matrix(file, table, wanted.truth)
    except ConfigError as error:
        raise ConfigError(f"{error}; for a classifier add {SCORES} to answer.{part.output}") from error
    if truth.shape != scores.shape:
        raise ConfigError(f"{file}: {wanted.truth} has the shape {truth.shape}, and {part.output} has {scores.shape}")
    # Served intervals are around numbers that bounds have not touched yet.
    plain = replace(part, interval=None, minimum=-math.inf, maximum=math.inf, decimals=None, cast="float64", shape=None)
    values = _through(plan, plain, scores, scores.shape[1:])
    by = part.interval.by if part.interval is not None else ""
    away = np.abs(truth - values)
    if by:
        scale = _matrix(file, table, by)
        if len(scale) != len(scores) or (scale <= 0).any():
            raise ConfigError(f"{file}: {by}: every row must have a number above 0, which the distance is divided by")
        away = away / scale
    # An interval is for all elements of a row: the one that is furthest away decides.
    quantile = quantile_of(away.max(axis=1), wanted.alpha)
    yield from doubts_of_rows(None, 0, len(scores))
    members["interval"] = {"alpha": wanted.alpha, "quantile": quantile, **({"by": by} if by else {})}
    times = f" times {by}" if by else f" {part.unit}".rstrip()
    yield f"interval from {len(scores)} rows: {quantile:.4g}{times} to both sides"


def _give(members: dict[str, Any], *names: str) -> None:
    """Let a list of what is given have these, too."""
    if "give" in members:
        members["give"] = [*members["give"], *(name for name in names if name not in members["give"])]
