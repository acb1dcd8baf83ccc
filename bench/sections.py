"""What a scenario's TOML file may say."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal, TypeAlias

import msgspec

__all__ = ["Affine", "Cnn", "Disturbance", "Encoder", "LoadPlan", "Mlp", "Model", "Scenario", "Share", "Trees", "names"]

Positive: TypeAlias = Annotated[int, msgspec.Meta(gt=0)]
Widths: TypeAlias = Annotated[tuple[Positive, ...], msgspec.Meta(min_length=2)]
Part: TypeAlias = Annotated[float, msgspec.Meta(gt=0)]
Arrivals: TypeAlias = Literal["poisson", "constant", "bursty", "pulsed"]


class _Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    pass


class _Model(_Section, frozen=True):
    """What every model has. `serve` are its settings in the server (docs/configuration.md)."""

    name: str
    serve: dict[str, Any] = {}


class Mlp(_Model, frozen=True, tag="mlp", tag_field="kind", kw_only=True):
    """A multilayer perceptron with ReLU and softmax."""

    widths: Widths
    copies: Positive = 1  # as many models, name-1, name-2, ..., with weights of their own
    seed: int = 1


class Planned(_Model, frozen=True, tag="planned", tag_field="kind", kw_only=True):
    """The perceptron of W1 behind a plan: a label comes out, and with `record` 20 mixed fields go in."""

    record: bool = True


class Cnn(_Model, frozen=True, tag="cnn", tag_field="kind", kw_only=True):
    """A small convolutional network over uint8 images."""

    size: Positive = 224
    channels: Widths = (16, 32, 64)


class Encoder(_Model, frozen=True, tag="encoder", tag_field="kind", kw_only=True):
    """A transformer encoder over token ids, 0 being padding."""

    tokens: Annotated[int, msgspec.Meta(ge=4)] = 64
    width: Positive = 128
    layers: Positive = 2
    words: Annotated[int, msgspec.Meta(ge=2)] = 1000


class Trees(_Model, frozen=True, tag="trees", tag_field="kind", kw_only=True):
    """XGBoost, trained on a data set of scikit-learn's."""


class Affine(_Model, frozen=True, tag="affine", tag_field="kind", kw_only=True):
    """A simulated device that is busy for a + c * b with a batch of b rows."""

    a_us: Part
    c_us: Part
    copies: Positive = 1


Model: TypeAlias = Mlp | Planned | Cnn | Encoder | Trees | Affine


class Share(_Section, frozen=True):
    """A part of the requests. Without a model, they go to every model in equal parts.

    `rate` in requests per second stands in the place of shares, in all parts or in none; `arrivals` in the place of the
    load's, and then the parts arrive independently of each other.
    """

    model: str = ""
    name: str = ""
    share: Part = 1.0
    rate: Part | None = None
    arrivals: Arrivals | None = None
    headers: dict[str, str] = {}
    rows: Positive = 1024
    slo_ms: Part | None = None
    zipf: Annotated[float, msgspec.Meta(ge=0)] = (
        0.0  # how unequal the parts are when there are many models: the k-th gets 1 / k ** zipf
    )


class LoadPlan(_Section, frozen=True):
    """How requests arrive.

    `loads` are parts of what the traffic's `rate`s sum up to, if it has them; else, when every model is affine, of the
    bound that follows from the models and limits; else of what a closed loop finds first. Bursty arrivals stay
    `dwell_ms` in each state.
    """

    arrivals: Arrivals = "poisson"
    dwell_ms: Part = 200.0
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
    server: dict[str, Any] = {}  # settings of the server
    rivals: bool = False  # rivals can serve these models
    name: str = ""

    @property
    def devices(self) -> tuple[Affine, ...]:
        """The models, when all are affine; else none."""
        found = tuple(model for model in self.models if isinstance(model, Affine))
        return found if len(found) == len(self.models) else ()

    @property
    def settings(self) -> dict[str, dict[str, Any]]:
        """The settings of each model in the server."""
        return {name: model.serve for model in self.models for name in names(model)}

    def with_serve(self, change: Callable[[Model], dict[str, Any]], **server: Any) -> Scenario:
        """Return the scenario with changed settings of its models and of the server; None takes one away."""
        models = tuple(
            msgspec.structs.replace(model, serve=_without_none({**model.serve, **change(model)}))
            for model in self.models
        )
        return msgspec.structs.replace(self, models=models, server={**self.server, **server})


def _without_none(settings: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in settings.items() if value is not None}


def names(model: Model) -> list[str]:
    """Return what its copies are called."""
    copies = model.copies if isinstance(model, Mlp | Affine) else 1
    return [model.name] if copies == 1 else [f"{model.name}-{number}" for number in range(1, copies + 1)]
