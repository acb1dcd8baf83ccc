"""What the resources of registered models share: the way to the registry and to whoever loads what it decides."""

from __future__ import annotations

from collections.abc import Callable, Coroutine, Sequence
from typing import Any, TypeVar, cast

from flask_restful import Resource

from penstock.control.descriptions import version_in_memory, version_registered
from penstock.control.reading import read_name
from penstock.control.state import EngineStats, Lifecycle, RegistrySource, ServerState
from penstock.core.errors import RequestError
from penstock.core.status import ModelStatus, Origin
from penstock.registry.records import CHAMPION, VersionRecord

__all__ = ["RegisteredResource", "latest_of"]

_T = TypeVar("_T")


class RegisteredResource(Resource):  # type: ignore[misc]  # flask_restful has no types
    """A resource that asks the registry. Without one it refuses with the reason (503)."""

    def __init__(self, state: ServerState) -> None:
        self._state = state

    @property
    def _registry(self) -> RegistrySource:
        if self._state.registry is None:
            raise self._unavailable()
        return self._state.registry

    @property
    def _lifecycle(self) -> Lifecycle:
        if self._state.lifecycle is None:
            raise self._unavailable()
        return self._state.lifecycle

    def _call(self, coroutine: Coroutine[Any, Any, _T]) -> _T:
        """Run it on the bridge's loop while other requests go on."""
        if self._state.bridge is None:
            coroutine.close()
            raise self._unavailable()
        return self._state.bridge.call(coroutine)

    def _statuses(self, name: str | None = None) -> list[ModelStatus]:
        """Return what this server has or had in memory, of one model or of all."""
        return [status for status in self._state.models.models() if name in (None, status.config.name)]

    def _records(self, name: str | None = None) -> tuple[list[VersionRecord], str | None]:
        """Return what the registry knows of a model or of all, or why it cannot be asked.

        What is served is shown all the same. A model that the registry does not know has no versions.
        """
        records, failure = self._ask(lambda registry: registry.versions(name))
        return records or [], failure

    def _ask(self, question: Callable[[RegistrySource], Coroutine[Any, Any, _T]]) -> tuple[_T | None, str | None]:
        """Return an answer of the registry, or None and why it cannot be asked."""
        if self._state.registry is None:
            return None, self._state.registry_failure
        try:
            return self._call(question(self._state.registry)), None
        except RequestError as error:
            if error.code == "model_not_found":
                return None, None
            if error.code == "registry_unavailable":
                return None, error.detail
            raise

    def _descriptions(
        self, statuses: Sequence[ModelStatus], records: Sequence[VersionRecord]
    ) -> list[dict[str, object]]:
        """Describe a model's versions: what this server has in memory, then what only the registry knows."""
        rings = (
            {ring["ring"]: ring for ring in cast(EngineStats, self._state.stats.stats())["rings"]} if statuses else {}
        )
        registered = {record.version: record for record in records}
        latest = None if any(status.latest for status in statuses) else latest_of(records)
        return [
            version_in_memory(
                status,
                registered.pop(status.config.version, None),
                None if status.ring is None else rings.get(status.ring),
                self._state.stats.cost,
            )
            for status in statuses
        ] + [version_registered(record, latest=record is latest) for record in registered.values()]

    def _changeable(self, name: str) -> str:
        """Return the name of a model that the registry decides about; `conflict` for one of the configuration."""
        read_name(name, "the model's name")
        if any(status.origin is Origin.CONFIGURATION for status in self._statuses(name)):
            raise RequestError(
                "conflict",
                f"the model {name!r} belongs to this server's configuration, which alone decides about it; "
                "change the configuration and restart, or register under another name",
            )
        return name

    def _unavailable(self) -> RequestError:
        return RequestError("registry_unavailable", f"there is no registry of models: {self._state.registry_failure}")


def latest_of(records: Sequence[VersionRecord]) -> VersionRecord | None:
    """Return which of a model's versions, in ascending order, answers requests that name none: champion, else last."""
    champions = [record for record in records if CHAMPION in record.aliases]
    return champions[0] if champions else records[-1] if records else None
