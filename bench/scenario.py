"""Scenarios: what is served, what is asked of it, how fast, and what goes wrong meanwhile. One TOML file each."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from math import inf
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import onnxruntime
from numpy.typing import NDArray

from bench.models import (
    AFFINE_WIDTH,
    PLANNED_WIDTHS,
    affine_answers,
    planned_answers,
    planned_rows,
    tree_answers,
    tree_rows,
    write_affine,
    write_cnn,
    write_encoder,
    write_mlp,
    write_planned,
    write_trees,
)
from bench.sections import Affine, Cnn, Disturbance, Encoder, LoadPlan, Mlp, Planned, Scenario, Share, Trees, names
from bench.theory import Lane, rotation
from penstock.core.errors import ConfigError
from penstock.load.corpus import Corpus, Traffic
from penstock.load.dialects import Dialect
from penstock.load.rows import Row, TensorSpec, random_rows

__all__ = [
    "SCENARIOS",
    "Disturbance",
    "LoadPlan",
    "Prepared",
    "Scenario",
    "load_scenario",
    "open_session",
    "prepare",
    "scenario_names",
]

SCENARIOS = Path(__file__).with_name("scenarios")


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
                Traffic(
                    model,
                    dialect,
                    rows,
                    outputs,
                    share,
                    part.slo_ms,
                    expected if known else None,
                    tuple(part.headers.items()),
                    part.name,
                    part.arrivals or "",
                )
                for part, model, share, rows, expected, outputs in self._traffic
            ]
        )

    @property
    def lanes(self) -> list[Lane]:
        """The models as devices, when all are affine; else none. A model's limit is that of its strictest traffic."""
        devices = {name: model for model in self.scenario.devices for name in names(model)}
        total = sum(share for _, _, share, *_ in self._traffic)
        found = []
        for name, device in devices.items():
            parts = [(part, share) for part, model, share, *_ in self._traffic if model == name]
            limit = min((part.slo_ms or inf for part, _ in parts), default=inf)
            found.append(Lane(device.a_us / 1e6, device.c_us / 1e6, limit / 1e3, sum(s for _, s in parts) / total))
        return found

    @property
    def full_rate(self) -> float | None:
        """What loads are parts of (LoadPlan); None when only a closed loop can tell."""
        if self.scenario.traffic[0].rate is not None:
            return sum(share for _, _, share, *_ in self._traffic)
        return rotation(self.lanes) if self.lanes else None


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
    rated = sum(part.rate is not None for part in scenario.traffic)
    if rated not in (0, len(scenario.traffic)):
        raise ConfigError(f"{path}: give a rate to every part of the traffic, or to none")
    return msgspec.structs.replace(scenario, name=path.stem)


def prepare(scenario: Scenario, folder: Path, seed: int = 1) -> Prepared:
    """Write the scenario's models into `folder` and compute the answers to its rows."""
    made = {name: _MAKERS[type(model)](model, name, folder) for model in scenario.models for name in names(model)}
    traffic = []
    for part in scenario.traffic:
        models = [name for model in scenario.models for name in names(model) if part.model in ("", model.name)]
        weights = np.arange(1, len(models) + 1, dtype=float) ** -part.zipf
        for number, (model, weight) in enumerate(zip(models, weights / weights.sum(), strict=True)):
            one = made[model]
            rows = one.rows(part.rows, seed * 1000 + number)
            traffic.append(
                (part, model, (part.rate or part.share) * float(weight), rows, one.answers(rows), one.outputs)
            )
    return Prepared(scenario, {name: one.path for name, one in made.items()}, tuple(traffic))


def open_session(path: Path) -> Any:
    """Open an ONNX model as every server here does: one thread, sequential."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


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


def _make_planned(model: Planned, name: str, folder: Path) -> _Made:
    path = write_planned(folder / name, record=model.record)
    outputs = (TensorSpec("label", "str", ()), TensorSpec("confidence", "float32", ()))
    x = TensorSpec("x", "float32", PLANNED_WIDTHS[:1])
    rows = planned_rows if model.record else lambda count, seed: random_rows([x], count, seed)
    return _Made(path, (x,), outputs, rows, planned_answers)


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


def _make_affine(model: Affine, name: str, folder: Path) -> _Made:
    x, y = (TensorSpec(which, "float32", (AFFINE_WIDTH,)) for which in ("x", "y"))
    path = write_affine(folder / f"{name}.py", model.a_us, model.c_us)
    return _Made(path, (x,), (y,), lambda count, seed: random_rows([x], count, seed), affine_answers)


_MAKERS: Mapping[type, Callable[[Any, str, Path], _Made]] = {
    Mlp: _make_mlp,
    Planned: _make_planned,
    Cnn: _make_cnn,
    Encoder: _make_encoder,
    Trees: _make_trees,
    Affine: _make_affine,
}
