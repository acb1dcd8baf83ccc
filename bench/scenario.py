"""Scenarios: what is served, what is asked of it, how fast, and what goes wrong meanwhile. One TOML file each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal, TypeAlias

import msgspec
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from bench.models import tree_answers, tree_rows, write_cnn, write_encoder, write_mlp, write_trees
from penstock.core.errors import ConfigError
from penstock.load.corpus import Corpus, Traffic
from penstock.load.dialects import Dialect
from penstock.load.rows import Row, TensorSpec, random_rows

__all__ = ["SCENARIOS", "Prepared", "Scenario", "load_scenario", "open_session", "prepare", "scenario_names"]

SCENARIOS = Path(__file__).with_name("scenarios")


Positive: TypeAlias = Annotated[int, msgspec.Meta(gt=0)]
Widths: TypeAlias = Annotated[tuple[Positive, ...], msgspec.Meta(min_length=2)]
Part: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class Mlp(_Section, frozen=True, tag="mlp", tag_field="kind"):
    """A multilayer perceptron with ReLU and softmax."""

    name: str
    widths: Widths
    copies: Positive = 1  # as many models, name-1, name-2, ..., with weights of their own
    seed: int = 1


class Cnn(_Section, frozen=True, tag="cnn", tag_field="kind"):
    """A small convolutional network over uint8 images."""

    name: str
    size: Positive = 224
    channels: Widths = (16, 32, 64)


class Encoder(_Section, frozen=True, tag="encoder", tag_field="kind"):
    """A transformer encoder over token ids, 0 being padding."""

    name: str
    tokens: Annotated[int, msgspec.Meta(ge=4)] = 64
    width: Positive = 128
    layers: Positive = 2
    words: Annotated[int, msgspec.Meta(ge=2)] = 1000


class Trees(_Section, frozen=True, tag="trees", tag_field="kind"):
    """XGBoost, trained on a data set of scikit-learn's."""

    name: str


Model: TypeAlias = Mlp | Cnn | Encoder | Trees


class Share(_Section, frozen=True):
    """A part of the requests. Without a model, they go to every model in equal parts."""

    model: str = ""
    share: Part = 1.0
    rows: Positive = 1024
    slo_ms: Part | None = None
    zipf: Annotated[float, msgspec.Meta(ge=0)] = (
        0.0  # how unequal the parts are when there are many models: the k-th gets 1 / k ** zipf
    )


class LoadPlan(_Section, frozen=True):
    """How requests arrive. `loads` are parts of the capacity that a closed loop finds first."""

    arrivals: Literal["poisson", "constant", "bursty"] = "poisson"
    loads: tuple[Part, ...] = (0.1, 0.3, 0.5, 0.7, 0.9, 1.0, 1.1)
    connections: Positive = 64
    open_connections: Positive = 256
    depth: Positive = 1


class Disturbance(_Section, frozen=True):
    """What goes wrong while the load runs."""

    kill_worker_every_seconds: Annotated[float, msgspec.Meta(ge=0)] = 0.0
    slow_readers: Annotated[int, msgspec.Meta(ge=0)] = 0


class Scenario(_Section, frozen=True):
    """One scenario."""

    title: str
    about: str
    models: Annotated[tuple[Model, ...], msgspec.Meta(min_length=1)]
    traffic: Annotated[tuple[Share, ...], msgspec.Meta(min_length=1)]
    load: LoadPlan = LoadPlan()
    disturbance: Disturbance = Disturbance()
    serve: tuple[str, ...] = ()  # more flags for `penstock serve`
    rivals: bool = False  # rivals can serve these models
    name: str = ""


@dataclass(frozen=True, slots=True)
class _Made:
    """A model file, its schema, rows for it and the way to the right answers."""

    path: Path
    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    rows: Callable[[int, int], Sequence[Row]]
    answers: Callable[[Sequence[Row]], Sequence[Row]]


@dataclass(frozen=True, slots=True)
class Prepared:
    """A scenario with its models on disk, its rows and the answers to them."""

    scenario: Scenario
    models: Mapping[str, Path]
    _traffic: tuple[tuple[Share, str, float, Sequence[Row], Sequence[Row], tuple[TensorSpec, ...]], ...]

    def corpus(self, dialect: Dialect, *, known: bool = True) -> Corpus:
        """Write the requests in one dialect; without the `known` answers for a server that computes nothing."""
        return Corpus.of(
            [
                Traffic(model, dialect, rows, outputs, share, part.slo_ms, expected if known else None)
                for part, model, share, rows, expected, outputs in self._traffic
            ]
        )


def scenario_names() -> list[str]:
    """Return the scenarios that are there."""
    return sorted(path.stem for path in SCENARIOS.glob("*.toml"))


