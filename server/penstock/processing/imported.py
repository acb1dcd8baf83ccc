"""Fitted transformers of scikit-learn as a plan: their numbers are read, and nothing of them is run.

scikit-learn itself is not imported: objects are known by their class's name.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from pathlib import Path
from typing import Any

from penstock.core.errors import ModelLoadError
from penstock.processing.plan import Feature, Plan
from penstock.processing.record import Category, Field, FieldKind, Record
from penstock.processing.steps.categories import Encode
from penstock.processing.steps.numbers import Bin, Clip, Impute, Log, Missing, Power, Scale
from penstock.processing.steps.step import Step
from penstock.processing.steps.texts import Words

__all__ = ["import_fitted", "with_nulls"]


@dataclass(frozen=True, slots=True)
class _Track:
    """A column on its way through transformers: the column of the table that it began as, and its steps so far."""

    column: str
    steps: tuple[Step, ...] = ()
    # A category that was never seen is refused, as the encoder would refuse it; so is a missing one.
    closed: bool = False
    needed: bool = False

    def then(self, *steps: Step) -> _Track:
        return replace(self, steps=(*self.steps, *steps))

    def encoded(self, step: Encode, categories: Any, *, closed: bool) -> _Track:
        """Encode it; `categories` are those that were seen."""
        if sum(map(_is_missing, categories)) > 1:
            raise ModelLoadError(
                f"an encoder of {self.column!r} has two categories for what is missing, None and NaN: a record has one"
            )
        filled = any(isinstance(before, Impute) for before in self.steps) or any(map(_is_missing, categories))
        return replace(self.then(step), closed=closed, needed=closed and not filled)

    @property
    def is_coded(self) -> bool:
        """Whether its values are categories and nothing else."""
        return bool(self.steps) and (
            isinstance(self.steps[-1], Missing)
            or (isinstance(self.steps[-1], Encode) and all(isinstance(step, Impute) for step in self.steps[:-1]))
        )


def import_fitted(transformer: Any, columns: Sequence[str] = ()) -> Plan:
    """Return the plan of a fitted transformer: a ColumnTransformer, a Pipeline of transformers, or a single one.

    `columns` names the columns of the table where it was fitted without names. ModelLoadError names the transformer, or
    its setting, that a plan cannot have.
    """
    names = _names(transformer, columns)
    tracks = _apply(transformer, [_Track(name) for name in names])
    # scikit-learn takes a row with all its columns; where one may be missing, it is null.
    fields = tuple(replace(field, required=True) for field in _fields(names, tracks))
    features = [
        Feature(_unique(track, place, tracks), (track.column,), "", track.steps) for place, track in enumerate(tracks)
    ]
    return Plan(Path("processing.json"), Record(fields, _schema(fields), closed=True), tuple(features))


def with_nulls(plan: Plan) -> list[str]:
    """Name the fields of an imported plan whose null is no number, and nothing else, for the model."""
    taken = {
        feature.sources[0]
        for feature in plan.features
        if not any(isinstance(step, Impute | Missing | Encode) for step in feature.steps)
    }
    fields = plan.record.fields if plan.record is not None else ()
    return [field.name for field in fields if field.nullable and field.name in taken]


def _names(transformer: Any, given: Sequence[str]) -> list[str]:
    own = [str(name) for name in getattr(transformer, "feature_names_in_", ())]
    if own:
        if given and [*given] != own:
            raise ModelLoadError(f"the transformer names its columns itself: {', '.join(own)}")
        return own
    # A transformer of text takes one column, and counts none.
    count = int(getattr(transformer, "n_features_in_", 1))
    if not given:
        return [f"x{place}" for place in range(count)]
    if len(given) != count:
        raise ModelLoadError(f"the transformer has {count} columns, and {', '.join(given)} are {len(given)}")
    if len(set(given)) != count or not all(given):
        raise ModelLoadError(f"{', '.join(given)}: each column needs a name, and one of its own")
    return [*given]


def _apply(transformer: Any, tracks: list[_Track]) -> list[_Track]:
    if isinstance(transformer, str):
        if transformer == "drop":
            return []
        if transformer == "passthrough":
            return tracks
    name = type(transformer).__name__
    module = type(transformer).__module__.partition(".")[0]
    read = _READERS.get(name) if module == "sklearn" else None
    if read is None:
        raise ModelLoadError(
            f"{name} cannot be imported: a plan can have {', '.join(sorted(_READERS))}. Replace it, or serve the whole "
            "pipeline as a scikit-learn model"
        )
    if any(_makes_many(step) for track in tracks for step in track.steps):
        raise ModelLoadError(f"{name} comes behind one-hot columns or words, which a plan makes last")
    return read(transformer, tracks)


def _makes_many(step: Step) -> bool:
    return isinstance(step, Words) or (isinstance(step, Encode) and step.kind == "one-hot")


def _pipeline(pipeline: Any, tracks: list[_Track]) -> list[_Track]:
    _, last = pipeline.steps[-1]
    if hasattr(last, "predict") and type(last).__name__ not in _READERS:
        raise ModelLoadError(
            f"{type(last).__name__} at the end of the pipeline is the model, which is no part of a plan: dump "
            "pipe[:-1], which becomes the plan, and pipe[-1], which is the model beside it, each into a file of its "
            "own; or serve the whole pipeline as a scikit-learn model"
        )
    for _, step in pipeline.steps:
        tracks = _apply("passthrough" if step is None else step, tracks)
    return tracks


def _column_transformer(transformer: Any, tracks: list[_Track]) -> list[_Track]:
    made: list[_Track] = []
    for _, part, columns in transformer.transformers_:
        made.extend(_apply(part, [tracks[place] for place in _chosen(columns, tracks)]))
    return made


def _chosen(columns: Any, tracks: Sequence[_Track]) -> Iterator[int]:
    """Return places for what a ColumnTransformer selects columns with: names, places, booleans or a slice."""
    names = {track.column: place for place, track in enumerate(tracks)}
    if isinstance(columns, slice):
        first, last = (
            _place_of(name, names) if isinstance(name, str) else name for name in (columns.start, columns.stop)
        )
        # A slice of names has its last one, as in pandas.
        behind = last + 1 if isinstance(columns.stop, str) and last is not None else last
        yield from range(len(tracks))[first : behind : columns.step]
        return
    chosen = [columns] if isinstance(columns, str | int) else list(columns)
    for place, column in enumerate(chosen):
        if isinstance(column, str):
            yield _place_of(column, names)
        elif isinstance(column, bool) or type(column).__name__ in ("bool", "bool_"):
            if column:
                yield place
        else:
            yield int(column) % len(tracks)


def _place_of(name: str, names: Mapping[str, int]) -> int:
    if name not in names:
        raise ModelLoadError(
            f"ColumnTransformer takes the column {name!r}, which is no column of the table: behind another transformer "
            "choose columns by their places"
        )
    return names[name]


def _simple_imputer(imputer: Any, tracks: list[_Track]) -> list[_Track]:
    if not _is_missing(imputer.missing_values):
        raise ModelLoadError(f"SimpleImputer has missing_values={imputer.missing_values!r}: a plan knows NaN and None")
    made = []
    for track, value in zip(tracks, imputer.statistics_, strict=True):
        if _is_missing(value):
            if not getattr(imputer, "keep_empty_features", False):
                continue
            value = 0.0
        made.append(track.then(Impute("constant", _plain(value))))
    if imputer.indicator_ is not None:
        made += _missing_indicator(imputer.indicator_, tracks)
    return made


def _missing_indicator(indicator: Any, tracks: list[_Track]) -> list[_Track]:
    return [tracks[int(place)].then(Missing()) for place in indicator.features_]


def _standard_scaler(scaler: Any, tracks: list[_Track]) -> list[_Track]:
    centers = scaler.mean_ if scaler.with_mean else [0.0] * len(tracks)
    widths = scaler.scale_ if scaler.scale_ is not None else [1.0] * len(tracks)
    return _scaled("standard", centers, widths, tracks)


def _robust_scaler(scaler: Any, tracks: list[_Track]) -> list[_Track]:
    centers = scaler.center_ if scaler.center_ is not None else [0.0] * len(tracks)
    widths = scaler.scale_ if scaler.scale_ is not None else [1.0] * len(tracks)
    return _scaled("robust", centers, widths, tracks)


def _max_abs_scaler(scaler: Any, tracks: list[_Track]) -> list[_Track]:
    return _scaled("max-abs", [0.0] * len(tracks), scaler.scale_, tracks)


def _min_max_scaler(scaler: Any, tracks: list[_Track]) -> list[_Track]:
    scaled = _scaled("min-max", scaler.scale_, scaler.min_, tracks)
    if not scaler.clip:
        return scaled
    low, high = (float(bound) for bound in scaler.feature_range)
    return [track.then(Clip(low, high)) for track in scaled]


def _scaled(kind: str, centers: Any, widths: Any, tracks: list[_Track]) -> list[_Track]:
    made = []
    for track, center, width in zip(tracks, centers, widths, strict=True):
        if not (math.isfinite(center) and math.isfinite(width)):
            raise ModelLoadError(
                f"scaler of {track.column!r} has learned {center:g} and {width:g}, from values that were all missing "
                "or not finite: leave the column out"
            )
        made.append(track.then(Scale(kind, float(center), float(width))))
    return made


def _power_transformer(transformer: Any, tracks: list[_Track]) -> list[_Track]:
    made = [
        track.then(Power(transformer.method, float(exponent)))
        for track, exponent in zip(tracks, transformer.lambdas_, strict=True)
    ]
    return _standard_scaler(transformer._scaler, made) if transformer.standardize else made


def _discretizer(discretizer: Any, tracks: list[_Track]) -> list[_Track]:
    made = []
    for track, edges in zip(tracks, discretizer.bin_edges_, strict=True):
        inner = tuple(float(edge) for edge in edges[1:-1])
        # A constant has one bin, and no edge.
        binned = track.then(Bin("edges" if inner else "uniform", len(inner) + 1, inner))
        if discretizer.encode != "ordinal":
            numbers = tuple((float(place), float(place)) for place in range(len(inner) + 1))
            binned = binned.then(Encode("one-hot", numbers, width=len(numbers)))
        made.append(binned)
    return made


def _function_transformer(transformer: Any, tracks: list[_Track]) -> list[_Track]:
    name = getattr(transformer.func, "__name__", None)
    # Whatever else is called log does something else.
    is_numpys = type(transformer.func).__name__ == "ufunc"
    offset = {"log1p": 1.0, "log": 0.0}.get(str(name)) if is_numpys else None
    if transformer.func is None:
        return tracks
    if offset is None or transformer.kw_args:
        raise ModelLoadError(f"FunctionTransformer of {name} cannot be imported: numpy's log and log1p can")
    return [track.then(Log(offset)) for track in tracks]


def _ordinal_encoder(encoder: Any, tracks: list[_Track]) -> list[_Track]:
    made = []
    for place, (track, categories) in enumerate(zip(tracks, encoder.categories_, strict=True)):
        places = _grouped(encoder, place, categories)
        numbers = tuple(
            (_plain(of), float(at)) for of, at in zip(categories, places, strict=True) if not _is_missing(of)
        )
        unknown = encoder.unknown_value if encoder.handle_unknown == "use_encoded_value" else None
        missing = encoder.encoded_missing_value if any(map(_is_missing, categories)) else unknown
        # None is a category like others; NaN is not.
        missing = next((at for of, at in zip(categories, places, strict=True) if of is None), missing)
        step = Encode("ordinal", numbers, missing=_or_none(missing), unknown=_or_none(unknown))
        made.append(track.encoded(step, categories, closed=encoder.handle_unknown == "error"))
    return made


def _target_encoder(encoder: Any, tracks: list[_Track]) -> list[_Track]:
    if encoder.target_type_ == "multiclass":
        raise ModelLoadError(
            "TargetEncoder of several classes cannot be imported: one of two classes or of numbers can"
        )
    mean = float(encoder.target_mean_)
    made = []
    for track, categories, means in zip(tracks, encoder.categories_, encoder.encodings_, strict=True):
        pairs = list(zip(categories, (float(value) for value in means), strict=True))
        missing = next((value for of, value in pairs if _is_missing(of)), mean)
        numbers = tuple((_plain(of), value) for of, value in pairs if not _is_missing(of))
        made.append(track.encoded(Encode("target", numbers, missing=missing, unknown=mean), categories, closed=False))
    return made


def _one_hot_encoder(encoder: Any, tracks: list[_Track]) -> list[_Track]:
    made = []
    for place, (track, categories) in enumerate(zip(tracks, encoder.categories_, strict=True)):
        step = _one_hot(encoder, place, categories)
        if step.width:  # of a constant whose first category is dropped nothing is left
            made.append(track.encoded(step, categories, closed=encoder.handle_unknown == "error"))
    return made


def _one_hot(encoder: Any, place: int, categories: Any) -> Encode:
    places = _grouped(encoder, place, categories)
    dropped = getattr(encoder, "_drop_idx_after_grouping", None)
    out = None if dropped is None else dropped[place]
    shifted = [-1 if at == out else at - (out is not None and at > out) for at in places]
    pairs = list(zip(categories, shifted, strict=True))
    rare = _infrequent(encoder, place)
    unknown = -1
    if encoder.handle_unknown in ("infrequent_if_exist", "warn") and rare:
        unknown = shifted[[str(of) for of in categories].index(str(rare[0]))]
    missing = next((at for of, at in pairs if _is_missing(of)), unknown)
    return Encode(
        "one-hot",
        tuple((_plain(of), float(at)) for of, at in pairs if not _is_missing(of)),
        missing=float(missing),
        unknown=float(unknown),
        width=len(set(shifted) - {-1}),
    )


def _vectorizer(vectorizer: Any, tracks: list[_Track]) -> list[_Track]:
    name = type(vectorizer).__name__
    for setting, default in _PLAIN_WORDS.items():
        if getattr(vectorizer, setting) != default:
            raise ModelLoadError(
                f"{name} has {setting}={getattr(vectorizer, setting)!r}: a plan splits words as {default!r}"
            )
    (track,) = tracks
    least, most = vectorizer.ngram_range
    words = Words(
        "counts",
        ngrams=(int(least), int(most)),
        lower=bool(vectorizer.lowercase),
        binary=bool(vectorizer.binary),
        norm=getattr(vectorizer, "norm", None) or "none",
        stop_words=tuple(sorted(vectorizer.get_stop_words() or ())),
    )
    if name == "HashingVectorizer":
        signs = bool(vectorizer.alternate_sign)
        return [track.then(replace(words, kind="hash", buckets=int(vectorizer.n_features), signs=signs))]
    order = sorted(vectorizer.vocabulary_, key=lambda word: int(vectorizer.vocabulary_[word]))
    words = replace(words, vocabulary=tuple(order), sublinear=bool(getattr(vectorizer, "sublinear_tf", False)))
    if getattr(vectorizer, "use_idf", False):
        words = replace(words, kind="tf-idf", weights=tuple(float(weight) for weight in vectorizer.idf_))
    return [track.then(words)]


_PLAIN_WORDS = {
    "analyzer": "word",
    "token_pattern": r"(?u)\b\w\w+\b",
    "tokenizer": None,
    "preprocessor": None,
    "strip_accents": None,
}


def _grouped(encoder: Any, place: int, categories: Any) -> list[int]:
    """Return the place of each category once rare ones share the last."""
    mappings = getattr(encoder, "_default_to_infrequent_mappings", None)
    if not _infrequent(encoder, place) or mappings is None or mappings[place] is None:
        return list(range(len(categories)))
    return [int(at) for at in mappings[place]]


def _infrequent(encoder: Any, place: int) -> list[Any]:
    if not getattr(encoder, "_infrequent_enabled", False):
        return []
    found = encoder.infrequent_categories_[place]
    return [] if found is None else list(found)


def _or_none(value: Any) -> float | None:
    return None if value is None or _is_missing(value) else float(value)


def _is_missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and math.isnan(value)) or type(value).__name__ == "NAType"


def _plain(value: Any) -> Category:
    """Return Python's own for a NumPy scalar."""
    plain = value.item() if hasattr(value, "item") else value
    return plain if isinstance(plain, str | bool) else float(plain)


