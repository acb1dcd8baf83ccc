"""What the registry wants of one model, and the routes that follow from it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from penstock.registry.records import CHAMPION, Wanted, WantedMode
from penstock.registry.versions import version_key
from penstock.serve.routes import Route

__all__ = ["ModelView", "routes_of", "views_of"]


@dataclass(frozen=True, slots=True)
class ModelView:
    """A model's aliases, and its versions that are wanted. A model of which nothing is wanted has no routes."""

    name: str
    aliases: Mapping[str, str] = field(default_factory=dict)
    loaded: frozenset[str] = frozenset()
    lazy: frozenset[str] = frozenset()

    @property
    def wanted(self) -> frozenset[str]:
        """Versions that requests may ask for."""
        champion = self.aliases.get(CHAMPION)
        wanted = self.loaded | self.lazy
        return wanted | {champion} if wanted and champion is not None else wanted

    @property
    def to_load(self) -> frozenset[str]:
        """Versions that are to be in memory: of a model that is served, the champion always is."""
        return self.wanted - self.lazy

    @property
    def latest(self) -> str | None:
        """The version that answers requests which name none: the champion, else the highest that is wanted."""
        champion = self.aliases.get(CHAMPION)
        if not self.wanted:
            return None
        return champion if champion is not None else max(self.wanted, key=version_key)


def views_of(wanted: Iterable[Wanted], aliases: Mapping[str, Mapping[str, str]]) -> dict[str, ModelView]:
    """Return the view of each model of which something is wanted; `aliases` by model."""
    loaded: dict[str, set[str]] = {}
    lazy: dict[str, set[str]] = {}
    for each in wanted:
        into = lazy if each.mode is WantedMode.LAZY else loaded
        into.setdefault(each.model, set()).add(each.version)
    return {
        name: ModelView(name, aliases.get(name, {}), frozenset(loaded.get(name, ())), frozenset(lazy.get(name, ())))
        for name in sorted(loaded.keys() | lazy.keys())
    }


def routes_of(view: ModelView, answering: str | None) -> list[Route]:
    """Return the routes of a model.

    `answering` is the version for requests that name none: it stays the one before until its successor is ready.
    """
    versions = sorted(view.wanted if answering is None else view.wanted | {answering}, key=version_key)
    routes = [
        Route(view.name, version, version, latest=version == answering, lazy=version in view.lazy)
        for version in versions
    ]
    # An alias that has moved leads where it led, as long as the version it leads to now is not there.
    routes += [
        Route(view.name, alias, target, lazy=target in view.lazy)
        for alias, version in sorted(view.aliases.items())
        if version in versions
        for target in (answering if alias == CHAMPION and answering is not None else version,)
    ]
    return routes