def load_scenario(name: str) -> Scenario:
    """Read a scenario by its name, or by the path of a file of one's own; ConfigError says what is wrong with it."""
    path = Path(name) if name.endswith(".toml") else SCENARIOS / f"{name}.toml"
    try:
        scenario = msgspec.toml.decode(path.read_bytes(), type=Scenario)
    except FileNotFoundError:
        raise ConfigError(
            f"no scenario {name!r}: there are {', '.join(scenario_names())}, or name a .toml file"
        ) from None
    except msgspec.DecodeError as error:
        raise ConfigError(f"{path}: {error}") from error
    known = {model.name for model in scenario.models}
    if len(known) < len(scenario.models):
        raise ConfigError(f"{path}: two models have the same name")
    for part in scenario.traffic:
        if part.model and part.model not in known:
            raise ConfigError(f"{path}: there is traffic for {part.model!r}, which is no model of the scenario")
    return msgspec.structs.replace(scenario, name=path.stem)


def prepare(scenario: Scenario, folder: Path, seed: int = 1) -> Prepared:
    """Write the scenario's models into `folder` and compute the answers to its rows."""
    made = {name: _MAKERS[type(model)](model, name, folder) for model in scenario.models for name in _names(model)}
    traffic = []
    for part in scenario.traffic:
        models = [name for model in scenario.models for name in _names(model) if part.model in ("", model.name)]
        weights = np.arange(1, len(models) + 1, dtype=float) ** -part.zipf
        for number, (model, weight) in enumerate(zip(models, weights / weights.sum(), strict=True)):
            one = made[model]
            rows = one.rows(part.rows, seed * 1000 + number)
            traffic.append((part, model, part.share * float(weight), rows, one.answers(rows), one.outputs))
    return Prepared(scenario, {name: one.path for name, one in made.items()}, tuple(traffic))


def open_session(path: Path) -> Any:
    """Open an ONNX model as every server here does: one thread, sequential."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


def _names(model: Model) -> list[str]:
    copies = model.copies if isinstance(model, Mlp) else 1
    return [model.name] if copies == 1 else [f"{model.name}-{number}" for number in range(1, copies + 1)]


def _onnx(path: Path, inputs: TensorSpec, outputs: TensorSpec, rows: Callable[[int, int], Sequence[Row]]) -> _Made:
    def answers(asked: Sequence[Row]) -> Sequence[Row]:
        session = open_session(path)
        return [{outputs.name: session.run(None, {inputs.name: row[inputs.name][None]})[0][0]} for row in asked]

    return _Made(path, (inputs,), (outputs,), rows, answers)


def _make_mlp(model: Mlp, name: str, folder: Path) -> _Made:
    seed = model.seed + int(name.rpartition("-")[2] if model.copies > 1 else 0)
    path = write_mlp(folder / f"{name}.onnx", model.widths, seed)
    x, y = TensorSpec("x", "float32", model.widths[:1]), TensorSpec("y", "float32", model.widths[-1:])
    return _onnx(path, x, y, lambda count, seed: random_rows([x], count, seed))


def _make_cnn(model: Cnn, name: str, folder: Path) -> _Made:
    path = write_cnn(folder / f"{name}.onnx", model.size, model.channels)
    image = TensorSpec("image", "uint8", (model.size, model.size, 3))
    return _onnx(path, image, TensorSpec("y", "float32", (10,)), lambda count, seed: random_rows([image], count, seed))


def _make_encoder(model: Encoder, name: str, folder: Path) -> _Made:
    path = write_encoder(folder / f"{name}.onnx", model.tokens, model.width, model.layers, model.words)

    def rows(count: int, seed: int) -> Sequence[Row]:
        """Texts of 4 words up to all tokens, padded with 0."""
        generator = np.random.default_rng(seed)
        ids: NDArray[np.int64] = generator.integers(1, model.words, (count, model.tokens))
        lengths = generator.integers(4, model.tokens + 1, (count, 1))
        return [{"ids": row} for row in np.where(np.arange(model.tokens) < lengths, ids, 0)]

    ids = TensorSpec("ids", "int64", (model.tokens,))
    return _onnx(path, ids, TensorSpec("y", "float32", (model.width,)), rows)


def _make_trees(model: Trees, name: str, folder: Path) -> _Made:
    path = write_trees(folder / name)

    def answers(asked: Sequence[Row]) -> Sequence[Row]:
        found = tree_answers(path, np.stack([row["features"] for row in asked]))
        return [{"probability": np.asarray(answer)} for answer in found]

    return _Made(
        path,
        (TensorSpec("features", "float32", (30,)),),
        (TensorSpec("probability", "float32", ()),),
        lambda count, seed: [{"features": row} for row in tree_rows(count, seed)],
        answers,
    )


_MAKERS: Mapping[type, Callable[[Any, str, Path], _Made]] = {
    Mlp: _make_mlp,
    Cnn: _make_cnn,
    Encoder: _make_encoder,
    Trees: _make_trees,
}