_READERS: Mapping[str, Callable[[Any, list[_Track]], list[_Track]]] = {
    "ColumnTransformer": _column_transformer,
    "CountVectorizer": _vectorizer,
    "FunctionTransformer": _function_transformer,
    "HashingVectorizer": _vectorizer,
    "KBinsDiscretizer": _discretizer,
    "MaxAbsScaler": _max_abs_scaler,
    "MinMaxScaler": _min_max_scaler,
    "MissingIndicator": _missing_indicator,
    "OneHotEncoder": _one_hot_encoder,
    "OrdinalEncoder": _ordinal_encoder,
    "Pipeline": _pipeline,
    "PowerTransformer": _power_transformer,
    "RobustScaler": _robust_scaler,
    "SimpleImputer": _simple_imputer,
    "StandardScaler": _standard_scaler,
    "TargetEncoder": _target_encoder,
    "TfidfVectorizer": _vectorizer,
}


def _fields(names: Sequence[str], tracks: Sequence[_Track]) -> tuple[Field, ...]:
    """Derive the fields: a column whose values are strings, or are nothing but categories, is one of categories."""
    used = {track.column for track in tracks}
    return tuple(_field(name, [track for track in tracks if track.column == name]) for name in names if name in used)


def _field(name: str, tracks: Sequence[_Track]) -> Field:
    if any(isinstance(step, Words) for track in tracks for step in track.steps):
        return Field((name,), FieldKind.TEXT, dtype="bytes")
    needed = any(track.needed for track in tracks)
    closed = any(track.closed for track in tracks)
    plain = Field((name,), FieldKind.NUMBER, required=needed, nullable=not needed)
    categories = _categories(tracks)
    if not any(isinstance(of, str) for of in categories):
        if any(isinstance(of, bool) for of in categories) and (len(categories) == 2 or not closed):
            return replace(plain, kind=FieldKind.BOOLEAN)
        if not all(track.is_coded for track in tracks):
            _check_open(name, tracks)
            return plain
        if not closed:
            return plain
    return replace(plain, kind=FieldKind.CATEGORY, categories=tuple(categories), open=not closed)


