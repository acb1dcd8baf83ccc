"""Which names lead to which model versions, as the data plane is told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeAlias

from penstock.serve.served_model import ServedModel
from penstock.serve.worker_group import WorkerGroup

__all__ = ["Published", "Route", "published"]

# Model, version or alias, ring (None: not in memory), whether it answers requests without a version, whether it takes
# requests, whether a request has it loaded.
Published: TypeAlias = tuple[str, str, int | None, bool, bool, bool]


@dataclass(frozen=True, slots=True)
class Route:
    """A name of a version of a model: the version's own, or an alias.

    `latest`: requests that name no version go there. `lazy`: if the version is not in memory, a request for it has it
    loaded.
    """

    model: str
    name: str
    version: str
    latest: bool = False
    lazy: bool = False


def published(groups: Iterable[WorkerGroup], routes: Sequence[Route]) -> list[Published]:
    """Return the whole table: models of the configuration under their own names, others as `routes` say."""
    held = [(group, model) for group in groups for model in group.models]
    table: list[Published] = [
        (model.config.name, model.config.version, model.ring, model.latest, group.available(model), False)
        for group, model in held
        if group.served and model.ring is not None and not group.comes_and_goes
    ]
    added = {(model.config.name, model.config.version): (group, model) for group, model in held if group.comes_and_goes}
    table += _of_routes(added, routes)
    return table


def _of_routes(
    added: dict[tuple[str, str], tuple[WorkerGroup, ServedModel]], routes: Sequence[Route]
) -> Iterator[Published]:
    for route in routes:
        group, model = added.get((route.model, route.version), (None, None))
        if group is None or model is None or model.ring is None or not group.started or group.retiring:
            yield route.model, route.name, None, route.latest, False, route.lazy
        else:
            yield route.model, route.name, model.ring, route.latest, group.available(model), False