def _categories(tracks: Sequence[_Track]) -> list[Category]:
    found: dict[Category, None] = {}
    for step in (step for track in tracks for step in track.steps):
        if isinstance(step, Encode):
            found.update(dict.fromkeys(of for of, _ in step.numbers))
        if isinstance(step, Impute) and step.value is not None:
            found.setdefault(step.value)
    return list(found)


def _check_open(name: str, tracks: Sequence[_Track]) -> None:
    """Refuse an encoder that refuses numbers which it has not seen, where they are not only categories."""
    for track in tracks:
        for before, step in pairwise(track.steps):
            if isinstance(step, Encode) and isinstance(before, Bin) and len(step.numbers) == before.bins:
                track = replace(track, closed=False)
        if track.closed:
            raise ModelLoadError(
                f"an encoder of {name!r} has handle_unknown='error', and the column is a number for other steps: say "
                "'ignore', or give the encoder a column of its own"
            )


def _schema(fields: Sequence[Field]) -> dict[str, Any]:
    properties: dict[str, Any] = {}
    for field in fields:
        if field.kind is FieldKind.CATEGORY:
            properties[field.name] = (
                {"type": ["string", "null"], "x-penstock": {"categories": list(field.categories)}}
                if field.open
                else {"enum": [*field.categories, *([None] if field.nullable else [])]}
            )
        elif field.kind is FieldKind.TEXT:
            properties[field.name] = {"type": "string"}
        else:
            properties[field.name] = {"type": [field.kind.value, "null"] if field.nullable else field.kind.value}
    required = [field.name for field in fields if field.required]
    return {"type": "object", "properties": properties, "required": required, "additionalProperties": False}


def _unique(track: _Track, place: int, tracks: Sequence[_Track]) -> str:
    same = [at for at, other in enumerate(tracks) if other.column == track.column]
    return track.column if len(same) == 1 else f"{track.column} {same.index(place) + 1}"
